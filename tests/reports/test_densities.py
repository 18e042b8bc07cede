"""Models against the density of data: what is asked of runs, and what a report shows of it."""

from itertools import combinations

import pytest
from reports_helpers import NDCG, RATED, REFERENCE, SIZES, drawn, put, report_text

from recbole_dgrm.reports import densities
from recbole_dgrm.reports.densities import QUESTIONS, density_answers
from recbole_dgrm.reports.statistics import summarise

BOTH = {name: {**row, "rmse": rmse} for (name, row), rmse in zip(REFERENCE.items(), (2.0, 1.0, 0.0), strict=True)}


def verdict(status: str) -> dict:
    content = {"status": status, "reason": "", "epoch": 1, "since": None, "training": "", "passing": []}
    lists = {"n": 5, "users": 30, "of_users": 30, "gini": 0.5, "entropy": 1.0}
    lists |= {"distinct": 0.4, "rankings": 0.4, "items": 0.1}
    return {"verdict": content, "distribution": {"between_users": 0.25, "lists": lists}}


def fill(folder, shares=(1.0, 0.5, 0.1), rmse: float = 0.9, label: str = "A", ratingkl: float = 0.2) -> None:
    for share in shares:
        for seed in (1, 2):
            data = {**SIZES, "n_train": int(60 * share), "fingerprint": f"{share} {seed}"}
            test = {NDCG: 0.6, "rmse": rmse + 0.1 * seed, "ratingkl": ratingkl}
            found = verdict("collapsed" if share == 0.1 and seed == 2 else "intact")
            fields = {"test": test, "vectors": {}, "reference": BOTH, "diagnosis": found}
            put(folder, label, seed, {**RATED, "known_share": share}, data, **fields)


@pytest.mark.parametrize("shares", [(1.0,), (0.5,), (1.0, 0.5)])
def test_a_part_of_a_data_set_is_named_as_one_also_without_the_whole(tmp_path, shares):
    fill(tmp_path, shares)
    cells = summarise(tmp_path).cells
    whole = "known_share=1" if len(shares) > 1 else ""
    assert {cell.distinction for cell in cells} == {whole if share == 1 else "known_share=0.5" for share in shares}
    assert all(f"({cell.distinction})" in cell.name for cell in cells if cell.distinction)
    assert density_answers(cells).empty  # too few for a figure
    assert "Against density" not in report_text(tmp_path)


def test_a_report_has_a_figure_and_a_table_per_question(tmp_path):
    fill(tmp_path)
    text = report_text(tmp_path)
    assert "## Against density, rated" in text
    assert text.count("[start:board-rated]") == 1  # the whole data set, not its parts
    assert "![RMSE below that of user + item means, rated](figures/density-rated-rmse.png)" in text
    assert "| A | −5.0 ± 7.1 × 1/2 | −5.0 ± 7.1 | −5.0 ± 7.1 |" in text
    table = density_answers(summarise(tmp_path).cells).set_index(["density", "question"])
    assert table["collapsed"].groupby("density").first().tolist() == [1, 0, 0]
    means = table["mean"].unstack()
    assert means.index.tolist() == pytest.approx([1.0, 5.0, 10.0])  # per cent of 30 x 20 pairs, the sparsest first
    # distances to the means on the same data
    expected = {"rmse": -5, "ranking": 20, "ratingkl": 0.2, "between_users": 25, "lists": 40, "items": 10}
    for name, value in expected.items():
        assert means[name].tolist() == pytest.approx([value] * 3), name
        assert f"(figures/density-rated-{name}.png)" in text


def drawn_from(folder, *questions: str) -> list:
    """The figures of some questions of the runs in ``folder``."""
    answers, asked = density_answers(summarise(folder).cells), {each.name: each for each in QUESTIONS}
    return [drawn(densities.draw, answers[answers["question"] == name], asked[name]) for name in questions]


def test_a_value_far_from_all_others_is_an_arrow_unless_the_quantity_has_an_end(tmp_path):
    for number in range(5):
        fill(tmp_path, label=f"A{number}")
    fill(tmp_path, label="far", rmse=90.0, ratingkl=20.0)
    fill(tmp_path, (1.0,), label="B")  # it does not take the other densities off the axis
    figures = drawn_from(tmp_path, "ratingkl", "rmse", "lists")
    for figure, beyond in zip(figures, (True, True, False), strict=True):
        axes = next(axes for axes in figure.axes if axes.get_title() == "far")
        assert any(line.get_marker() in "^v" for line in axes.lines if line.get_marker()) == beyond
        assert axes.get_ylim()[1] < 100
        low, high = next(axes for axes in figure.axes if axes.get_title() == "B").get_xlim()
        assert low < 1
        assert high > 10


def test_long_names_above_panels_cover_nothing(tmp_path):
    for number in range(4):
        fill(tmp_path, label=f"DGRM of residuals, tuned, without critic {number}")
    (figure,) = drawn_from(tmp_path, "rmse")
    texts = [axes.title for axes in figure.axes if axes.title.get_text()]
    assert len(texts) == 4
    boxes = [text.get_window_extent() for text in [*texts, figure._supylabel]]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
