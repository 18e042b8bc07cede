"""Sentences of a report about a cell: who is best, who is worse than user + item means, and results that cannot be."""

from recbole_dgrm.evaluation.metric_names import metric_label, reference_label, smaller_is_better
from recbole_dgrm.evaluation.resolution import is_precise, too_noisy
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.rows import Cell, ModelRow
from recbole_dgrm.system.texts import listed


def headline(cell: Cell) -> str:
    """Which model is best by the first precise metric, by how much, whether significantly, and what is not known."""
    metric = cell.main_metric
    rows = [row for row in cell.ranked(metric) if metric in row.scores and not row.scores[metric].impossible]
    name = metric_label(metric)[:-2]
    if not rows:
        return f"No model has a valid {name}."
    best, *others = rows
    result = f"{name} {best.scores[metric].mean:.3f}"
    if not others:
        parts = [f"{best.label} has {result}, and there is no other model to compare it with"]
    elif others[0].scores[metric].mean == best.scores[metric].mean:
        parts = [f"{best.label} and {others[0].label} share the best {result}"]
    else:
        other = others[0] if best is cell.baseline or cell.baseline not in others else cell.baseline
        parts = [f"{best.label} has the best {result}, {_margin(best, other, metric, cell)}"]
        parts.append(_test_result(best, other, metric))
    if best.scores[metric].below:
        parts.append(f"{'even that' if others else 'it'} is worse than {reference_label('bias', cell.mode)}")
    if len(best.seeds) == 1:
        parts.append("it is from one seed, so how much another split or training would change is not known")
    return "; ".join([*parts, *filter(None, [too_noisy(cell.resolution, cell.metrics)])]) + "."


def _margin(best: ModelRow, other: ModelRow, metric: str, cell: Cell) -> str:
    mine, theirs = best.scores[metric].mean, other.scores[metric].mean
    margin = abs(mine - theirs)
    share = f" ({margin / abs(theirs):.1%})" if theirs else ""
    role = "the baseline " if other is cell.baseline else ""
    side = "lower than that of" if smaller_is_better(metric) else "higher than that of"
    return f"{f'{margin:.3f}{share}' if margin >= 5e-4 else f'{margin:.1e}'} {side} {role}{other.label}"


def _test_result(best: ModelRow, other: ModelRow, metric: str) -> str:
    """What the test that marks the table says about the difference of two rows."""
    test = best.scores[metric].comparison
    negative = smaller_is_better(metric)  # the sign of a difference that favours the best row
    if test is None:  # the best may be the baseline, that the other is tested against
        test, negative = other.scores[metric].comparison, not negative
    if test is None:
        needs = "a baseline (--baseline=LABEL), a common seed and values per user"
        return f"whether that is more than chance is not tested: it needs {needs}"
    words = f"over {test.users:,} users (paired t-test and Wilcoxon test, Holm's correction)"
    if not test.significant:
        return f"the difference is not significant {words}"
    if (test.difference < 0) != negative:
        return f"yet by user and on the common seeds it is significantly worse {words}"
    return f"the difference is significant {words}"


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
