"""What a report says of noisy metrics, models below the means, groups of users, and standard deviations."""

from pathlib import Path

import pytest
from reports_helpers import NDCG, RATED, REFERENCE, draw, only_cell, put, report_text

from recbole_dgrm.evaluation.calibration import NOMINAL
from recbole_dgrm.records import read_run
from recbole_dgrm.reports import calibration
from recbole_dgrm.reports.benchmark_report import results_frame
from recbole_dgrm.reports.result_tables import result_table
from recbole_dgrm.reports.run_table import explanation
from recbole_dgrm.reports.sentences import headline, worse_than_bias
from recbole_dgrm.reports.statistics import summarise

AUTO = {**RATED, "valid_metric": "auto"}
TITLE = "Uncertainty of the predictions"


def resolution(ratio: float, **others: float) -> dict:
    ratios = {NDCG: ratio, **others}
    return {"test": {metric: {"ratio": value, "users": 40, "of": 1000} for metric, value in ratios.items()}}


def put_pair(folder, **fields) -> None:
    """Two models; A has the better ranking, B the better RMSE."""
    reference = {name: {NDCG: value[NDCG], "rmse": 0.5} for name, value in REFERENCE.items()}
    reference["oracle"]["rmse"] = 0.0
    for label, ndcg, rmse in [("A", 0.6, 0.9), ("B", 0.55, 0.4)]:
        test = {NDCG: ndcg, "rmse": rmse}
        put(folder, label, vectors={NDCG: draw(label, 1)}, test=test, reference=reference, **fields)


@pytest.mark.parametrize(("ratios", "noisy"), [((20.0, 24.0), True), ((40.0, 44.0), False)])
def test_of_a_metric_that_is_too_noisy_no_row_is_best_and_the_note_names_it(tmp_path, ratios, noisy):
    for seed, ratio in zip((1, 2, 3), (*ratios, sum(ratios) / 2), strict=True):
        for label in ("A", "B"):
            put(tmp_path, label, seed, resolution=resolution(ratio))
    cell = only_cell(tmp_path)
    table = result_table(cell)
    assert any(row[1].emphasis for row in table.rows) != noisy
    assert [value.text for value in table.quiet[-1]] == ["resolution", f"{sum(ratios) / 2:.0f}", ""]
    said = f"RatedNDCG@5 (resolution {sum(ratios) / 2:.0f}; a model can change it for 40 of 1,000 users) is too noisy"
    assert (said in table.note) == (said in headline(cell)) == noisy


def test_headline_marks_and_remarks_are_about_precise_metrics(tmp_path):
    below = "Worse than user + item means in RMSE: A."
    for name, fields, headline_start, remarks in (
        ("sharp", {"resolution": resolution(40, rmse=90)}, "A and B are level in RatedNDCG@5", [below]),
        ("noisy", {"resolution": resolution(20, rmse=90)}, "in RMSE nothing is tested", [below]),
        ("noisy rmse", {"resolution": resolution(40, rmse=20)}, "A and B are level in RatedNDCG@5", []),
        ("old", {}, "A and B are level in RatedNDCG@5", [below]),  # records without a resolution
    ):
        put_pair(tmp_path / name, **fields)
        cell = only_cell(tmp_path / name)
        assert headline(cell).startswith(headline_start)
        assert worse_than_bias(cell) == remarks
        table = result_table(cell)
        assert table.rows[0][1].emphasis == ("" if name == "noisy" else "level")
        assert ("too noisy" in table.note) == ("noisy" in name)
        assert any(row[0].text == "resolution" for row in table.quiet) == (name != "old")


def test_a_report_has_it_all_and_the_resolution_by_metric(tmp_path):
    put_pair(tmp_path, resolution=resolution(20, rmse=90))
    text = report_text(tmp_path)
    for words in ("Worse than user + item means in RMSE: A.", "too noisy to compare models", "resolution of 28 on"):
        assert words in text
    table = results_frame(summarise(tmp_path)).set_index(["model", "metric"])
    assert table.loc[("A", NDCG), "resolution"] == table.loc[("random", NDCG), "resolution"] == 20


def test_what_was_selected_by_one_metric_is_one_row_whatever_was_asked_and_others_say_so(tmp_path):
    asked, auto, other = (tmp_path / name for name in ("asked", "auto", "other"))
    put(asked, "A", 1, config={**RATED, "valid_metric": "RatedNDCG@5"})
    put(asked, "A", 2, config=AUTO, selected_by="RatedNDCG@5")
    assert [(row.label, row.seeds) for row in only_cell(asked).rows] == [("A", [1, 2])]
    put(asked, "A", 3, config=AUTO, selected_by="RMSE")
    labels = [row.label for row in only_cell(asked).rows]
    assert labels == ["A (valid_metric=RMSE)", "A (valid_metric=RatedNDCG@5)"]
    for label, metric in (("A", "RatedNDCG@5"), ("B", "RMSE")):
        put(auto, label, config=AUTO, selected_by="RMSE")
        put(other, label, config=AUTO, selected_by=metric)
    names = [[row[0].text for row in result_table(only_cell(folder)).rows] for folder in (auto, other)]
    assert names == [["A", "B"], ["A (valid_metric=RatedNDCG@5)", "B (valid_metric=RMSE)"]]


@pytest.mark.parametrize(("rmse", "marks"), [(0.9, ("▲", 0)), (1.1, ("", 1))])
def test_a_row_that_is_better_by_user_has_no_mark_at_a_number_that_is_worse(tmp_path, rmse, marks):
    errors = draw("errors", 1)
    put(tmp_path, "A", vectors={"rmse": errors}, test={"rmse": 1.0}, reference={})
    put(tmp_path, "B", vectors={"rmse": errors - 0.1}, test={"rmse": rmse}, reference={})
    table = result_table(only_cell(tmp_path, "A"))
    assert ({row[0].text: row[1].mark for row in table.rows}["B"], table.note.count("Not marked in RMSE")) == marks


def grouped(value: float, bias: float = 0.4) -> dict:
    def users(low: float) -> list[dict]:
        return [{"least": 0, "most": 5, "n": 10, NDCG: low}, {"least": 201, "most": None, "n": 20, NDCG: low / 2}]

    items = [{"least": 6, "most": 20, "n": 1200, "rmse": value, "mae": 1.0}]
    only_bias = {"least": 21, "most": 50, "n": 1, NDCG: bias}
    return {
        "users": {"model": users(value), "bias": [*users(bias), only_bias]},
        "items": {"model": items, "bias": items},
    }


def lines(text: str, title: str) -> list[str]:
    part = text.split(f"**{title}")[1].split("\n\n")[1]
    return [part.splitlines()[0], *part.splitlines()[2:]]


def test_a_report_shows_groups_as_means_over_seeds(tmp_path):
    for seed, value in ((1, 0.5), (2, 0.7)):
        put(tmp_path, "A", seed, groups=grouped(value))
        put(tmp_path, "B", seed, groups=grouped(0.5))
    put(tmp_path, "old", 1)
    text = report_text(tmp_path)
    assert lines(text, "Users by their ratings in training: RatedNDCG@5 ↑, board, rated") == [
        "|  | 0 to 5 (10) | 201 or more (20) |",
        "| user + item means | 0.400 | 0.200 |",
        "| A | 0.600 | 0.300 |",
        "| B | 0.500 | 0.250 |",
    ]
    items = lines(text, "Items by their ratings in training: RMSE ↓, board, rated")
    assert items[0] == "|  | 6 to 20 (1,200) |"
    assert items[-2:] == ["| A | 0.600 |", "| B | 0.500 |"]
    assert "Users by their ratings in training: RMSE" not in text


def gaussians(crps: float, factor: float = 1.0, **changed) -> dict:
    """What is found of a model whose intervals cover ``factor`` times what they promise."""
    found = {"n": 100, "deviation": 0.9, "crps": crps, "log_score": 1.3, "rank_correlation": 0.2, "bins": []}
    return {**found, "nominal": list(NOMINAL), "observed": [min(1.0, factor * each) for each in NOMINAL], **changed}


def put_uncertain(folder: Path, label: str, seed: int = 1, means: float = 0.5, **found) -> Path:
    usual = gaussians(means, rank_correlation=None)
    return put(folder, label, seed, diagnosis={"calibration": {"model": gaussians(**found), "means": usual}})


def test_a_report_has_a_table_and_a_figure_about_standard_deviations(tmp_path):
    for seed, crps in ((1, 0.4), (2, 0.42)):
        put_uncertain(tmp_path, "A", seed, crps=crps)
        put_uncertain(tmp_path, "B", seed, crps=0.7, factor=0.25, log_score=None)
        put(tmp_path, "C", seed)
    part = report_text(tmp_path).split(f"## {TITLE}")[1]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    assert lines == [
        "| a Gaussian around user + item means | 50.0% | 90.0% | 0.500 | 1.300 | – |",
        "| A | 50.0% | 90.0% | **0.410** | 1.300 | 0.200 |",
        "| B | 12.5% | 22.5% | 0.700 | ∞ | 0.200 |",
    ]
    assert part.index("an overconfident model") < part.index("| A |")
    assert "some standard deviations are 0" in part
    assert "](figures/board-rated-coverage.png)" in part
    cell = only_cell(tmp_path)  # means over the seeds that have it
    assert (calibration.by_row(cell)["A"]["crps"], calibration.of_means(cell)["crps"]) == pytest.approx((0.41, 0.5))
    assert calibration.covered(calibration.by_row(cell)["B"], 0.9) == pytest.approx(0.225)
    put(tmp_path / "without", "C", diagnosis={"seconds": 1.0})
    assert TITLE not in report_text(tmp_path / "without")


def test_the_table_of_a_run_ends_with_a_line_about_it(tmp_path):
    timing = {"train_s": 1.0, "best_epoch": 1, "epochs": 2}
    line = "its 90 % intervals cover 90.0 %, CRPS 0.4000 (a Gaussian around user + item means: 90.0 %, CRPS 0.5000)"
    record = read_run(put_uncertain(tmp_path, "A", crps=0.4)).record | {"timing": timing}
    assert line in explanation(record).splitlines()
    assert "intervals" not in explanation(record | {"valid": {NDCG: 0.5}}, "valid")
    assert "intervals" not in explanation(record | {"diagnosis": {}})
