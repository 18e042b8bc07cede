"""What the figures of a benchmark show, and that people can read them."""

import re
from itertools import combinations, pairwise

import numpy as np
import pytest
from reports_helpers import NDCG, RATED, REFERENCE, draw, only_cell, put, write_plan

from recbole_dgrm.reports import benchmark_figures, figures
from recbole_dgrm.reports.benchmark_figures import accuracy_against_time, best_rows, forest, forest_words, frontier
from recbole_dgrm.reports.benchmark_report import write_report

BOTH = {
    name: {**scores, "rmse": value} for (name, scores), value in zip(REFERENCE.items(), (2.0, 1.0, 0.0), strict=True)
}


@pytest.fixture
def drawn(monkeypatch):
    """``drawn(draw, ...)``: the figure that it would have saved."""

    def make(draw, *arguments):
        caught = []
        monkeypatch.setattr(benchmark_figures, "save", lambda figure, path: caught.append(figure))
        draw(*arguments, "nowhere")
        return caught[0]

    return make


def bench(folder, baseline="MF", **shifts):
    """A cell of models whose NDCG and squared error are that much above those of MF, with seconds of training."""
    base, noise = draw("base", 1, 200) / 2, 0.05 * (draw("noise", 1, 200) - draw("noise", 1, 200).mean())
    for number, (label, shift) in enumerate({"MF": 0.0, **shifts}.items()):
        own = base + shift + noise * (label != "MF")
        vectors = {NDCG: own, "rmse": own, f"bias {NDCG}": base - 0.1, "bias rmse": base + 0.3}
        test = {NDCG: own.mean(), "rmse": float(np.sqrt(abs(own.mean())))}
        timing = {"train_s": 10.0**number}
        put(
            folder, label, vectors=vectors, test=test, reference=BOTH, config={**RATED, "epochs": number}, timing=timing
        )
    write_plan(folder, baseline=baseline)
    return only_cell(folder)


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def names(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_forest_plot_has_the_differences_of_the_table_best_on_top(tmp_path, drawn):
    cell = bench(tmp_path, better=0.1, worse=-0.05, same=0.0)
    ndcg, rmse = drawn(forest, cell).axes
    assert names(ndcg) == names(rmse) == ["better", "same", "worse", "user + item means"]
    rows = {row.label: row.scores[NDCG].comparison for row in cell.rows if row is not cell.baseline}
    for label, mark in (("better", " ▲"), ("same", ""), ("worse", " ▼")):
        shown = f"{rows[label].difference:+.4f}{mark}".replace("-", "−")
        assert shown in texts(ndcg)
    assert texts(ndcg)[-1] == "−0.1000"
    assert ndcg.get_xlabel() == "RatedNDCG@5 − that of MF   (better →)"
    spans = [line.get_xdata() for line in ndcg.lines if len(line.get_xdata()) == 2]
    assert any(list(span) == [rows["same"].low, rows["same"].high] for span in spans)


def test_in_a_forest_plot_better_is_right_also_where_less_is_better(tmp_path, drawn):
    ndcg, rmse = drawn(forest, bench(tmp_path, more=0.1)).axes
    left, right = ndcg.get_xlim()
    assert left < 0 < right
    left, right = rmse.get_xlim()
    assert left > 0 > right
    assert rmse.get_xlabel() == "squared error − that of MF   (less is better →)"
    assert texts(rmse)[0].endswith(" ▼")


def test_the_bias_row_has_an_interval_where_runs_have_its_values_per_user(tmp_path):
    cell = bench(tmp_path, other=0.1)
    (bias,) = [row for row in cell.reference if row.label == "bias"]
    test = bias.scores["rmse"].comparison
    assert test.difference == pytest.approx(0.3)
    assert not test.significant  # it is no model, and in no family of tests


def test_without_these_values_the_bias_row_is_a_point_of_its_mean_and_absent_from_errors(tmp_path, drawn):
    for label in ("MF", "A"):
        put(tmp_path, label, vectors={NDCG: draw(label, 1), "rmse": draw(label, 2)}, reference=BOTH)
    write_plan(tmp_path, baseline="MF")
    cell = only_cell(tmp_path)
    ndcg, rmse = drawn(forest, cell).axes
    assert names(ndcg) == ["A", "user + item means"]
    assert names(rmse) == ["A"]
    assert texts(ndcg)[-1] == f"{0.5 - cell.baseline.scores[NDCG].mean:+.4f}".replace("-", "−")


def test_a_row_far_beyond_the_others_is_an_arrow_with_its_number(tmp_path, drawn):
    axes = drawn(forest, bench(tmp_path, a=0.01, b=0.02, c=0.015, far=-30.0)).axes[0]
    assert axes.get_xlim()[0] > -3
    assert texts(axes)[names(axes).index("far")].startswith("−30.")
    assert [line.get_marker() for line in axes.lines].count("<") == 1


def test_differences_that_are_nearly_none_have_their_numbers_at_the_ticks():
    axes = figures.new_figure(2.0).subplots()
    point = benchmark_figures.Point("A", 3e-5, 1e-5, 5e-5, "", quiet=False)
    benchmark_figures._forest_panel(axes, [point], compared=True, turned=False)
    axes.figure.draw_without_rendering()
    assert axes.xaxis.get_offset_text().get_text() == ""
    assert "0.00004" in [tick.get_text().rstrip("0") for tick in axes.get_xticklabels()]


@pytest.mark.parametrize("ends", [(-0.0115, 0.0028), (-0.0912, -0.0002), (-2.6, 16.5), (1e-5, 9e-5)])
def test_numbers_at_the_ticks_do_not_touch(ends):
    axes, below = figures.new_figure(4.0).subplots(2)
    label = "DGRM of residuals, tuned"
    points = [benchmark_figures.Point(label, end, end, end, "", quiet=False) for end in ends]
    benchmark_figures._forest_panel(axes, points, compared=True, turned=False)
    wide = benchmark_figures.Point(label, 20.1743, 20.0, 20.2, benchmark_figures.WORSE, quiet=False)
    benchmark_figures._forest_panel(below, [wide], compared=True, turned=True)
    axes.figure.draw_without_rendering()
    boxes = [tick.get_window_extent() for tick in axes.get_xticklabels() if tick.get_text()]
    assert len(boxes) > 1
    assert all(left.x1 + 4 < right.x0 for left, right in pairwise(boxes))


def test_without_a_baseline_a_forest_plot_has_the_values(tmp_path, drawn):
    cell = bench(tmp_path, baseline=None, other=0.1)
    axes = drawn(forest, cell).axes[0]
    assert axes.get_xlabel() == "RatedNDCG@5   (better →)"
    assert names(axes) == ["other", "MF"]
    assert texts(axes) == [f"{row.scores[NDCG].mean:.4f}" for row in cell.rows[::-1]]
    assert forest_words(cell)[0] == "Metrics"
    assert forest_words(bench(tmp_path / "with", other=0.1))[0] == "Differences to MF"


@pytest.mark.parametrize(
    ("values", "smaller", "best"),
    [
        ([0.1, 0.3, 0.2, 0.4], False, [0, 1, 3]),
        ([0.4, 0.3, 0.3, 0.1], True, [0, 1, 3]),
        ([0.5, 0.5, 0.5, 0.5], False, [0]),
    ],
)
def test_the_frontier_is_what_nothing_beats_in_both(values, smaller, best):
    assert frontier([1, 2, 3, 4], values, smaller) == best
    assert frontier([4, 3, 2, 1], values[::-1], smaller) == [3 - place for place in best]


def test_of_models_that_take_as_long_the_better_is_on_the_frontier():
    assert frontier([1, 1], [0.1, 0.2], False) == [1]
    assert frontier([1, 1], [0.1, 0.2], True) == [0]


def test_accuracy_against_time_names_every_model_and_fades_the_beaten(tmp_path, drawn):
    axes = drawn(accuracy_against_time, bench(tmp_path, good=0.1, bad=-0.1), NDCG).axes[0]
    assert set(texts(axes)) == {"MF", "good", "bad", "user + item means"}
    colours = {line.get_ydata()[0].round(6): line.get_color() for line in axes.lines if line.get_marker() == "o"}
    assert [colour for _, colour in sorted(colours.items())] == [figures.PALE, *[figures.COLOURS[0]] * 2]
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("seconds", [0.29800000000000004, 1e-3, 0.0, 7e5])
def test_one_model_has_an_axis_of_seconds(tmp_path, drawn, seconds):
    put(tmp_path, "MF", timing={"train_s": seconds})
    put(tmp_path, "A", timing={"train_s": seconds * (1 + 1e-16)})
    axes = drawn(accuracy_against_time, only_cell(tmp_path), NDCG).axes[0]
    low, high = axes.get_xlim()
    assert high > 2 * low > 0
    assert np.isfinite(axes.transData.transform((max(seconds, 1e-3), 0.5))).all()


def test_errors_are_turned_so_that_up_is_better(tmp_path, drawn):
    axes = drawn(accuracy_against_time, bench(tmp_path, more=0.1), "rmse").axes[0]
    low, high = axes.get_ylim()
    assert low > high
    assert "less is better ↑" in axes.get_ylabel()


def test_texts_beside_points_that_lie_close_do_not_cover_each_other():
    figure = figures.new_figure(4.4)
    axes = figure.add_subplot()
    points = [(1 + 0.02 * (number % 4), 1 + 0.02 * (number // 4), f"model {number}", "black") for number in range(12)]
    axes.plot([0, 2], [0, 2], "o")
    figures.label_points(figure, axes, points, len(points))
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 12
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


def test_a_text_covers_points_and_lines_rather_than_another_text_or_the_frame():
    figure = figures.new_figure(4.4)
    axes = figure.add_subplot()
    for height in np.linspace(0, 2, 80):
        if abs(height - 1) > 0.08:  # room for one text
            axes.plot([0, 2], [height, height])
    named = [(0.01, 1.0, "a long name of a model", "black"), (0.01, 1.0, "a long name of another", "black")]
    figures.label_points(figure, axes, named, 2)
    one, other = (text.get_window_extent() for text in axes.texts if text.get_text())
    assert not one.overlaps(other)
    assert all(box.x0 >= axes.bbox.x0 and box.x1 <= axes.bbox.x1 for box in (one, other))


def test_a_point_that_may_have_no_text_has_none_where_it_would_cover_another():
    figure = figures.new_figure(4.4)
    axes = figure.add_subplot()
    points = [(1.0 + 1e-3 * number, 1.0, f"a long name of model {number}", "black") for number in range(40)]
    axes.plot([0, 2], [0, 2], "o")
    figures.label_points(figure, axes, points, 2)
    named = [text for text in axes.texts if text.get_text()]
    assert [text.get_text() for text in named[:2]] == ["a long name of model 0", "a long name of model 1"]
    assert 2 < len(named) < 40
    boxes = [text.get_window_extent() for text in named]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_the_best_rows_are_those_by_the_first_metric(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_figures, "MOST_ROWS", 2)
    cell = bench(tmp_path, a=0.1, b=0.2, c=-0.1)
    assert [row.label for row in best_rows(cell).rows] == ["a", "b"]


def test_every_figure_has_the_width_of_a_telephone(tmp_path):
    """Whatever names are long; a page scales it by no more than four fifths, and nothing scrolls."""
    labels = {"A name of more than forty letters that goes on and on": 0.1, "b": 0.2}
    bench(tmp_path, **labels)
    write_report(tmp_path, tmp_path)
    found = list(tmp_path.glob("figures/*.svg"))
    assert len(found) == 3
    for path in found:
        width = re.search(r'width="([\d.]+)pt"', path.read_text()).group(1)
        assert float(width) == pytest.approx(72 * figures.WIDTH)


def test_the_reliability_figure_is_as_wide(tmp_path):
    found = {"nominal": [0.5, 0.9], "observed": [0.4, 0.8]}
    benchmark_figures.reliability({"A": found}, found, tmp_path / "reliability")
    assert f'width="{72 * figures.WIDTH:g}pt"' in (tmp_path / "reliability.svg").read_text()
