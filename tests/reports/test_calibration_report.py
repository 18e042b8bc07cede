"""What a report and the table of a run say about models that return standard deviations."""

from pathlib import Path

import pytest
from reports_helpers import NDCG, only_cell, put, report_text

from recbole_dgrm.evaluation.calibration import NOMINAL
from recbole_dgrm.records import read_run
from recbole_dgrm.reports import calibration
from recbole_dgrm.reports.run_table import explanation

TITLE = "Uncertainty of the predictions"


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
    put(tmp_path / "without", "C", diagnosis={"seconds": 1.0})
    assert TITLE not in report_text(tmp_path / "without")


def test_a_row_is_the_mean_over_the_seeds_that_have_it(tmp_path):
    put_uncertain(tmp_path, "A", 1, crps=0.4, means=0.5)
    put_uncertain(tmp_path, "A", 2, crps=0.6, factor=0.5, means=0.7)
    put(tmp_path, "A", 3)
    cell = only_cell(tmp_path)
    found = calibration.by_row(cell)["A"]
    assert (found["crps"], calibration.of_means(cell)["crps"]) == (0.5, 0.6)
    assert calibration.covered(found, 0.9) == pytest.approx(0.675)


def test_the_table_of_a_run_ends_with_a_line_about_it(tmp_path):
    timing = {"train_s": 1.0, "best_epoch": 1, "epochs": 2}
    line = "its 90 % intervals cover 90.0 %, CRPS 0.4000 (a Gaussian around user + item means: 90.0 %, CRPS 0.5000)"
    record = read_run(put_uncertain(tmp_path, "A", crps=0.4)).record | {"timing": timing}
    assert line in explanation(record).splitlines()
    assert "intervals" not in explanation(record | {"valid": {NDCG: 0.5}}, "valid")
    assert "intervals" not in explanation(record | {"diagnosis": {}})
