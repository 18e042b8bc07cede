"""A table compares one thing: what defines a metric makes a cell of its own, and references agree or are an error."""

import math
import re

import pytest
from reports_helpers import FULL, NDCG, RATED, draw, only_cell, put, report_text, rows_of, write_plan

from recbole_dgrm.errors import DataError
from recbole_dgrm.evaluation.metric_names import BELOW
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.benchmark_report import write_report
from recbole_dgrm.reports.result_tables import result_table
from recbole_dgrm.reports.sentences import headline
from recbole_dgrm.reports.statistics import summarise

DIFFERENT = {"rating_threshold": 4.5, "rated_denominator": "relevant", "rated_ties": "item_order", "known_share": 0.5}
DIFFERENT |= {"rated_filter": "threshold", "rating_scale": [0, 5], "rating_step": 0.5, "split_rounding": "down"}
DIFFERENT |= {"feedback": "implicit", "metric_decimal_place": 3, "val_interval": {"rating": "[2,inf)"}}
DIFFERENT |= {"user_inter_num_interval": "[5,inf)", "order": "TO", "mode": "full"}


@pytest.mark.parametrize("key", DIFFERENT)
def test_a_metric_defined_differently_stands_in_another_table_with_figures_of_its_own(tmp_path, key):
    changed = {key: DIFFERENT[key]}
    for label in ("MF", "NCF"):
        put(tmp_path, label, config=RATED)
    for label in ("MF", "BPR"):
        inner = {"eval_args": {**RATED["eval_args"], **changed}}
        put(tmp_path, label, config={**RATED, **(inner if key in ("order", "mode") else changed)})
    write_plan(tmp_path, baseline="MF")
    cells = summarise(tmp_path).cells
    assert {frozenset(row.label for row in cell.rows) for cell in cells} == {
        frozenset({"MF", "NCF"}),
        frozenset({"MF", "BPR"}),
    }
    assert all(f"{key}=" in cell.name and "board, rated (" in cell.name for cell in cells)
    assert len({cell.name for cell in cells}) == 2
    assert all(bool(row.scores[NDCG].comparison) == (row.label != "MF") for cell in cells for row in cell.rows)
    if key == "rated_ties":
        assert len(set(re.findall(r"\((figures/.*?-metrics)\.png\)", report_text(tmp_path)))) == 2


def test_another_spelling_of_the_same_definition_is_the_same(tmp_path):
    put(tmp_path, "MF", config=RATED)
    modes = {"eval_args": {**RATED["eval_args"], "mode": {"valid": "labeled", "test": "labeled"}}}
    same = [{"rating_threshold": 3}, {"rating_scale": [1.0, 5.0], "rating_step": 1.0}, {"topk": [5, 10]}, modes]
    for number, keys in enumerate([*same, {"known_share": 1.0}, {"epochs": 5}]):
        put(tmp_path, f"EASE {number}", config={**RATED, **keys})
    cell = only_cell(tmp_path)
    assert cell.name == "board, rated"
    assert cell.definition["rating_threshold"] == 3


def test_what_rates_items_defines_nothing_under_a_full_ranking(tmp_path):
    put(tmp_path, "MF", config=FULL)
    put(tmp_path, "EASE", config={**FULL, "rated_denominator": "relevant", "rating_threshold": 4})
    assert len(only_cell(tmp_path).rows) == 2


def test_published_numbers_stand_beside_the_usual_definition_of_the_named_protocols_only(tmp_path):
    for label, changed in {"MF": {}, "NCF": {}, "Odd": {"rating_threshold": 5}, "Other": {"protocol": "eq23"}}.items():
        put(tmp_path, label, config={**RATED, **changed})
    values = {label: {NDCG: 0.5, "hit@9": 0.5} for label in ("MF", "absent", "Odd", "Other")}
    write_plan(tmp_path, published={"source": "x", "protocols": ["rated"], "values": {"board": values, "noise": {}}})
    rows = [row for cell in summarise(tmp_path).cells for row in cell.rows]
    assert {row.label for row in rows if row.scores[NDCG].published == 0.5} == {"MF"}
    assert {row.label for row in rows if math.isnan(row.scores[NDCG].published)} == {"NCF", "Odd", "Other"}


def test_references_of_a_seed_agree_up_to_rounding_or_are_an_error_with_both_runs(tmp_path):
    for label, value in [("MF", 0.25), ("NCF", 0.25 + 1e-9)]:
        put(tmp_path / "near", label, reference={"random": {NDCG: value}})
    assert len(only_cell(tmp_path / "near").reference) == 1
    first = put(tmp_path / "far", "MF", reference={"random": {NDCG: 0.25}})
    second = put(tmp_path / "far", "NCF", reference={"random": {NDCG: 0.26}})
    with pytest.raises(DataError, match=r"disagree about the reference row random: ratedndcg@5 is 0\.2\d0000") as error:
        summarise(tmp_path / "far")
    assert str(first) in str(error.value)
    assert str(second) in str(error.value)


def test_models_of_different_settings_have_a_bias_row_each(tmp_path):
    for label, refit, bias in [("MF", True, 0.5), ("NCF", True, 0.5), ("EASE", False, 0.4)]:
        reference = {"random": {NDCG: 0.25}, "bias": {NDCG: bias}, "oracle": {NDCG: 0.9}}
        vectors = {NDCG: 0.45 + 0 * draw(label, 1)}
        config = {**RATED, "refit": refit, "bias_shrinkage": 5}
        put(tmp_path, label, config=config, reference=reference, vectors=vectors)
    cell = only_cell(tmp_path)
    assert [row.label for row in cell.reference] == ["random", "bias", "bias", "oracle"]
    table = result_table(cell)
    means = [f"user + item means (refit={refit})" for refit in (False, True)]
    assert [row[0].text for row in table.quiet] == ["random order", *means, "oracle: the true ratings"]
    below = {row[0].text: BELOW in row[1].mark for row in table.rows}
    assert below == {"EASE (refit=False)": False, "MF (refit=True)": True, "NCF (refit=True)": True}


def test_how_rows_of_a_model_were_trained_is_named_in_the_row(tmp_path):
    for label, changed in {"MF": {}, "MF long": {"epochs": 500}, "MF odd": dict.fromkeys("abcdef", 1)}.items():
        put(tmp_path, label, config={**RATED, "epochs": 50, **changed})
    put(tmp_path, "NCF", config={**RATED, "model": "NCF", "epochs": 300})
    names = [row[0].text for row in result_table(only_cell(tmp_path)).rows]
    assert names == ["MF", "MF long (epochs=500)", "MF odd (a=1, b=1, c=1, 3 more)", "NCF"]
    assert "a=1, b=1, c=1, d=1, e=1, f=1" in report_text(tmp_path)


def test_a_row_above_the_oracle_says_that_it_is_an_error_of_ours(tmp_path, caplog):
    for label, value in [("MF", 0.5), ("Broken", 0.8), ("Exact", 0.75 + 1e-9)]:
        put(tmp_path, label, vectors={NDCG: value + 0 * draw(label, 1)}, config=RATED)
    write_report(tmp_path, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.splitlines()[2].startswith("ERROR of recbole_dgrm: Broken, seed 1, has ratedndcg@5 0.8000, above the")
    assert "| Broken | 0.800 ‡ |" in text
    assert "| Exact | **0.750** |" in text
    assert "above the oracle's 0.7500, which cannot be" in caplog.text
    record = {"test": {NDCG: 0.76}, "reference": {"oracle": {NDCG: 0.755}}}  # above it by rounding only
    assert comparable.above_oracle({**record, "config": {"metric_decimal_place": 2}}) == []
    assert comparable.above_oracle({**record, "config": {}}) == [NDCG]


def test_seeds_of_other_data_files_are_refused_unless_a_split_shows_that_they_are_alike(tmp_path):
    put(tmp_path, "MF", 1, data={"fingerprint": "a", "source": "old"})
    put(tmp_path, "MF", 2, data={"fingerprint": "b", "source": "new"})
    with pytest.raises(DataError, match=r"made with different data files \(old, new\)|\(new, old\)"):
        summarise(tmp_path)
    put(tmp_path, "NCF", 1, data={"fingerprint": "a", "source": "new"})
    assert len(only_cell(tmp_path).rows) == 2


def bias_run(folder, label, value, seed=1, **fields):
    reference = {"random": {NDCG: 0.25, "rmse": 1.2}, "bias": {NDCG: 0.5, "rmse": 1.0}, "oracle": {NDCG: 0.9}}
    noise, test = draw(label, seed) / 100, {NDCG: value, "rmse": 1.5 - value}
    vectors = {NDCG: value + noise - noise.mean()}
    put(folder, label, seed, vectors=vectors, config=RATED, test=test, reference=reference, **fields)


def test_rows_below_the_bias_row_are_marked(tmp_path):
    for label, value in [("A", 0.6), ("B", 0.45), ("C", 0.3)]:
        bias_run(tmp_path / "some", label, value)
        bias_run(tmp_path / "all", label, value - 0.2)
    rows = rows_of(only_cell(tmp_path / "some"))
    assert only_cell(tmp_path / "some").leading[NDCG] == [rows_of(only_cell(tmp_path / "some"))["A"]]
    assert {label: row.scores["rmse"].below for label, row in rows.items()} == {"A": False, "B": True, "C": True}
    write_report(tmp_path / "some", tmp_path)
    for kind, value, mark in [("md", "0.450 ", "†"), ("html", "0.450 ", "†"), ("tex", "0.450", r"$^{\dagger}$")]:
        text = (tmp_path / f"report.{kind}").read_text()
        assert value + mark in text
        assert f"{mark} worse than user + item means" in text
    assert "<u>" not in (tmp_path / "report.md").read_text()
    rows = [row[1] for row in result_table(only_cell(tmp_path / "all")).rows]
    assert [(value.emphasis, value.mark) for value in rows] == [("best", BELOW), ("", BELOW), ("", BELOW)]
    assert "the best RMSE is worse than user + item means" in sentence(tmp_path / "all")


def sentence(folder, baseline=None) -> str:
    return headline(only_cell(folder, baseline))


def test_the_headline_says_who_leads_in_which_metric_and_what_is_not_known(tmp_path):
    folder, one_seed = tmp_path / "one", "these trainings and not of the methods, because there is only one seed."
    bias_run(folder, "A", 0.6, selected_by="RatedNDCG@5")
    alone = "A has RatedNDCG@5 0.600, RMSE 0.900, and there is no other model to compare it with; all this is of "
    assert sentence(folder) == alone + one_seed
    bias_run(folder, "B", 0.6, selected_by="RatedNDCG@5")
    level = "A and B are level in RatedNDCG@5 (best: A with RatedNDCG@5 0.600); "
    assert sentence(folder) == f"{level}all this is of {one_seed}"
    folder = tmp_path / "three"
    for label, value in [("A", 0.6), ("B", 0.55), ("C", 0.6001)]:
        for seed in (1, 2):
            bias_run(folder, label, value, seed, selected_by="RatedNDCG@5")
    start = "C has the best RatedNDCG@5 0.600, but two seeds cannot tell it from chance"
    assert sentence(folder, "B") == f"{start}."
    for label, value in [("A", 0.6), ("B", 0.55), ("C", 0.6001)]:
        bias_run(folder, label, value, 3, selected_by="RatedNDCG@5")
    assert sentence(folder).startswith("C and A are level in RatedNDCG@5")
    bias_run(folder, "D", 0.7, 3, selected_by="RatedNDCG@5")
    assert sentence(folder).startswith("D is significantly ahead in RatedNDCG@5 0.700 (0.100 above C)")
    write_plan(folder, baseline="B")
    assert report_text(folder).splitlines()[2] == sentence(folder, "B")


def test_a_training_that_ends_at_its_best_is_still_improving(tmp_path):
    trainings = {"10 of 10, still improving": (10, 1, 10, 10), "9 of 10": (10, 1, 10, 9), "8 of 10": (10, 1, 8, 8)}
    trainings |= {"10 of 12, still improving": (12, 5, 12, 10), "5 of 12": (12, 5, 12, 5), "1": (1, 1, 1, 1)}
    for number, (shown, (epochs, every, ran, best)) in enumerate(trainings.items()):
        timing = {"train_s": 1.0, "epochs": ran, "best_epoch": best}
        folder, config = tmp_path / str(number), {**RATED, "epochs": epochs, "eval_step": every}
        parameters = 1 if shown == "1" else 9  # RecBole's closed forms have one
        put(folder, "MF", config=config, timing=timing, parameters=parameters)
        text = report_text(folder)
        assert f"| MF | {parameters} | {shown} |" in text
        assert ("more epochs (--epochs) may do better" in text) == ("still" in shown)


def test_a_published_row_needs_one_metric_only(tmp_path):
    for label in ("A", "B", "C"):
        bias_run(tmp_path, label, 0.5)
    values = {"A": {NDCG: 0.4}, "B": {"rmse": 0.9}}
    write_plan(tmp_path, published={"source": "a paper", "protocols": ["rated"], "values": {"board": values}})
    text = report_text(tmp_path)
    assert text.count("[start:board-rated] -->") == 1
    lines = text.split("[start:published-board-rated] -->")[1].splitlines()
    assert lines[4:6] == [
        "| A | 0.400 | 0.500 | +0.100 | – | 1.000 | – |",
        "| B | – | 0.500 | – | 0.900 | 1.000 | +0.100 |",
    ]


def test_what_failed_after_a_test_is_said_in_the_report(tmp_path):
    put(tmp_path, "MF", error="the test is done, but its diagnosis failed: ZeroDivisionError: no room")
    text = report_text(tmp_path)
    assert "MF, seed 1: the test is done, but its diagnosis failed: ZeroDivisionError: no room." in text
    assert "Runs without a result" not in text
