"""What the figures of a benchmark show, and that people can read them."""

import re
from itertools import pairwise

import numpy as np
import pytest
from reports_helpers import NDCG, RATED, REFERENCE, draw, drawn, only_cell, put, write_plan

from recbole_dgrm.reports import figures
from recbole_dgrm.reports.benchmark_figures import coverage, differences
from recbole_dgrm.reports.benchmark_report import write_report
from recbole_dgrm.reports.figures import Dot, DotPanel, dot_panels

BOTH = {
    name: {**scores, "rmse": value} for (name, scores), value in zip(REFERENCE.items(), (2.0, 1.0, 0.0), strict=True)
}


def bench(folder, baseline="MF", **shifts):
    """A cell of models whose NDCG and squared error are that much above those of MF, with seconds of training."""
    base, noise = draw("base", 1, 200) / 2, 0.05 * (draw("noise", 1, 200) - draw("noise", 1, 200).mean())
    for number, (label, shift) in enumerate({"MF": 0.0, **shifts}.items()):
        own = base + shift + noise * (label != "MF")
        vectors = {NDCG: own, "rmse": own, f"bias {NDCG}": base - 0.1, "bias rmse": base + 0.3}
        test = {NDCG: own.mean(), "rmse": float(np.sqrt(abs(own.mean())))}
        timing = {"train_s": 10.0**number}
        config = {**RATED, "epochs": number}
        put(folder, label, vectors=vectors, test=test, reference=BOTH, config=config, timing=timing)
    write_plan(folder, baseline=baseline)
    return only_cell(folder)


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def names(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_forest_plot_has_the_differences_of_the_table_best_on_top_and_to_the_right(tmp_path):
    cell = bench(tmp_path, better=0.1, worse=-0.05, same=0.0)
    ndcg, rmse = drawn(differences, cell).axes
    assert names(ndcg) == names(rmse) == ["better", "same", "worse", "user + item means"]
    (bias,) = [row.scores["rmse"].comparison for row in cell.reference if row.label == "bias"]
    assert bias.difference == pytest.approx(0.3)
    assert not bias.significant  # it is no model, and in no family of tests
    rows = {row.label: row.scores[NDCG].comparison for row in cell.rows if row is not cell.baseline}
    for label, mark in (("better", " ▲"), ("same", ""), ("worse", " ▼")):
        assert f"{rows[label].difference:+.4f}{mark}".replace("-", "−") in texts(ndcg)
    assert texts(ndcg)[-1] == "−0.1000"
    assert texts(rmse)[0].endswith(" ▼")
    spans = [line.get_xdata() for line in ndcg.lines if len(line.get_xdata()) == 2]
    assert any(list(span) == [rows["same"].low, rows["same"].high] for span in spans)
    (left, right), (more, less) = ndcg.get_xlim(), rmse.get_xlim()
    assert left < 0 < right
    assert more > 0 > less
    assert ndcg.get_xlabel() == "RatedNDCG@5 − that of MF   (better →)"
    assert rmse.get_xlabel() == "squared error − that of MF   (less is better →)"


def test_without_these_values_the_bias_row_is_a_point_of_its_mean_and_absent_from_errors(tmp_path):
    for label in ("MF", "A"):
        put(tmp_path, label, vectors={NDCG: draw(label, 1), "rmse": draw(label, 2)}, reference=BOTH)
    write_plan(tmp_path, baseline="MF")
    cell = only_cell(tmp_path)
    ndcg, rmse = drawn(differences, cell).axes
    assert names(ndcg) == ["A", "user + item means"]
    assert names(rmse) == ["A"]
    assert texts(ndcg)[-1] == f"{0.5 - cell.baseline.scores[NDCG].mean:+.4f}".replace("-", "−")


def test_a_row_far_beyond_the_others_is_an_arrow_with_its_number(tmp_path):
    axes = drawn(differences, bench(tmp_path, a=0.01, b=0.02, c=0.015, far=-30.0)).axes[0]
    assert axes.get_xlim()[0] > -3
    assert texts(axes)[names(axes).index("far")].startswith("−30.")
    assert [line.get_marker() for line in axes.lines].count("<") == 1


def test_numbers_at_the_ticks_are_plain_and_do_not_touch():
    for ends in [(-0.0115, 0.0028), (-0.0912, -0.0002), (-2.6, 16.5), (1e-5, 9e-5), (3e-5, 3e-5)]:
        dots = [Dot("DGRM of residuals, tuned", end, end, end, "") for end in ends]
        other = [Dot("A", 20.1, 20.0, 20.2, "−20.1743 ▼")]
        axes = drawn(dot_panels, [DotPanel(dots, "", 0.0), DotPanel(other, "")]).axes[0]
        assert axes.xaxis.get_offset_text().get_text() == ""
        boxes = [tick.get_window_extent() for tick in axes.get_xticklabels() if tick.get_text()]
        assert len(boxes) > 1
        assert all(left.x1 + 4 < right.x0 for left, right in pairwise(boxes))


def test_a_logarithmic_axis_of_one_value_has_two_ends():
    for seconds in (0.29800000000000004, 1e-3, 7e5):
        axes = figures.new_figure(2.0).subplots()
        axes.plot([seconds, seconds * (1 + 1e-16)], [0, 1])
        figures.log_axis(axes)
        low, high = axes.get_xlim()
        assert high > 2 * low > 0


def test_coverage_is_drawn_as_the_difference_from_what_is_promised():
    found = {"nominal": [0.5, 0.9], "observed": [0.52, 0.88], "n": 400}
    bad = {**found, "observed": [0.1, 0.2]}
    right, wrong = (axes for axes in drawn(coverage, {"A": found, "B": bad}, found).axes if axes.get_title())
    assert right.lines[-1].get_ydata() == pytest.approx([0.02, -0.02])
    assert [text.get_text() for text in wrong.texts] == ["90 % cover 20.0 %"]
    assert right.get_ylim() == (-0.1, 0.1)
    band = right.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(1.96 * np.sqrt(0.25 / 400))


def test_every_figure_has_the_width_of_a_telephone(tmp_path):
    """However long the names are; a page scales it by no more than four fifths, and nothing scrolls."""
    bench(tmp_path, **{"A name of more than forty letters that goes on and on": 0.1, "b": 0.2})
    write_report(tmp_path, tmp_path)
    (path,) = tmp_path.glob("figures/*.svg")
    assert float(re.search(r'width="([\d.]+)pt"', path.read_text()).group(1)) == pytest.approx(72 * figures.WIDTH)
