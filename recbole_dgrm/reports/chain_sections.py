"""The sections of a diagnosis about a model's chain of noise steps: steps at prediction, and steps in training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.evaluation.resolution import averaged, blunt
from recbole_dgrm.reports import collapse_figures, comparable
from recbole_dgrm.reports.collapse_runs import Watched
from recbole_dgrm.reports.collapse_sections import figure, number, on_ml_100k, write_csv
from recbole_dgrm.reports.document import Heading, Table, Value
from recbole_dgrm.system.texts import listed

PUBLISHED_STEPS = {5: (0.547, 0.572), 1: (0.557, 0.583), None: (0.567, 0.593)}  # Table 4, ML-100K: Recall, NDCG


def denoising_steps(runs: list[Watched], folder: Path) -> Iterator[Any]:
    """How good predictions are after 0, 1, ... denoising steps (Fig. 7)."""
    yield Heading("Denoising steps T' (Fig. 7)")
    key = next(key for key in runs[0].found["sweep"][0] if key.startswith(("ratedndcg", "ndcg")))
    lines, rows = {}, []
    for run in runs:
        for prediction in ("posterior", "x_0_hat"):
            points = [point for point in run.found["sweep"] if point["prediction"] == prediction]
            if not points:
                continue
            steps, values = [point["denoising_steps"] for point in points], [point[key] for point in points]
            lines[f"{run.name}, {prediction}"] = steps, values
            rows += [[run.name, prediction, *pair] for pair in zip(steps, values, strict=True)]
    write_csv(folder, "sweep", ["model", "prediction", "denoising_steps", f"validation {key}"], rows)
    top = runs[0].found["sweep"][0]["prediction_noise_steps"]
    caption = (
        f"One trained model, prediction from the profile noised {top} times, T' steps back. posterior: the state "
        "x_(T-T') of section 3.3; x_0_hat: the generator's last output. On validation; the test part is not used."
    )
    metric = metric_label(key)[:-2]
    yield figure(folder, "sweep", "Denoising steps", caption, collapse_figures.sweep, lines, metric)
    told = []
    for name, (steps, values) in lines.items():
        best, worst = (steps[int(choose(values))] for choose in (np.argmax, np.argmin))
        told.append(f"{name} is best at T' = {best} ({max(values):.3f}) and worst at {worst} ({min(values):.3f})")
    yield "; ".join(told) + "."
    yield from _unclear(runs, "valid", [key])


def fixed_steps(runs: list[Watched], folder: Path) -> Iterator[Any]:
    """How good models are that were trained with one noise step only (Table 4)."""
    yield Heading("Fixed noise steps in training (Table 4)")
    chosen = [run for run in runs if "fixed_step" in run.record["config"]]
    tests = [run.record["test"] for run in chosen]
    common = [name for name in tests[0] if all(test.get(name) is not None for test in tests)]
    names = [name for name in common if name.startswith(("ratedrecall", "ratedndcg"))]
    if not names:
        yield "The runs have no ranking of rated items in common."
        return
    published = on_ml_100k(chosen)
    columns = ["", *(metric_label(name) for name in names), *(["published Recall / NDCG"] if published else [])]
    rows, lines = [], []
    for run in chosen:
        values, step = [run.record["test"][name] for name in names], run.record["config"]["fixed_step"]
        row = [Value(run.name), *(number(value, "{:.3f}") for value in values)]
        pair = PUBLISHED_STEPS.get(step) if run.name == ("DGRM" if step is None else f"DGRM, t = {step}") else None
        rows.append(row + [Value(f"{pair[0]:.3f} / {pair[1]:.3f}" if pair else "")] * published)
        lines.append([run.name, step, *values])
    write_csv(folder, "fixed_step", ["model", "fixed_step", *names], lines)
    panels = {metric_label(name): {run.name: (run.record["test"][name],) * 3 for run in chosen} for name in names}
    title = "Fixed noise steps"
    yield figure(folder, "fixed_step", title, "Test part, one run each.", collapse_figures.bars, panels)
    note = "Test part, tied scores shared. Only training is fixed to t; prediction is as configured."
    note += " Published numbers are of another protocol (table3)." if published else ""
    yield Table(title, columns, rows, note=note)
    name = names[-1]
    told = listed(f"{run.name} {run.record['test'][name]:.3f}" for run in chosen)
    yield f"{metric_label(name)[:-2]}: {told}. From one seed: differences as small as the error over users say nothing."
    yield from _unclear(chosen, "test", names)


def _unclear(runs: list[Watched], part: str, metrics: list[str]) -> Iterator[str]:
    """A sentence about those of the metrics that cannot tell models apart on a part of the data, if there are any."""
    if said := blunt(averaged([comparable.resolutions(run.record, part) for run in runs]), metrics):
        yield f"On this data {said}."
