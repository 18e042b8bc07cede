"""What a report says of noisy metrics, of models below the means, and of the metric that selected."""

import pandas as pd
import pytest
from reports_helpers import NDCG, RATED, REFERENCE, draw, only_cell, put, rows_of

from recbole_dgrm.reports.benchmark_report import write_report
from recbole_dgrm.reports.result_tables import result_table
from recbole_dgrm.reports.sentences import headline, worse_than_bias

AUTO = {**RATED, "valid_metric": "auto"}


def resolution(ratio: float, **others: float) -> dict:
    ratios = {NDCG: ratio, **others}
    return {"test": {metric: {"ratio": value, "users": 40, "of": 1000} for metric, value in ratios.items()}}


def put_pair(folder, **fields) -> None:
    """Two models; A has the better ranking, B the better RMSE."""
    reference = {name: {NDCG: value[NDCG], "rmse": 0.5} for name, value in REFERENCE.items()}
    reference["oracle"]["rmse"] = 0.0
    for label, ndcg, rmse in [("A", 0.6, 0.9), ("B", 0.55, 0.4)]:
        put(
            folder,
            label,
            vectors={NDCG: draw(label, 1)},
            test={NDCG: ndcg, "rmse": rmse},
            reference=reference,
            **fields,
        )


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


def test_the_headline_is_about_the_first_precise_metric(tmp_path):
    put_pair(tmp_path, resolution=resolution(40, rmse=90))
    assert headline(only_cell(tmp_path)).startswith("A has the best RatedNDCG@5")
    put_pair(tmp_path / "noisy", resolution=resolution(20, rmse=90))
    assert headline(only_cell(tmp_path / "noisy")).startswith("B has the best RMSE")


def test_records_of_old_have_marks_and_no_remark(tmp_path):
    put_pair(tmp_path)
    cell = only_cell(tmp_path)
    assert rows_of(cell)["A"].scores[NDCG].place == 1
    table = result_table(cell)
    assert "too noisy" not in table.note
    assert all(row[0].text != "resolution" for row in table.quiet)


def test_models_below_the_means_are_named_in_their_metric(tmp_path):
    put_pair(tmp_path)
    assert worse_than_bias(only_cell(tmp_path)) == ["Worse than user + item means in RMSE: A."]
    put_pair(tmp_path / "noisy", resolution=resolution(40, rmse=20))
    assert worse_than_bias(only_cell(tmp_path / "noisy")) == []


def test_a_report_has_it_all_and_the_resolution_by_metric(tmp_path):
    put_pair(tmp_path, resolution=resolution(20, rmse=90))
    text = write_report(tmp_path, tmp_path).with_suffix(".md").read_text()
    assert "Worse than user + item means in RMSE: A." in text
    assert "too noisy to compare models" in text
    assert "resolution of 28 on" in text
    table = pd.read_csv(tmp_path / "report.csv").set_index(["model", "metric"])
    assert table.loc[("A", NDCG), "resolution"] == table.loc[("random", NDCG), "resolution"] == 20


def test_what_was_selected_by_one_metric_is_one_row_whatever_was_asked(tmp_path):
    put(tmp_path, "A", 1, config={**RATED, "valid_metric": "RatedNDCG@5"})
    put(tmp_path, "A", 2, config=AUTO, selected_by="RatedNDCG@5")
    assert [(row.label, row.seeds) for row in only_cell(tmp_path).rows] == [("A", [1, 2])]


def test_what_was_selected_by_two_metrics_is_two_rows_that_say_it(tmp_path):
    put(tmp_path, "A", 1, config=AUTO, selected_by="RatedNDCG@5")
    put(tmp_path, "A", 2, config=AUTO, selected_by="RMSE")
    labels = [row.label for row in only_cell(tmp_path).rows]
    assert labels == ["A (valid_metric=RMSE)", "A (valid_metric=RatedNDCG@5)"]


def test_models_that_were_selected_by_different_metrics_say_so(tmp_path):
    put(tmp_path, "A", config=AUTO, selected_by="RatedNDCG@5")
    put(tmp_path, "B", config=AUTO, selected_by="RMSE")
    names = [row[0].text for row in result_table(only_cell(tmp_path)).rows]
    assert names == ["A (valid_metric=RatedNDCG@5)", "B (valid_metric=RMSE)"]
    put(tmp_path / "same", "A", config=AUTO, selected_by="RMSE")
    put(tmp_path / "same", "B", config=AUTO, selected_by="RMSE")
    assert [row[0].text for row in result_table(only_cell(tmp_path / "same")).rows] == ["A", "B"]


@pytest.mark.parametrize(("rmse", "marks"), [(0.9, ("▲", 0)), (1.1, ("", 1))])
def test_a_row_that_is_better_by_user_has_no_mark_at_a_number_that_is_worse(tmp_path, rmse, marks):
    errors = draw("errors", 1)
    put(tmp_path, "A", vectors={"rmse": errors}, test={"rmse": 1.0}, reference={})
    put(tmp_path, "B", vectors={"rmse": errors - 0.1}, test={"rmse": rmse}, reference={})
    table = result_table(only_cell(tmp_path, "A"))
    assert ({row[0].text: row[1].mark for row in table.rows}["B"], table.note.count("No mark in RMSE")) == marks
