"""Results of models in parts of the data: tables with a row per model and a column per part.

The parts of one data set are groups of its users by their ratings in training, and of its test ratings by those of
their items. ``recbole_dgrm.reports.densities`` has the parts of a whole benchmark.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from recbole_dgrm.evaluation.metric_names import is_mean_over_users, metric_label, reference_label, smaller_is_better
from recbole_dgrm.reports.document import Table, Value
from recbole_dgrm.reports.rows import Cell

GROUPS = {"users": "Users by their ratings in training", "items": "Items by their ratings in training"}
COUNTED = {"users": "users", "items": "test ratings"}


def breakdown(
    title: str, rows: Sequence[tuple[str, Mapping[str, Value]]], parts: Sequence[str], note: str, quiet: int = 0
) -> Table:
    """The table of the values that each row has by part; a dash where it has none."""
    lines = [[values.get(part) for part in parts] for _, values in rows]
    frame = pd.DataFrame(lines, [name for name, _ in rows], list(parts), dtype=object)
    return Table.of_frame(title, frame, note=note, quiet=quiet)


def group_tables(cell: Cell) -> Iterator[Table]:
    """A table per kind of groups and metric: the first metric that is a mean over users, and RMSE.

    Rows without groups are left out, and so are tables without rows.
    """
    ranking = next((metric for metric in cell.metrics if is_mean_over_users(metric)), "")
    for kind, metric in (("users", ranking), ("users", "rmse"), ("items", "rmse")):
        rows = {row.label: _means([run.record for run in row.runs], kind, "model", metric) for row in cell.rows}
        rows = {label: means for label, means in rows.items() if means[metric].notna().any()}
        if rows:
            yield _group_table(cell, kind, metric, rows)


def _means(records: list[dict[str, Any]], kind: str, who: str, metric: str) -> pd.DataFrame:
    """Means over the records that have a group of its size ``n`` and of the metric, by the ``least`` of its ratings."""
    groups = [group for record in records for group in record["groups"].get(kind, {}).get(who, [])]
    frame = pd.DataFrame(groups, columns=["least", "most", "n", metric], dtype=float)
    return frame.groupby("least").agg(lambda values: values.to_numpy().mean())


def _group_table(cell: Cell, kind: str, metric: str, rows: dict[str, pd.DataFrame]) -> Table:
    groups = pd.concat(rows.values()).groupby(level=0)
    best = groups[metric].agg("min" if smaller_is_better(metric) else "max")
    sizes = groups.agg({"most": "max", "n": "mean"})
    names = {line.Index: f"{_span(line.Index, line.most)} ({line.n:,.0f})" for line in sizes.itertuples()}
    of_seed = {record["seed"]: record for record in cell.records}  # all runs of a seed have the same means
    bias = _means(list(of_seed.values()), kind, "bias", metric)
    lines = [(reference_label("bias", "labeled"), _values(bias, metric, names))] if len(bias) else []
    quiet = len(lines)
    lines += [(label, _values(means, metric, names, best)) for label, means in rows.items()]
    note = f"Means over seeds; in brackets the {COUNTED[kind]} of a group. Best in bold."
    title = f"{GROUPS[kind]}: {metric_label(metric)}, {cell.name}"
    return breakdown(title, lines, list(names.values()), note, quiet)


def _span(least: float, most: float) -> str:
    return f"{least:,.0f} to {most:,.0f}" if most == most else f"{least:,.0f} or more"


def _values(
    means: pd.DataFrame, metric: str, names: dict[float, str], best: Mapping[float, float] | None = None
) -> dict[str, Value]:
    """The values of a row by the names of the groups."""
    written = {names[least]: Value.of(value, ".3f") for least, value in means[metric].items() if least in names}
    winners = [names[least] for least, value in means[metric].items() if best is not None and value == best[least]]
    return written | {name: replace(written[name], emphasis="best") for name in winners}
