"""Statistics of records: against scipy, by hand, and what is refused."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel, wilcoxon

from recbole_dgrm.comparison import compare, holm
from recbole_dgrm.errors import DataError
from recbole_dgrm.records import new_record, read_run, write_vectors
from recbole_dgrm.summary import summarise

USERS = np.array([f"u{index}" for index in range(40)])


@pytest.fixture
def save(tmp_path):
    """``save(label, seed, ...)``: a finished run below ``tmp_path/runs``."""

    def make(label, seed=1, vector=None, users=USERS, test=None, fingerprint="same", protocol="rated", **config):
        given = {"model": "MF", "dataset": "d", "protocol": protocol, "seed": seed, "output_dir": label, **config}
        path = tmp_path / "runs" / f"{label}-{protocol}-{seed}-{len(list(tmp_path.rglob('record.json')))}"
        path.mkdir(parents=True)
        record = asdict(new_record(given, label))
        values = test or ({"ratedndcg@5": float(np.mean(vector))} if vector is not None else {"ratedndcg@5": 0.5})
        reference = {"random": dict.fromkeys(values, 0.1), "oracle": dict.fromkeys(values, 0.9)}
        record |= {
            "status": "finished", "test": values, "reference": reference, "skill": {"ratedndcg@5": 0.5},
            "data": {"fingerprint": f"{fingerprint}{seed}"}, "timing": {"train_s": 1.0 * seed},
        }  # fmt: skip
        (path / "record.json").write_text(json.dumps(record))
        if vector is not None:
            write_vectors(path / "per_user.npz", {"user": users, "ratedndcg@5": vector, "rmse": vector**2})
        return path

    return make


def vectors(*means: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.clip(rng.normal(mean, 0.2, len(USERS)), 0, 1) for mean in means]


def only_cell(path: Path, *arguments):
    (cell,) = summarise(path / "runs", *arguments).cells
    return cell, {row.label: row for row in cell.rows}


def test_mean_deviation_and_tests_are_those_of_numpy_and_scipy(save, tmp_path):
    ours, theirs = vectors(0.55, 0.6), vectors(0.5, 0.52)
    theirs[1] = theirs[1][::-1]
    for seed in (1, 2):
        save("A", seed, ours[seed - 1])
        order = np.random.default_rng(seed).permutation(len(USERS))  # users stand in any order
        save("B", seed, theirs[seed - 1][order], USERS[order])
    _, rows = only_cell(tmp_path, "B")
    means = [vector.mean() for vector in ours]
    score = rows["A"].scores["ratedndcg@5"]
    assert score.mean == pytest.approx(np.mean(means))
    assert score.std == pytest.approx(np.std(means, ddof=1))
    a, b = (np.mean(part, axis=0) for part in (ours, theirs))
    assert score.user_error == pytest.approx(a.std(ddof=1) / np.sqrt(len(a)))
    expected = ttest_rel(a, b)
    test = score.comparison
    assert test.difference == pytest.approx((a - b).mean())
    assert (test.low, test.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (test.p_t, test.p_wilcoxon) == pytest.approx((expected.pvalue, wilcoxon(a, b).pvalue))
    assert (test.holm_t, test.holm_wilcoxon) == (test.p_t, test.p_wilcoxon)  # one model: nothing to correct
    assert rows["B"].scores["ratedndcg@5"].comparison is None


def test_holm_corrects_for_all_models_of_a_metric(save, tmp_path):
    base, *others = vectors(0.5, 0.56, 0.52, 0.6)
    save("base", vector=base)
    for name, vector in zip("XYZ", others, strict=True):
        save(name, vector=vector)
    _, rows = only_cell(tmp_path, "base")
    tests = [rows[name].scores["ratedndcg@5"].comparison for name in "XYZ"]
    assert [test.holm_t for test in tests] == pytest.approx(holm(np.array([test.p_t for test in tests])))
    assert max(test.holm_t / test.p_t for test in tests) == pytest.approx(3)
    assert not any(test.significant for test in tests if max(test.holm_t, test.holm_wilcoxon) >= 0.05)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.6])) == pytest.approx([1.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_p_and_bonferroni_and_keeps_the_order(p):
    p = np.array(p)
    corrected = holm(p)
    assert np.all(corrected >= p)
    assert np.all(corrected <= np.minimum(p * len(p), 1) + 1e-12)
    assert np.all(np.diff(corrected[np.argsort(p, kind="stable")]) >= 0)
    assert holm(p[::-1])[::-1] == pytest.approx(corrected)


def test_only_users_and_seeds_that_both_have_are_compared(save, tmp_path):
    ours, theirs = vectors(0.6, 0.5)
    save("A", 1, ours)
    save("A", 2, np.zeros(len(USERS)))  # a seed that the baseline lacks
    save("B", 1, theirs[5:], USERS[5:])
    _, rows = only_cell(tmp_path, "B")
    test = rows["A"].scores["ratedndcg@5"].comparison
    assert test.users == len(USERS) - 5
    assert test.difference == pytest.approx((ours - theirs)[5:].mean())


def test_equal_vectors_differ_by_nothing():
    vector = pd.Series(vectors(0.5)[0], index=USERS)
    test = compare(vector, vector.sample(frac=1, random_state=0))
    assert (test.difference, test.p_t, test.p_wilcoxon) == (0, 1, 1)


def test_best_and_second_know_which_way_is_better(save, tmp_path):
    for label, ndcg, rmse in [("A", 0.5, 1.0), ("B", 0.6, 0.9), ("C", 0.6, 1.1)]:
        save(label, test={"ratedndcg@5": ndcg, "rmse": rmse})
    _, rows = only_cell(tmp_path)
    assert [rows[label].scores["ratedndcg@5"].place for label in "ABC"] == [2, 1, 1]
    assert [rows[label].scores["rmse"].place for label in "ABC"] == [2, 1, 0]


def test_a_metric_that_is_no_mean_over_users_has_no_error_over_users(save, tmp_path):
    vector = vectors(0.5)[0]
    save("A", vector=vector, test={"ratedndcg@5": vector.mean(), "rmse": np.sqrt((vector**2).mean())})
    _, rows = only_cell(tmp_path)
    assert np.isfinite(rows["A"].scores["ratedndcg@5"].user_error)
    assert np.isnan(rows["A"].scores["rmse"].user_error)


def test_runs_on_different_splits_are_an_error(save, tmp_path):
    save("A", 1)
    save("A", 2)
    save("B", 1, protocol="full", fingerprint="another")
    summarise(tmp_path / "runs")  # seeds and protocols have splits of their own
    wrong = save("C", 2, fingerprint="another")
    with pytest.raises(DataError, match=f"{wrong.name} and .*A-rated-2.* saw different splits"):
        summarise(tmp_path / "runs")


def test_a_run_without_a_result_is_no_row(save, tmp_path):
    save("A")
    failed = save("B")
    record = json.loads((failed / "record.json").read_text())
    (failed / "record.json").write_text(json.dumps({**record, "status": "failed", "error": "why", "test": {}}))
    summary = summarise(tmp_path / "runs")
    assert [row.label for row in summary.cells[0].rows] == ["A"]
    assert [run.record["error"] for run in summary.unfinished] == ["why"]


def test_nothing_to_report_is_said(save, tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(DataError, match="there is no run in"):
        summarise(tmp_path / "runs")
    path = save("A")
    with pytest.raises(DataError, match=r"baseline='Z' has no finished run; there are \['A'\]"):
        summarise(tmp_path / "runs", "Z")
    record = json.loads((path / "record.json").read_text())
    (path / "record.json").write_text(json.dumps({**record, "status": "failed", "error": "why"}))
    with pytest.raises(DataError, match=r"no run in .* is finished; the first: why"):
        summarise(tmp_path / "runs")


def test_one_label_with_two_configurations_becomes_two_rows(save, tmp_path):
    save("A", 1, factors=8, where=1)
    save("A", 2, factors=8, where=1)
    save("A", 1, factors=4, where=1)
    cell, rows = only_cell(tmp_path)
    assert set(rows) == {"A (factors=8)", "A (factors=4)"}
    assert rows["A (factors=8)"].seeds == cell.seeds == [1, 2]


def test_the_same_run_twice_counts_once(save, tmp_path):
    save("A", test={"rmse": 1.0})
    save("A", test={"rmse": 2.0}, output_dir="elsewhere")
    _, rows = only_cell(tmp_path)
    assert list(rows["A"].scores["rmse"].values) == [2.0]


def test_the_plan_gives_order_metrics_baseline_and_published_numbers(save, tmp_path):
    for label in "ABC":
        for protocol in ("rated", "table3"):
            save(label, vector=vectors(0.5)[0], test={"rmse": 1.0, "ratedndcg@5": 0.5}, protocol=protocol)
    plan = {
        "models": ["C", {"model": "MF", "label": "A"}, "B"], "protocols": ["table3", "rated"], "baseline": "B",
        "metrics": ["ratedndcg@5", "recall@10"],
        "published": {"source": "a paper", "protocols": ["table3"], "values": {"d": {"A": {"ratedndcg@5": 0.6}}}},
    }  # fmt: skip
    (tmp_path / "runs" / "benchmark.json").write_text(json.dumps(plan))
    table3, rated = summarise(tmp_path / "runs").cells
    assert (table3.protocol, table3.metrics, table3.baseline.label) == ("table3", ["ratedndcg@5"], "B")
    assert [row.label for row in table3.rows] == ["C", "A", "B"]
    published = [row.scores["ratedndcg@5"].published for row in table3.rows]
    assert published == pytest.approx([np.nan, 0.6, np.nan], nan_ok=True)
    assert all(np.isnan(row.scores["ratedndcg@5"].published) for row in rated.rows)


def test_a_broken_record_and_pickled_vectors_are_refused(save, tmp_path):
    path = save("A")
    (path / "record.json").write_text("{")
    with pytest.raises(DataError, match=r"record\.json is not the record of a run"):
        read_run(path)
    path = save("B")
    np.savez(path / "per_user.npz", user=USERS, evil=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_run(path).per_user()
