"""Results of a cell by groups: of users by their ratings in training, of test ratings by those of their items."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from recbole_dgrm.evaluation.metric_names import is_mean_over_users, metric_label, reference_label, smaller_is_better
from recbole_dgrm.reports.document import Table, Value
from recbole_dgrm.reports.rows import Cell

RATED = "labeled"  # the mode in which groups have the reference row, too
WHO = {"users": "Users by their ratings in training", "items": "Items by their ratings in training"}
COUNTED = {"users": "users", "items": "test ratings"}
NOTE = "Means over seeds; in brackets the {counted} of a group. Best in bold."
Key = tuple[int, int | None]
Found = dict[Key, dict[str, Any]]


def tables(cell: Cell) -> Iterator[Table]:
    """A table per kind of groups and metric: the first metric that is a mean over users, and RMSE.

    Rows whose runs are of a version without groups are left out, and so are tables without rows.
    """
    first = next((metric for metric in cell.metrics if is_mean_over_users(metric)), None)
    for kind, metrics in (("users", [first, "rmse"]), ("items", ["rmse"])):
        for metric in metrics:
            rows = {row.label: _averaged([_of(run.record, kind, "model") for run in row.runs]) for row in cell.rows}
            rows = {label: found for label, found in rows.items() if any(metric in one for one in found.values())}
            if metric and rows:
                yield _table(cell, kind, metric, rows)


def _table(cell: Cell, kind: str, metric: str, rows: dict[str, Found]) -> Table:
    records = [run.record for row in cell.rows for run in row.runs]
    bias = _averaged(list({record["seed"]: _of(record, kind, "bias") for record in records}.values()))
    keys = sorted({key for found in rows.values() for key in found}, key=lambda key: key[0])
    shown = [np.mean([found[key]["n"] for found in rows.values() if key in found]) for key in keys]
    names = [f"{_span(key)} ({number:,.0f})" for key, number in zip(keys, shown, strict=True)]
    pick = min if smaller_is_better(metric) else max
    values = {key: [found[key][metric] for found in rows.values() if metric in found.get(key, {})] for key in keys}
    best = {key: pick(of_key, default=None) for key, of_key in values.items()}
    lines = [[Value(label), *(_value(found, key, metric, best[key]) for key in keys)] for label, found in rows.items()]
    quiet = [[Value(reference_label("bias", RATED)), *(_value(bias, key, metric) for key in keys)]] if bias else []
    title = f"{WHO[kind]}: {metric_label(metric)}, {cell.name}"
    return Table(title, ["", *names], lines, quiet, NOTE.format(counted=COUNTED[kind]))


def _of(record: dict[str, Any], kind: str, who: str) -> Found:
    """The groups of a record, by their span; none in records of older versions."""
    groups = record.get("groups", {}).get(kind, {}).get(who, [])
    return {(group["least"], group["most"]): group for group in groups}


def _averaged(several: Sequence[Found]) -> Found:
    """Means over seeds, group by group, of those seeds that have it."""
    keys = dict.fromkeys(key for found in several for key in found)
    parts = {key: [found[key] for found in several if key in found] for key in keys}
    return {
        key: {
            name: float(np.mean([each[name] for each in every]))
            for name in set.intersection(*map(set, every)) - {"least", "most"}
            if all(each[name] is not None for each in every)
        }
        for key, every in parts.items()
    }


def _span(key: Key) -> str:
    least, most = key
    return f"{least:,} or more" if most is None else f"{least:,} to {most:,}"


def _value(found: Found, key: Key, metric: str, best: float | None = None) -> Value:
    value = found.get(key, {}).get(metric)
    return Value("–") if value is None else Value(f"{value:.3f}", value, "best" if value == best else "")
