"""Models against the density of data: what is asked of runs, and what a report shows of it."""

from itertools import combinations

import pandas as pd
import pytest
from reports_helpers import NDCG, RATED, SIZES, put

from recbole_dgrm.reports import densities, figures
from recbole_dgrm.reports.benchmark_report import write_report
from recbole_dgrm.reports.densities import QUESTIONS, density_answers
from recbole_dgrm.reports.statistics import summarise

REFERENCE = {
    "random": {NDCG: 0.25, "rmse": 2.0},
    "bias": {NDCG: 0.5, "rmse": 1.0},
    "oracle": {NDCG: 0.75, "rmse": 0.0},
}


def verdict(status: str) -> dict:
    content = {"status": status, "reason": "", "epoch": 1, "since": None, "training": "", "passing": []}
    lists = {"n": 5, "users": 30, "of_users": 30, "gini": 0.5, "entropy": 1.0}
    lists |= {"distinct": 0.4, "rankings": 0.4, "items": 0.1}
    return {"verdict": content, "distribution": {"between_users": 0.25, "lists": lists}}


def fill(folder, shares=(1.0, 0.5, 0.1), rmse: float = 0.9, label: str = "A", ratingkl: float = 0.2) -> None:
    for share in shares:
        for seed in (1, 2):
            put(
                folder,
                label,
                seed,
                {**RATED, "known_share": share},
                {**SIZES, "n_train": int(60 * share), "fingerprint": f"{share} {seed}"},
                test={NDCG: 0.6, "rmse": rmse + 0.1 * seed, "ratingkl": ratingkl},
                vectors={},
                reference=REFERENCE,
                diagnosis=verdict("collapsed" if share == 0.1 and seed == 2 else "intact"),
            )


@pytest.mark.parametrize("shares", [(0.5,), (1.0, 0.5)])
def test_a_part_of_a_data_set_is_named_as_one_also_without_the_whole(tmp_path, shares):
    fill(tmp_path, shares)
    named = {cell.distinction: cell.name for cell in summarise(tmp_path).cells}
    assert "(known_share=0.5)" in named["known_share=0.5"]
    assert len(named) == len(shares)


def test_a_whole_data_set_needs_no_word_more(tmp_path):
    fill(tmp_path, (1.0,))
    assert [cell.distinction for cell in summarise(tmp_path).cells] == [""]


def test_the_answers_are_distances_to_the_means_on_the_same_data(tmp_path):
    fill(tmp_path)
    table = density_answers(summarise(tmp_path).cells).set_index(["density", "question"])["mean"].unstack()
    assert table.index.tolist() == pytest.approx([1.0, 5.0, 10.0])  # per cent of 30 x 20 pairs, the sparsest first
    expected = {"rmse": -5, "ranking": 20, "ratingkl": 0.2, "between_users": 25, "lists": 40, "items": 10}
    for name, value in expected.items():
        assert table[name].tolist() == pytest.approx([value] * 3), name


def test_two_densities_have_no_figure(tmp_path):
    fill(tmp_path, (1.0, 0.5))
    assert density_answers(summarise(tmp_path).cells).empty
    write_report(tmp_path, tmp_path)
    assert not (tmp_path / "densities.csv").exists()


def test_a_report_has_a_figure_and_a_table_per_question(tmp_path):
    fill(tmp_path)
    write_report(tmp_path, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "## Against density, rated" in text
    assert text.count("[start:board-rated]") == 1  # the whole data set, not its parts
    assert "![RMSE below that of user + item means, rated](figures/density-rated-rmse.png)" in text
    assert "| A | −5.0 ± 7.1 × 1/2 | −5.0 ± 7.1 | −5.0 ± 7.1 |" in text
    for name in ("rmse", "ranking", "ratingkl", "between_users", "lists", "items"):
        assert (tmp_path / "figures" / f"density-rated-{name}.svg").stat().st_size > 1000
    written = pd.read_csv(tmp_path / "densities.csv")
    assert written.groupby("density")["collapsed"].first().tolist() == [1, 0, 0]


def drawn(folder, monkeypatch, question: str = "rmse"):
    """The figure of a question of the runs in ``folder``, with its layout."""
    answers = density_answers(summarise(folder).cells)
    caught: list = []
    monkeypatch.setattr(figures, "save", lambda figure, path: caught.append(figure))
    (asked,) = (each for each in QUESTIONS if each.name == question)
    densities.draw(answers[answers["question"] == question], asked, folder / "figure")
    caught[0].draw_without_rendering()
    return caught[0]


@pytest.mark.parametrize(("question", "beyond"), [("ratingkl", True), ("rmse", True), ("lists", False)])
def test_a_value_far_from_all_others_is_an_arrow_unless_the_quantity_has_an_end(
    tmp_path, monkeypatch, question, beyond
):
    for number in range(5):
        fill(tmp_path, label=f"A{number}")
    fill(tmp_path, label="far", rmse=90.0, ratingkl=20.0)
    axes = next(axes for axes in drawn(tmp_path, monkeypatch, question).axes if axes.get_title() == "far")
    assert any(line.get_marker() in "^v" for line in axes.lines if line.get_marker()) == beyond
    assert axes.get_ylim()[1] < 100


def test_a_model_of_one_density_does_not_take_the_others_off_the_axis(tmp_path, monkeypatch):
    fill(tmp_path)
    fill(tmp_path, (1.0,), label="B")
    panels = [axes for axes in drawn(tmp_path, monkeypatch).axes if axes.title.get_text()]
    assert [axes.title.get_text() for axes in panels] == ["A", "B"]
    for axes in panels:
        low, high = axes.get_xlim()
        assert low < 1
        assert high > 10


def test_long_names_above_panels_cover_nothing(tmp_path, monkeypatch):
    for number in range(4):
        fill(tmp_path, label=f"DGRM of residuals, tuned, without critic {number}")
    figure = drawn(tmp_path, monkeypatch)
    texts = [axes.title for axes in figure.axes if axes.title.get_text()]
    assert len(texts) == 4
    boxes = [text.get_window_extent() for text in [*texts, figure._supylabel]]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
