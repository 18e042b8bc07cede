"""A table compares one thing: what defines a metric makes a cell of its own, and references agree or are an error."""

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


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rating_threshold", 4.5),
        ("rated_denominator", "relevant"),
        ("rated_ties", "item_order"),
        ("rated_filter", "threshold"),
        ("rating_scale", [0, 5]),
        ("rating_step", 0.5),
        ("feedback", "implicit"),
        ("split_rounding", "down"),
        ("known_share", 0.5),
        ("metric_decimal_place", 3),
        ("val_interval", {"rating": "[2,inf)"}),
        ("user_inter_num_interval", "[5,inf)"),
        ("eval_args", {**RATED["eval_args"], "order": "TO"}),
        ("eval_args", {**RATED["eval_args"], "mode": "full"}),
    ],
)
def test_a_metric_defined_differently_stands_in_another_table(tmp_path, key, value):
    put(tmp_path, "MF", config=RATED)
    put(tmp_path, "EASE", config={**RATED, key: value})
    write_plan(tmp_path, baseline="MF")
    cells = summarise(tmp_path).cells
    assert [[row.label for row in cell.rows] for cell in cells] in ([["MF"], ["EASE"]], [["EASE"], ["MF"]])
    named = key.removeprefix("eval_args") or ("order" if value["order"] == "TO" else "mode")
    assert all(f"{named}=" in cell.name and "board, rated (" in cell.name for cell in cells)
    assert len({cell.name for cell in cells}) == 2
    assert not any(score.comparison for cell in cells for row in cell.rows for score in row.scores.values())


def test_tables_of_one_data_set_have_figures_of_their_own(tmp_path):
    for label in ("MF", "NCF"):
        put(tmp_path, label)
        put(tmp_path, label, config={**RATED, "rated_ties": "item_order"})
    write_plan(tmp_path, baseline="MF")
    assert len(set(re.findall(r"\((figures/.*?-metrics)\.png\)", report_text(tmp_path)))) == 2


@pytest.mark.parametrize(
    "same",
    [
        {"rating_threshold": 3},
        {"rating_scale": [1.0, 5.0], "rating_step": 1.0},
        {"topk": [5, 10]},
        {"known_share": 1.0},
        {"epochs": 5},
        {"eval_args": {**RATED["eval_args"], "mode": {"valid": "labeled", "test": "labeled"}}},
    ],
)
def test_another_spelling_of_the_same_definition_is_the_same(tmp_path, same):
    put(tmp_path, "MF", config=RATED)
    put(tmp_path, "EASE", config={**RATED, **same})
    cell = only_cell(tmp_path)
    assert cell.name == "board, rated"
    assert cell.definition["rating_threshold"] == 3


def test_what_rates_items_defines_nothing_under_a_full_ranking(tmp_path):
    put(tmp_path, "MF", config=FULL)
    put(tmp_path, "EASE", config={**FULL, "rated_denominator": "relevant", "rating_threshold": 4})
    assert len(only_cell(tmp_path).rows) == 2


def test_published_numbers_stand_beside_the_usual_definition_only(tmp_path):
    for label, changed in {"MF": {}, "NCF": {}, "Odd": {"rating_threshold": 5}}.items():
        put(tmp_path, label, config={**RATED, **changed})
    values = {label: {NDCG: 0.5} for label in ("MF", "NCF", "Odd")}
    write_plan(tmp_path, published={"source": "x", "protocols": ["rated"], "values": {"board": values}})
    published = {row.label: row.scores[NDCG].published for cell in summarise(tmp_path).cells for row in cell.rows}
    assert (published["MF"], published["NCF"]) == (0.5, 0.5)
    assert published["Odd"] != published["Odd"]


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


def test_rounded_metrics_are_above_the_oracle_by_rounding_only():
    record = {"config": {"metric_decimal_place": 2}, "test": {NDCG: 0.76}, "reference": {"oracle": {NDCG: 0.755}}}
    assert comparable.above_oracle(record) == []
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


def test_rows_below_the_bias_row_are_marked_and_never_second(tmp_path):
    for label, value in [("A", 0.6), ("B", 0.45), ("C", 0.3)]:
        bias_run(tmp_path, label, value)
    rows = rows_of(only_cell(tmp_path))
    assert {label: row.scores[NDCG].place for label, row in rows.items()} == {"A": 1, "B": 0, "C": 0}
    assert {label: row.scores["rmse"].below for label, row in rows.items()} == {"A": False, "B": True, "C": True}
    write_report(tmp_path, tmp_path)
    for kind, value, mark in [("md", "0.450 ", "†"), ("html", "0.450 ", "†"), ("tex", "0.450", r"$^{\dagger}$")]:
        text = (tmp_path / f"report.{kind}").read_text()
        assert value + mark in text
        assert f"{mark} worse than user + item means" in text
    assert "<u>" not in (tmp_path / "report.md").read_text()


def test_the_best_of_rows_that_are_all_below_is_bold_and_marked(tmp_path):
    for label, value in [("A", 0.4), ("B", 0.3)]:
        bias_run(tmp_path, label, value)
    best, other = (row[1] for row in result_table(only_cell(tmp_path)).rows)
    assert (best.emphasis, best.mark, other.emphasis, other.mark) == ("best", BELOW, "", BELOW)
    assert "even that is worse than user + item means" in headline(only_cell(tmp_path))


def sentence(folder, baseline=None) -> str:
    return headline(only_cell(folder, baseline))


def test_the_headline_names_winner_margin_and_significance(tmp_path):
    for label, value in [("A", 0.6), ("B", 0.55), ("C", 0.6001)]:
        for seed in (1, 2):
            bias_run(tmp_path, label, value, seed)
    assert sentence(tmp_path, "B") == (
        "C has the best RatedNDCG@5 0.600, 0.050 (9.1%) higher than that of the baseline B; the "
        "difference is significant over 30 users (paired t-test and Wilcoxon test, Holm's correction)."
    )
    assert sentence(tmp_path, "C").startswith(
        "C has the best RatedNDCG@5 0.600, 1.0e-04 higher than that of A; the difference is not"
    )
    assert "it needs a baseline (--baseline=LABEL)" in sentence(tmp_path)
    assert "one seed" not in sentence(tmp_path)
    write_plan(tmp_path, baseline="B")
    assert report_text(tmp_path).splitlines()[2] == sentence(tmp_path, "B")


def test_the_headline_says_what_cannot_be_said(tmp_path):
    bias_run(tmp_path, "A", 0.6)
    assert "there is no other model to compare it with; it is from one seed" in sentence(tmp_path)
    bias_run(tmp_path, "B", 0.6)
    assert sentence(tmp_path).startswith("A and B share the best RatedNDCG@5 0.600; it is from one seed")


def test_smaller_is_better_in_the_headline_too(tmp_path):
    write_plan(tmp_path, metrics=["rmse"], baseline="B")
    for label, value in [("A", 0.6), ("B", 0.5)]:
        bias_run(tmp_path, label, value)
    assert sentence(tmp_path).startswith(
        "A has the best RMSE 0.900, 0.100 (10.0%) lower than that of the baseline B; whether"
    )


@pytest.mark.parametrize(
    ("epochs", "every", "ran", "best", "shown"),
    [
        (10, 1, 10, 10, "10 of 10, still improving"),
        (10, 1, 10, 9, "9 of 10"),
        (10, 1, 8, 8, "8 of 10"),
        (12, 5, 12, 10, "10 of 12, still improving"),
        (12, 5, 12, 5, "5 of 12"),
    ],
)
def test_a_training_that_ends_at_its_best_is_still_improving(tmp_path, epochs, every, ran, best, shown):
    timing = {"train_s": 1.0, "epochs": ran, "best_epoch": best}
    put(tmp_path, "MF", config={**RATED, "epochs": epochs, "eval_step": every}, timing=timing, parameters=9)
    text = report_text(tmp_path)
    assert f"| MF | 9 | {shown} |" in text
    assert ("more epochs (--epochs) may do better" in text) == ("still" in shown)


def test_closed_forms_do_not_improve(tmp_path):
    timing = {"train_s": 0.0, "epochs": 1, "best_epoch": 1}
    put(tmp_path, "EASE", config={**RATED, "epochs": 1}, timing=timing, parameters=1)
    assert "| EASE | 1 | 1 |" in report_text(tmp_path)


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
