"""Sentences of a report about a cell: who is best, who is worse than user + item means, and results that cannot be."""

from collections.abc import Iterator

from recbole_dgrm.evaluation.metric_names import metric_label, reference_label, smaller_is_better
from recbole_dgrm.evaluation.resolution import is_precise, too_noisy
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.rows import Cell
from recbole_dgrm.reports.significance import FEW
from recbole_dgrm.system.texts import listed

NAMED = 3  # models that are level and named, at most


def headline(cell: Cell) -> str:
    """Who is ahead by how much in which metric, who is level, and what is not known, in one sentence.

    It is about the metrics that are precise enough to compare models, first the metric of the selection and RMSE.
    """
    metrics = [metric for metric in cell.metrics if is_precise(cell.resolution, metric)] or cell.metrics[:1]
    first = [str(cell.records[0]["selected_by"]).lower(), "rmse"]
    metrics = sorted(metrics, key=lambda metric: first.index(metric) if metric in first else len(first))
    alike: dict[tuple[str, ...], list[str]] = {}
    for metric in metrics:
        alike.setdefault(tuple(row.label for row in cell.leading.get(metric, [])), []).append(metric)
    parts = [part for labels, of_labels in alike.items() if labels for part in _standing(cell, labels, of_labels)]
    if not parts:
        parts.append(f"in {_names(metrics)} nothing is tested, which needs common seeds and values per user")
    if any(row.scores[metrics[0]].below for row in cell.valid(metrics[0])[:1]):
        parts.append(f"the best {_names(metrics[:1])} is worse than {reference_label('bias', cell.mode)}")
    if len(cell.seeds) == 1:
        parts.append("all this is of these trainings and not of the methods, because there is only one seed")
    return "; ".join([*parts, *filter(None, [too_noisy(cell.resolution, cell.metrics)])]) + "."


def _standing(cell: Cell, labels: tuple[str, ...], metrics: list[str]) -> Iterator[str]:
    """Clauses about the metrics in which the same rows lead."""
    values = [f"{_names([metric])} {cell.leading[metric][0].scores[metric].mean:.3f}" for metric in metrics]
    if all(len(cell.valid(metric)) == 1 for metric in metrics):
        yield f"{labels[0]} has {listed(values)}, and there is no other model to compare it with"
    elif len(cell.seeds) == FEW:
        yield f"{labels[0]} has the best {listed(values)}, but two seeds cannot tell it from chance"
    elif len(labels) == 1:
        ahead = [value + _margin(cell, metric) for value, metric in zip(values, metrics, strict=True)]
        yield f"{labels[0]} is significantly ahead in {listed(ahead)}"
    else:
        who = f"{len(labels)} of {len(cell.rows)} models" if len(labels) > NAMED else " and ".join(labels)
        yield f"{who} are level in {_names(metrics)} (best: {labels[0]} with {listed(values)})"


def _margin(cell: Cell, metric: str) -> str:
    """By how much the best row is ahead of the next."""
    best, *others = cell.valid(metric)
    margins = [abs(best.scores[metric].mean - other.scores[metric].mean) for other in others[:1]]
    side = "below" if smaller_is_better(metric) else "above"
    return "".join(f" ({margin:.3f} {side} {others[0].label})" for margin in margins)


def _names(metrics: list[str]) -> str:
    return listed(metric_label(metric)[:-2] for metric in metrics)


def worse_than_bias(cell: Cell) -> list[str]:
    """Sentences about models that are worse than the bias row; see ``comparable.metric_against_bias``."""
    named: dict[str, list[str]] = {}
    for row in cell.rows:
        metric = comparable.metric_against_bias(row.runs[0].record)
        score = row.scores.get(metric)
        if score and score.below and is_precise(cell.resolution, metric):
            named.setdefault(metric, []).append(row.label)
    bias = reference_label("bias", cell.mode)
    return [f"Worse than {bias} in {metric_label(key)[:-2]}: {listed(rows)}." for key, rows in named.items()]


def faults(cell: Cell) -> list[str]:
    """Sentences about results that cannot be: better than the oracle, or not the mean of their own vectors."""
    runs = [run for row in cell.rows for run in row.runs]
    contradictions = [
        f"ERROR in {run.path}: record.json has {metric} {run.record['test'][metric]:.4f}, but the mean of the users in "
        f"per_user.npz is {mean:.4f}, so the two files are of different runs; make this run again, and do not use its "
        "numbers."
        for run in runs
        for metric, mean in comparable.contradicted(run).items()
    ]
    return contradictions + [
        f"ERROR of recbole_dgrm: {run.record['label']}, seed {run.record['seed']}, has {metric} "
        f"{run.record['test'][metric]:.4f}, above the oracle's {run.record['reference']['oracle'][metric]:.4f}, which "
        f"cannot be; please report it with {run.path / 'record.json'}, and do not use these numbers."
        for run in runs
        for metric in comparable.above_oracle(run.record)
    ]
