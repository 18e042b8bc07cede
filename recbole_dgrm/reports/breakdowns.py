"""Results of models in parts of one data set: a row per model, and a column per group of users or of items.

Users are grouped by their ratings in training, and test ratings by those of their items.
"""

from collections.abc import Iterator

import pandas as pd

from recbole_dgrm.evaluation.metric_names import is_mean_over_users, metric_label, reference_label
from recbole_dgrm.reports.document import Table
from recbole_dgrm.reports.rows import Cell

GROUPS = {"users": "Users by their ratings in training", "items": "Items by their ratings in training"}
COUNTED = {"users": "users", "items": "test ratings"}


def group_tables(cell: Cell) -> Iterator[Table]:
    """A table per kind of groups and metric: the first metric that is a mean over users, and RMSE.

    Rows without groups are left out, and so are tables without rows.
    """
    ranking = next((metric for metric in cell.metrics if is_mean_over_users(metric)), "")
    for kind, metric in (("users", ranking), ("users", "rmse"), ("items", "rmse")):
        groups = _groups(cell, kind, metric)
        values = groups[metric].unstack()
        models = values.drop(index=0, errors="ignore").dropna(how="all")
        if len(models):
            sizes = groups.loc[list(models.index)].groupby("least").agg({"most": "max", "n": "mean"})
            values = values.loc[[*values.index.intersection([0]), *models.index], sizes.index]
            names = [reference_label("bias", "labeled"), *(row.label for row in cell.rows)]
            columns = [f"{_span(size.Index, size.most)} ({size.n:,.0f})" for size in sizes.itertuples()]
            frame = values.set_axis([names[row] for row in values.index]).set_axis(columns, axis=1)
            note = f"Means over seeds; in brackets the {COUNTED[kind]} of a group."
            title = f"{GROUPS[kind]}: {metric_label(metric)}, {cell.name}"
            yield Table.of_frame(title, frame, ".3f", note, quiet=len(values) - len(models))


def _groups(cell: Cell, kind: str, metric: str) -> pd.DataFrame:
    """Means over seeds of the ``most`` ratings, the size ``n`` and the metric of each group.

    The index is the number of the row, 0 for user + item means and from 1 on the models, and the ``least`` ratings.
    """
    of_seed = {record["seed"]: record for record in cell.records}  # all runs of a seed have the same user + item means
    rows = [("bias", list(of_seed.values())), *(("model", [run.record for run in row.runs]) for row in cell.rows)]
    groups = [
        {"row": number, **group}
        for number, (who, records) in enumerate(rows)
        for record in records
        for group in record["groups"].get(kind, {}).get(who, [])
    ]
    frame = pd.DataFrame(groups, columns=["row", "least", "most", "n", metric], dtype=float)
    return frame.astype({"row": int}).groupby(["row", "least"]).agg(lambda values: values.to_numpy().mean())


def _span(least: float, most: float) -> str:
    return f"{least:,.0f} to {most:,.0f}" if most == most else f"{least:,.0f} or more"
