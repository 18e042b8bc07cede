"""What a table comes to, in a sentence: who won, by how much, and whether that is more than chance."""

from recbole_dgrm.evaluation.metric_names import metric_label, reference_label, smaller_is_better
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.rows import Cell, Row


def headline(cell: Cell) -> str:
    """The best model by the first metric of the cell; says as well what cannot be said, and why."""
    metric = cell.metrics[0]
    rows = [row for row in cell.rows if metric in row.scores and not row.scores[metric].impossible]
    rows.sort(key=lambda row: row.scores[metric].mean, reverse=not smaller_is_better(metric))
    name = metric_label(metric)[:-2]
    if not rows:
        return f"No model has a valid {name}."
    best, *others = rows
    result = f"{name} {best.scores[metric].mean:.3f}"
    if not others:
        said = [f"{best.label} has {result}, and no other model stands beside it"]
    elif others[0].scores[metric].mean == best.scores[metric].mean:
        said = [f"{best.label} and {others[0].label} share the best {result}"]
    else:
        other = others[0] if best is cell.baseline or cell.baseline not in others else cell.baseline
        said = [
            f"{best.label} has the best {result}, {_ahead(best, other, metric, cell)}",
            _tested(best, other, metric),
        ]
    if best.scores[metric].below:
        said.append(f"{'even that' if others else 'it'} is worse than {reference_label('bias', cell_mode(cell))}")
    if len(best.seeds) == 1:
        said.append("it is from one seed, so how much another split or training would change is not known")
    return "; ".join(said) + "."


def _ahead(best: Row, other: Row, metric: str, cell: Cell) -> str:
    mine, theirs = best.scores[metric].mean, other.scores[metric].mean
    apart = abs(mine - theirs)
    share = f" ({apart / abs(theirs):.1%})" if theirs else ""
    role = "the baseline " if other is cell.baseline else ""
    side = "below" if smaller_is_better(metric) else "above"
    return (
        f"{apart:.3f}{share} {side} {role}{other.label}" if apart >= 5e-4 else f"{apart:.1e} {side} {role}{other.label}"
    )


def _tested(best: Row, other: Row, metric: str) -> str:
    """By the same test as the marks of the table."""
    test = best.scores[metric].comparison
    ahead = smaller_is_better(metric)  # the difference of a better row is below 0
    if test is None:  # the best may be the baseline, that the other is tested against
        test, ahead = other.scores[metric].comparison, not ahead
    if test is None:
        needs = "a baseline (--baseline=LABEL), a common seed and vectors by user"
        return f"whether that is more than chance is not tested: it needs {needs}"
    words = f"over {test.users:,} users (paired t-test and Wilcoxon test, Holm's correction)"
    if not test.significant:
        return f"the difference is not significant {words}"
    if (test.difference < 0) != ahead:
        return f"yet by user and on the common seeds it is significantly worse {words}"
    return f"the difference is significant {words}"


def faults(cell: Cell) -> list[str]:
    """Sentences about results that cannot be."""
    return [
        f"ERROR of recbole_dgrm: {run.record['label']}, seed {run.record['seed']}, has {metric} "
        f"{run.record['test'][metric]:.4f}, above the oracle's {run.record['reference']['oracle'][metric]:.4f}, which "
        f"cannot be; please report it with {run.path / 'record.json'}, and do not use these numbers."
        for row in cell.rows for run in row.runs for metric in comparable.above_oracle(run.record)
    ]  # fmt: skip


def cell_mode(cell: Cell) -> str:
    """How the models of the cell are tested, see ``recbole_dgrm.reports.comparable.tested_by``."""
    return comparable.tested_by(cell.rows[0].runs[0].record["config"])
