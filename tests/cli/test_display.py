"""What the terminal says of one run."""

import io
from pathlib import Path

from rich.console import Console

from recbole_dgrm.benchmarks.plan import PlannedRun
from recbole_dgrm.benchmarks.progress import State
from recbole_dgrm.cli.display import Board
from recbole_dgrm.records import RunDirectory
from recbole_dgrm.reports.run_table import explanation, run_table

NDCG = "ratedndcg@5"


def record(value: float, **changed) -> dict:
    return {
        "model": "MF",
        "dataset": "board",
        "protocol": "rated",
        "seed": 1,
        "test": {NDCG: value, "rmse": 0.5},
        "reference": {"random": {NDCG: 0.2, "rmse": 1.2}, "bias": {NDCG: 0.5, "rmse": 1.0}, "oracle": {NDCG: 0.9}},
        "skill": {NDCG: 0.4},
        "config": {"eval_args": {"mode": "labeled"}, "epochs": 9, "eval_step": 1},
        "data": {"n_train": 10, "n_valid": 1, "n_test": 2},
        "parameters": 7,
        "status": "finished",
        "timing": {"best_epoch": 4, "epochs": 9, "train_s": 1.0},
        **changed,
    }


def printed(table) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


def test_a_value_below_the_bias_row_is_marked_with_a_legend():
    for value in (0.4, 0.5, 0.6):
        text = printed(run_table(record(value)))
        assert (f"{value:.4f}†" in text) == ("† worse than the row bias" in text) == (value == 0.4)
        assert "0.5000†" not in text


def test_the_table_of_the_usual_metrics_fits_into_80_columns_and_the_times_are_named():
    names = ["ratedrecall@5", "ratedndcg@5", "rmse", "mae", "ratingkl"]
    test, bias = {**dict.fromkeys(names, 0.1), "rmse": 2.0, "mae": 2.0}, dict.fromkeys(names, 1.0)
    rows = {"random": bias, "bias": bias, "oracle": bias}
    timing = {"best_epoch": 4, "epochs": 9, "train_s": 1.0, "read_s": 0.34, "evaluate_s": 0.04, "calibrate_s": 12.0}
    wide = record(0.1, test=test, reference=rows, timing=timing, resolution=resolution(30))
    lines = printed(run_table(wide)).splitlines()
    assert any("resolution" in line for line in lines)
    assert max(len(line) for line in lines if "│" in line) <= 80
    assert "seconds: training 1.0 · reading 0.3 · calibration 12.0" in explanation(wide).splitlines()


def resolution(ratio: float) -> dict:
    noisy, sharp = {"ratio": ratio, "users": 3, "of": 1000}, {"ratio": 90.0, "users": 1000, "of": 1000}
    return {"test": {NDCG: noisy, "rmse": sharp}}


def test_the_table_has_the_resolution_and_one_line_names_the_noisy_metrics():
    noisy = record(0.6, resolution=resolution(20.4))
    text = explanation(noisy)
    said = "RatedNDCG@5 (resolution 20; a model can change it for 3 of 1,000 users) is too noisy to compare models"
    assert [line for line in text.splitlines() if "too noisy" in line] == [said]
    (row,) = [line for line in printed(run_table(noisy)).splitlines() if "resolution │" in line]
    assert row.split()[2::2] == ["20", "90"]
    assert "for RMSE and MAE 3 x (random - bias)); below 28 there are too few test ratings to compare" in text
    assert "too noisy" not in explanation(record(0.6, resolution=resolution(28)))
    without = printed(run_table(record(0.6))) + explanation(record(0.6))
    assert "resol" not in without
    assert "best of validation: epoch 4" in without


def test_a_model_that_ends_below_the_bias_row_gets_one_line():
    for mode, test, ratio, warning in [
        ("labeled", {NDCG: 0.9, "rmse": 1.01}, None, "worse than user + item means: RMSE is 1.0100, theirs 1.0000"),
        ("labeled", {NDCG: 0.4, "rmse": 0.99}, None, ""),
        ("labeled", {NDCG: 0.4}, 30, "worse than user + item means: RatedNDCG@5 is 0.4000, theirs 0.5000"),
        ("labeled", {NDCG: 0.4}, 20, ""),  # a metric that is too noisy
        ("labeled", {NDCG: 0.5}, None, ""),
        ("full", {NDCG: 0.4}, None, "worse than item popularity: RatedNDCG@5 is 0.4000, theirs 0.5000"),
    ]:
        found = record(0.0, test=test, selected_by="RatedNDCG@5", resolution=resolution(ratio) if ratio else {})
        found["config"]["eval_args"]["mode"] = mode
        text = explanation(found)
        lines = [line for line in text.splitlines() if line.startswith("WARNING")]
        assert lines == ([f"WARNING: MF is {warning}"] if warning else [])
        assert "best of validation by RatedNDCG@5: epoch 4" in text


def test_impossible_numbers_and_trainings_that_were_too_short_are_visible():
    assert "ERROR of recbole_dgrm: ratedndcg@5 better than the oracle" in explanation(record(0.95))
    assert "ERROR" not in explanation(record(0.9))
    for best, improves in ((9, True), (8, False)):
        text = explanation(record(0.6, timing={"best_epoch": best, "epochs": 9, "train_s": 1.0}))
        assert ("still improving, so more epochs (--epochs) may do better" in text) == improves
    text = printed(run_table(record(0.6, model="[/b]\x1b[31m", dataset="[red]x")))
    assert r"[/b]\x1b[31m on the test part of [red]x" in " ".join(text.split())


def test_a_line_of_a_benchmark_says_it_all():
    for changed, wanted in [
        (
            {"test": {NDCG: 0.4}},
            "[/b] on board, rated, seed 1: RatedNDCG@5 ↑ 0.4000 in 2.0 s; is worse than user + item means",
        ),
        ({"error": "its diagnosis failed: [/x]\x1b"}, r"; its diagnosis failed: [/x]\x1b"),
        ({"test": {NDCG: None}}, "RatedNDCG@5 ↑ no number in 2.0 s"),
        ({"selected_by": "RMSE"}, "RMSE ↓ 0.5000 in 2.0 s"),
        ({"status": "failed", "error": "[/x] no memory"}, "failed: [/x] no memory"),
    ]:
        saved = record(0.4, **{"diagnosis": {}, "error": None, **changed})
        saved["config"]["valid_metric"] = "RatedNDCG@5"
        run = PlannedRun("[/b]", {"dataset": "board", "protocol": "rated", "seed": 1}, "x")
        console = Console(file=io.StringIO(), width=300)
        Board(console).show(State({run: saved["status"]}, {}, (run, RunDirectory(Path("x"), saved), 2.0)))
        assert wanted in console.file.getvalue()
