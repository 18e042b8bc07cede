"""Summaries of hand-made records: statistics against numpy and scipy, and which runs make which rows."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reports_helpers import NDCG, age, draw, only_cell, rows_of, tokens, write_plan, write_run
from scipy import stats

from recbole_dgrm.errors import DataError
from recbole_dgrm.records import read_run
from recbole_dgrm.reports.sentences import faults
from recbole_dgrm.reports.significance import Comparison, compare, holm
from recbole_dgrm.reports.statistics import summarise
from recbole_dgrm.system.files import write_json


def comparison_of(folder: Path, label: str, baseline: str, metric: str = NDCG) -> Comparison:
    return rows_of(only_cell(folder, baseline))[label].scores[metric].comparison


def test_mean_and_deviation_are_those_of_the_seeds(tmp_path):
    seeds = [4, 7, 9]
    for label in ("MF", "DGRM"):
        for seed in reversed(seeds):
            write_run(tmp_path, label, seed)
    cell = only_cell(tmp_path)
    assert (cell.name, cell.seeds, cell.metrics, cell.baseline) == ("board, rated", seeds, [NDCG], None)
    assert rows_of(cell).keys() == {"MF", "DGRM"}
    for label, row in rows_of(cell).items():
        values = [draw(label, seed).mean() for seed in seeds]
        score = row.scores[NDCG]
        assert (row.seeds, score.comparison) == (seeds, None)
        assert score.values == pytest.approx(values)
        assert (score.mean, score.std) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
        assert (score.skill, row.timing("train_s")) == pytest.approx((np.mean(seeds) / 8, 10 * np.mean(seeds)))
        assert math.isnan(row.timing("evaluate_s"))


def test_reference_rows_have_a_value_per_seed_and_the_metrics_of_all_runs(tmp_path):
    for seed, value in [(1, 0.25), (2, 0.75)]:
        reference = {"random": {NDCG: value}, "oracle": {NDCG: 1.0, "mrr@5": 1.0}}
        write_run(tmp_path, "ZZ", seed, reference=reference)
        reference["random"]["rmse"] = 1.5
        write_run(tmp_path, "MF", seed, test={NDCG: 0.5, "rmse": 1.0}, reference=reference)
    rows = only_cell(tmp_path).reference
    found = {row.label: {metric: score.values.tolist() for metric, score in row.scores.items()} for row in rows}
    assert found == {"random": {NDCG: [0.25, 0.75], "rmse": [1.5, 1.5]}, "oracle": {NDCG: [1, 1]}}


@pytest.mark.parametrize("step", [0.25, 1e-9])
def test_one_seed_has_the_paired_t_test_of_scipy_on_the_users_that_both_have(tmp_path, step):
    """Every file has its own order of users, and lacks some: users are matched by token; large steps make ties."""
    files = {}
    for index, label in enumerate(("MF", "DGRM")):
        rng = np.random.default_rng(index)
        users = rng.permutation(tokens(40))[:33]
        values = {user: int(user[1:]) / 40 + 0.1 * index + rng.normal() / 4 for user in users}
        files[label] = {user: round(value / step) * step for user, value in values.items()} | {f"only {label}": 90.0}
        write_run(tmp_path, label, 1, {NDCG: np.array([*files[label].values()])}, [*files[label]])
    common = sorted(files["MF"].keys() & files["DGRM"].keys())
    theirs, ours = np.array([[file[user] for user in common] for file in files.values()])
    assert (ours == theirs).any() == (step == 0.25)
    found, expected = comparison_of(tmp_path, "DGRM", baseline="MF"), stats.ttest_rel(ours, theirs)
    assert (found.users, found.common_seeds) == (len(common), 1)
    assert found.difference == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_equal_values_are_no_difference_also_where_three_seeds_add_up_differently_in_floating_point(tmp_path):
    values = np.random.default_rng(0).random((3, 60))
    for seed in (1, 2, 3):
        write_run(tmp_path, "A", seed, {NDCG: values[seed - 1]})
        write_run(tmp_path, "B", seed, {NDCG: values[seed - 1] + 1e-13})
    assert comparison_of(tmp_path, "B", "A") == Comparison(60, 3, 0.0, 0.0, 0.0, 1.0, holm=1.0)
    assert only_cell(tmp_path, "B").baseline.scores[NDCG].comparison is None
    alone = compare([(pd.Series({"u1": 0.75, "u2": 1.0}), pd.Series({"u1": 0.5, "u3": 0.0}))])  # too few to test
    assert (alone.users, alone.difference, alone.p) == (1, 0.25, 1.0)


def test_only_common_seeds_are_compared_and_without_one_or_without_vectors_nothing_is(tmp_path):
    for label, seeds in {"MF": [1, 2, 3], "DGRM": [2, 3, 4], "EASE": [4]}.items():
        for seed in seeds:
            write_run(tmp_path, label, seed)
    write_run(tmp_path, "NCF", 1, vectors={}, test={NDCG: 0.5})
    ours, theirs = ((draw(label, 2) + draw(label, 3)) / 2 for label in ("DGRM", "MF"))
    rows = rows_of(only_cell(tmp_path, "MF"))
    found = rows["DGRM"].scores[NDCG].comparison
    assert found.difference == pytest.approx((ours - theirs).mean())
    assert (found.users, found.common_seeds) == (30, 2)
    assert (rows["MF"].seeds, rows["DGRM"].seeds) == ([1, 2, 3], [2, 3, 4])
    assert rows["EASE"].scores[NDCG].comparison is rows["NCF"].scores[NDCG].comparison is None
    assert rows["NCF"].scores[NDCG].mean == 0.5


def test_the_models_of_one_metric_are_the_family_that_is_corrected(tmp_path):
    labels = ["A", "B", "C"]
    for index, label in enumerate(["MF", *labels]):
        vectors = {NDCG: draw(label, 1) + index / 10, "mae": draw(label, 2)}
        write_run(tmp_path, label, vectors=vectors if label != "C" else {NDCG: vectors[NDCG]})
    rows = rows_of(only_cell(tmp_path, "MF"))
    for metric, family in [(NDCG, labels), ("mae", labels[:2])]:
        found = [rows[label].scores[metric].comparison for label in family]
        assert [test.holm for test in found] == pytest.approx(holm([test.p for test in found]).tolist())
        assert any(test.holm > test.p for test in found)
    assert "mae" not in rows["C"].scores


@pytest.mark.parametrize(("metric", "sign"), [(NDCG, 1), ("rmse", -1)])
@pytest.mark.parametrize("n_seeds", [1, 2, 3])
def test_the_leading_rows_are_the_best_and_those_that_cannot_be_told_from_it(tmp_path, metric, sign, n_seeds):
    for label, value in {"A": 0.4, "B": 0.6, "C": 0.601, "D": 0.1}.items():
        for seed in range(n_seeds):
            write_run(tmp_path, label, seed, vectors={metric: (sign < 0) + sign * (value + draw(label, seed) / 20)})
    leading = [row.label for row in only_cell(tmp_path).leading[metric]]
    assert set(leading) == ({"B", "C", "A", "D"} if n_seeds == 2 else {"B", "C"})
    write_run(tmp_path, "E", 0, vectors={}, test={metric: 0.7})
    assert metric not in only_cell(tmp_path).leading  # a row cannot be tested


def test_a_metric_that_a_row_or_a_seed_lacks_or_that_is_no_number_is_left_out_and_not_tested(tmp_path):
    both = {NDCG: 0.5, "rmse": 1.0}
    results = {"A": [both, both], "B": [{NDCG: 0.25}], "C": [both, {NDCG: 0.1}], "D": [{NDCG: 0.1, "rmse": math.nan}]}
    for label, tests in results.items():
        for seed, test in enumerate(tests, 1):
            write_run(tmp_path, label, seed, vectors={}, test=test)
    cell = only_cell(tmp_path)
    assert set(cell.metrics) == {NDCG, "rmse"}
    rows = rows_of(cell)
    assert [set(row.scores) for row in rows.values()] == [{NDCG, "rmse"}, {NDCG}, {NDCG}, {NDCG}]
    assert cell.leading == {"rmse": [rows["A"]]}  # it is alone


def test_runs_of_one_seed_that_saw_different_splits_are_refused_by_name(tmp_path):
    first = write_run(tmp_path, "MF", data={"fingerprint": "aaa"})
    for differing in ({"seed": 2}, {"protocol": "ranking"}, {"dataset": "noise"}):
        write_run(tmp_path, "DGRM", config=differing, data={"fingerprint": "bbb"})
    assert sum(len(cell.rows) for cell in summarise(tmp_path).cells) == 4
    second = write_run(tmp_path, "NCF", data={"fingerprint": "bbb"})
    with pytest.raises(DataError) as error:
        summarise(tmp_path)
    for word in (str(first), str(second), "aaa", "bbb", "different splits"):
        assert word in str(error.value)


def test_unfinished_runs_are_no_rows_but_are_told(tmp_path):
    write_run(tmp_path, "MF", 1)
    unfinished = ["running", "interrupted", "diverged", "failed", "timed_out"]
    for seed, status in enumerate(unfinished, 2):
        write_run(tmp_path, "MF", seed, status=status, error="no more memory")
    write_run(tmp_path, "DGRM", 1, status="failed")
    summary = summarise(tmp_path)
    assert [(row.label, row.seeds) for cell in summary.cells for row in cell.rows] == [("MF", [1])]
    found = [(run.record["label"], run.record["status"], run.record["error"]) for run in summary.unfinished]
    assert sorted(found[1:]) == sorted(("MF", status, "no more memory") for status in unfinished)
    assert found[0][:2] == ("DGRM", "failed")


def test_what_cannot_be_summarised_is_refused_with_the_reason(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=f"there is no run in {folder}"):
            summarise(folder)
    write_run(tmp_path, "NCF", status="failed", error="no more memory")
    with pytest.raises(DataError, match="is finished; the error of the first: no more memory"):
        summarise(tmp_path)
    for label in ("MF", "DGRM small"):
        write_run(tmp_path, label)
    for baseline in ("PRGAN", "NCF"):
        with pytest.raises(DataError, match=rf"baseline='{baseline}'.*'DGRM small', 'MF'"):
            summarise(tmp_path, baseline)


def test_configurations_of_one_label_are_rows_that_name_the_keys_in_which_they_differ(tmp_path):
    """Where a run lies does not make it another, and a key may be missing from one of them."""
    for config in ({"factors": 2, "rate": 0.1}, {"factors": 4, "rate": 0.1}, {"factors": 4}):
        for seed in (1, 2):
            config |= {"epochs": 5, "output_dir": f"/there/{seed}", "data_path": f"/data/{seed}"}
            write_run(tmp_path, "MF", seed, config=config)
    write_run(tmp_path, "DGRM", 1, config={"steps": 3})
    rows = rows_of(only_cell(tmp_path))
    different = {"MF (factors=2, rate=0.1)", "MF (factors=4, rate=0.1)", "MF (factors=4, rate not set)"}
    assert rows.keys() == {"DGRM", *different}
    assert all(rows[label].seeds == [1, 2] for label in different)
    assert {run.record["config"]["factors"] for run in rows["MF (factors=2, rate=0.1)"].runs} == {2}


def test_of_two_equal_runs_the_newer_counts(tmp_path):
    for newer, value in {"a": 0.25, "b": 0.75}.items():
        for name, of_run in {"a": 0.25, "b": 0.75}.items():
            path = write_run(tmp_path / newer, "MF", vectors={}, test={NDCG: of_run}, name=name)
            age(path, 0 if name == newer else 1000)
        (row,) = only_cell(tmp_path / newer).rows
        assert (row.label, row.seeds, row.scores[NDCG].values.tolist()) == ("MF", [1], [value])


def test_the_plan_gives_the_order_of_rows_metrics_and_cells_and_the_baseline(tmp_path):
    models = ["NCF", {"model": "MF", "label": "MF small", "config": {"factors": 2}}, {"model": "DGRM"}]
    write_plan(tmp_path, models=models, protocols=["rated", "implicit"], metrics=["rmse", "auc", NDCG], baseline="NCF")
    for protocol in ("rated", "implicit"):
        for label in ("DGRM", "AAA not in the plan", "MF small", "NCF"):
            vectors = {name: draw(label + name, 1) for name in (NDCG, "mae", "rmse")}
            write_run(tmp_path, label, config={"protocol": protocol}, vectors=vectors)
    write_run(tmp_path, "EASE", config={"protocol": "full"}, vectors={"recall@10": draw("EASE", 1)})
    summary = summarise(tmp_path)
    assert [cell.protocol for cell in summary.cells] == ["rated", "implicit", "full"]
    for cell in summary.cells[:2]:
        assert [row.label for row in cell.rows] == ["NCF", "MF small", "DGRM", "AAA not in the plan"]
        assert all(list(row.scores) == ["rmse", NDCG] for row in cell.rows)
        assert (cell.metrics, cell.baseline) == (["rmse", NDCG], cell.rows[0])
        assert all(row.scores["rmse"].comparison for row in cell.rows[1:])
    assert summary.cells[2].metrics == ["recall@10"]  # it has none of the plan's
    assert summary.plan["metrics"] == ["rmse", "auc", NDCG]


def test_a_named_baseline_goes_before_the_plans_and_may_be_missing(tmp_path):
    write_run(tmp_path, "NCF", status="failed")
    for label, dataset in [("MF", "board"), ("DGRM", "board"), ("DGRM", "noise")]:
        write_run(tmp_path, label, config={"dataset": dataset})
    for planned, named, expected in (("MF", None, "MF"), ("MF", "DGRM", "DGRM"), ("NCF", None, None)):
        write_plan(tmp_path, models=["MF", "DGRM", "NCF"], baseline=planned)
        board, noise = summarise(tmp_path, named).cells
        assert (board.baseline and board.baseline.label) == expected
        compared = {row.label for row in board.rows if row.scores[NDCG].comparison}
        assert compared == ({"MF", "DGRM"} - {expected} if expected else set())
        assert (noise.baseline is None) == (expected != "DGRM")  # MF is not there
        assert noise.rows[0].scores[NDCG].comparison is None


def test_user_error_is_the_standard_error_over_users_of_what_is_a_mean_over_users(tmp_path):
    """Not of RMSE, whose vector holds squared errors."""
    squared = {seed: 2 * draw("squared", seed) for seed in (1, 2)}
    for seed in squared:
        test = {NDCG: draw("MF", seed).mean(), "rmse": math.sqrt(squared[seed].mean()), "auc": 0.5}
        write_run(tmp_path, "MF", seed, {NDCG: draw("MF", seed), "rmse": squared[seed]}, test=test)
    scores = only_cell(tmp_path).rows[0].scores
    over_seeds = (draw("MF", 1) + draw("MF", 2)) / 2
    assert scores[NDCG].user_error == pytest.approx(over_seeds.std(ddof=1) / math.sqrt(30))
    assert math.isnan(scores["rmse"].user_error)
    assert math.isnan(scores["auc"].user_error)


def test_a_record_that_contradicts_its_own_vectors_is_named(tmp_path):
    path = write_run(tmp_path, "MF", 1)
    write_run(tmp_path, "NCF", 1)
    assert faults(only_cell(tmp_path)) == []
    record = read_run(path).record
    write_json(path / "record.json", {**record, "test": {NDCG: record["test"][NDCG] - 0.01}})
    (sentence,) = faults(only_cell(tmp_path))
    assert sentence.startswith(f"ERROR in {path}: record.json has {NDCG}")


def test_a_baseline_in_two_configurations_is_the_newer_one(tmp_path):
    age(write_run(tmp_path, "MF", config={"factors": 2}), 1000)
    write_run(tmp_path, "MF", config={"factors": 3})
    write_run(tmp_path, "DGRM")
    published = {"source": "x", "protocols": ["rated"], "values": {"board": {"MF": {NDCG: 0.4}}}}
    write_plan(tmp_path, baseline="MF", published=published)
    for wanted in (None, "MF", "MF (factors=3)"):
        cell = only_cell(tmp_path, wanted)
        assert cell.baseline.label == "MF (factors=3)"
        assert rows_of(cell)["DGRM"].scores[NDCG].comparison is not None
    assert rows_of(cell)["MF (factors=2)"].scores[NDCG].published == 0.4
