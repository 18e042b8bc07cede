"""What a report says of noisy metrics, of models below the means, and of the metric that selected."""

import pytest
from reports_helpers import NDCG, RATED, REFERENCE, draw, only_cell, put, report_text, rows_of

from recbole_dgrm.reports.benchmark_report import results_frame
from recbole_dgrm.reports.result_tables import result_table
from recbole_dgrm.reports.sentences import headline, worse_than_bias
from recbole_dgrm.reports.statistics import summarise

AUTO = {**RATED, "valid_metric": "auto"}


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
    for seed, ratio in zip((1, 2), ratios, strict=True):
        for label in ("A", "B"):
            put(tmp_path, label, seed, resolution=resolution(ratio))
    cell = only_cell(tmp_path)
    assert {row.scores[NDCG].place for row in cell.rows} == ({0} if noisy else {0, 1})
    table = result_table(cell)
    assert [value.text for value in table.quiet[-1]] == ["resolution", f"{sum(ratios) / 2:.0f}", ""]
    said = f"RatedNDCG@5 (resolution {sum(ratios) / 2:.0f}; a model can change it for 40 of 1,000 users) is too noisy"
    assert (said in table.note) == (said in headline(cell)) == noisy


def test_headline_marks_and_remarks_are_about_precise_metrics(tmp_path):
    below = "Worse than user + item means in RMSE: A."
    for name, fields, headline_start, remarks in (
        ("sharp", {"resolution": resolution(40, rmse=90)}, "A has the best RatedNDCG@5", [below]),
        ("noisy", {"resolution": resolution(20, rmse=90)}, "B has the best RMSE", [below]),
        ("noisy rmse", {"resolution": resolution(40, rmse=20)}, "A has the best RatedNDCG@5", []),
        ("old", {}, "A has the best RatedNDCG@5", [below]),  # records without a resolution
    ):
        put_pair(tmp_path / name, **fields)
        cell = only_cell(tmp_path / name)
        assert headline(cell).startswith(headline_start)
        assert worse_than_bias(cell) == remarks
        assert rows_of(cell)["A"].scores[NDCG].place == (0 if name == "noisy" else 1)
        table = result_table(cell)
        assert ("too noisy" in table.note) == ("noisy" in name)
        assert any(row[0].text == "resolution" for row in table.quiet) == (name != "old")


def test_a_report_has_it_all_and_the_resolution_by_metric(tmp_path):
    put_pair(tmp_path, resolution=resolution(20, rmse=90))
    text = report_text(tmp_path)
    for words in ("Worse than user + item means in RMSE: A.", "too noisy to compare models", "resolution of 28 on"):
        assert words in text
    table = results_frame(summarise(tmp_path)).set_index(["model", "metric"])
    assert table.loc[("A", NDCG), "resolution"] == table.loc[("random", NDCG), "resolution"] == 20


def test_what_was_selected_by_one_metric_is_one_row_whatever_was_asked(tmp_path):
    put(tmp_path, "A", 1, config={**RATED, "valid_metric": "RatedNDCG@5"})
    put(tmp_path, "A", 2, config=AUTO, selected_by="RatedNDCG@5")
    assert [(row.label, row.seeds) for row in only_cell(tmp_path).rows] == [("A", [1, 2])]
    put(tmp_path, "A", 3, config=AUTO, selected_by="RMSE")
    labels = [row.label for row in only_cell(tmp_path).rows]
    assert labels == ["A (valid_metric=RMSE)", "A (valid_metric=RatedNDCG@5)"]


@pytest.mark.parametrize("metrics", [("RatedNDCG@5", "RMSE"), ("RMSE", "RMSE")])
def test_models_that_were_selected_by_different_metrics_say_so(tmp_path, metrics):
    for label, metric in zip("AB", metrics, strict=True):
        put(tmp_path, label, config=AUTO, selected_by=metric)
    names = [row[0].text for row in result_table(only_cell(tmp_path)).rows]
    same = len({*metrics}) == 1
    assert names == (["A", "B"] if same else ["A (valid_metric=RatedNDCG@5)", "B (valid_metric=RMSE)"])


@pytest.mark.parametrize(("rmse", "marks"), [(0.9, ("▲", 0)), (1.1, ("", 1))])
def test_a_row_that_is_better_by_user_has_no_mark_at_a_number_that_is_worse(tmp_path, rmse, marks):
    errors = draw("errors", 1)
    put(tmp_path, "A", vectors={"rmse": errors}, test={"rmse": 1.0}, reference={})
    put(tmp_path, "B", vectors={"rmse": errors - 0.1}, test={"rmse": rmse}, reference={})
    table = result_table(only_cell(tmp_path, "A"))
    assert ({row[0].text: row[1].mark for row in table.rows}["B"], table.note.count("Not marked in RMSE")) == marks
