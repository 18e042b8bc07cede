"""Mode collapse: the criteria by which predictions are called collapsed, and the epoch in which a collapse began.

Predicted ratings are compared with the ratings that the model was trained on. Predictions have **collapsed** if one of
these holds:

    constant   their standard deviation is below a tenth of that of the ratings
    few        they take less than half as many distinct values as the ratings (effective numbers: the exponential of
               the entropy of the counts; predictions are counted in fine bins, ratings by level)
    ends       too many lie at the ends of the scale: the share that rounds to a level between the lowest and the
               highest is less than half of the same share among the ratings (as in the paper's Figs. 3 and 5)
    alike      users hardly differ: less than a hundredth of the variance is left after the mean prediction of each
               item is subtracted

They are **narrow** if the share of predictions at a level is less than a tenth of its share among the ratings: a mode
is lost. That is not a collapse, because predicted means always vary less than the ratings.

If scores are not ratings, the top-N lists are examined instead. Lists have **collapsed** if there is at most one
distinct list per 100 users (with fewer than 100 users: if all have the same list). This is checked on the lists of
unseen items and on the lists of all items; the second check detects models whose lists differ only because users have
seen different items.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_dgrm.evaluation.distribution import Bins, Sample, effective_number

CONSTANT = 0.1  # of the ratings' standard deviation; user + item means on ML-100K have more than half of it
FEW = 0.5  # of the ratings' distinct values; continuous predictions fill finer bins, so they should have more
INSIDE = 0.5  # of the ratings' share between the ends of the scale; 0 if only the two ends are predicted
ALIKE = 0.01  # of the variance; on ML-100K at least a quarter of it is between users, a tenth for collapsed CFGAN
COVERED = 0.1  # of a level's share among the ratings; with less than that the level is lost
ALIKE_LISTS = 0.01  # distinct lists per user; nearly all personal lists are distinct
DISTRIBUTION = "distribution"  # key of the distribution of predictions, in records and in lines of epochs
COLLAPSED, NARROW, INTACT, UNKNOWN = "collapsed", "narrow", "intact", "unknown"
NAMED = 3  # levels that a sentence names, at most
ORDER = (COLLAPSED, NARROW, INTACT, UNKNOWN)  # worst first


@dataclass(frozen=True)
class Finding:
    """A status and its reason."""

    status: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The finding about the tested model, and about the training that led to it.

    Attributes:
        status, reason: the finding about the tested model.
        epoch: epoch of the tested model, from 1; None if training has no epochs.
        since: first epoch of a collapse that lasted until the end of training; None if there was none.
        training: the reason of that collapse in the last inspected epoch.
        passing: epochs with a collapse that did not last; those before the first epoch without a collapse are not
            counted, since an untrained network predicts the same for everybody.
    """

    status: str
    reason: str
    epoch: int | None = None
    since: int | None = None
    training: str = ""
    passing: tuple[int, ...] = ()

    @property
    def line(self) -> str:
        """The whole verdict in one line."""
        words = {COLLAPSED: "COLLAPSED", NARROW: "none, but narrow", INTACT: "none", UNKNOWN: "not judged"}
        text = f"{words[self.status]}: {self.reason}"
        if self.since is not None:
            text += f"; training is collapsed from epoch {self.since} on"
            text += "" if self.status == COLLAPSED else f" ({self.training}), tested epoch: {self.epoch}"
        elif self.passing:
            text += f"; collapsed for a while at epoch {', '.join(map(str, self.passing))}"
        return text


def judge(predicted: Sample, given: Sample, between_users: float | None = None) -> Finding:
    """Whether the ``predicted`` ratings have collapsed, compared with the ``given`` ratings.

    ``between_users`` is the share of the variance of predictions that is between users; None if it is unknown.
    """
    few = predicted.values / float(effective_number(given.shares))
    inside = (1 - predicted.ends) / max(1 - given.ends, np.finfo(float).tiny)
    if predicted.std < CONSTANT * given.std:
        return Finding(COLLAPSED, f"predictions hardly differ: {_deviations(predicted, given)}")
    if few < FEW:
        number = float(effective_number(given.shares))
        return Finding(COLLAPSED, f"predictions take {predicted.values:.1f} distinct values, ratings {number:.1f}")
    if inside < INSIDE and len(given.shares) > 2:
        shares = (
            f"{predicted.ends:.0%} of the predictions lie at the ends of the scale, {given.ends:.0%} of the ratings"
        )
        return Finding(COLLAPSED, shares)
    if between_users is not None and between_users < ALIKE:
        return Finding(COLLAPSED, f"{between_users:.1%} of the variance is between users: everybody gets the same")
    missing = lost(predicted, given)
    if missing.any():
        shares = f"{predicted.shares[missing].sum():.1%}, and {given.shares[missing].sum():.1%} of the ratings"
        levels = f"hardly any prediction is {_named(predicted, missing)} ({shares})"
        return Finding(NARROW, f"{levels}; {_deviations(predicted, given)}")
    return Finding(INTACT, f"every level of the ratings is predicted; {_deviations(predicted, given)}")


def judge_lists(lists: Mapping[str, Any]) -> Finding:
    """Whether everybody gets the same list, by the entry ``lists`` of ``diagnosis.inspect``; for scores of any kind."""
    reason = f"the scores are not ratings; {lists_line(lists)}"
    if alike(lists["distinct"], lists["users"]):
        return Finding(COLLAPSED, f"{reason}: everybody gets the same")
    if alike(lists["rankings"], lists["users"]):
        return Finding(COLLAPSED, f"{reason}; except for the items that they have seen, everybody gets the same")
    return Finding(UNKNOWN, reason)


def alike(distinct: float | None, users: int) -> bool:
    """Whether the share of ``distinct`` lists is so small that all ``users`` get the same."""
    return distinct is not None and users > 1 and distinct <= max(ALIKE_LISTS, 1 / users)


def lists_line(lists: Mapping[str, Any]) -> str:
    """A clause with the distinct lists, the coverage and the Gini index of top-N lists."""
    if lists["distinct"] is None:
        return "there are no lists, because every user has seen all items"
    return (
        f"{_share(lists['distinct'])} of the top-{lists['n']} lists are distinct ({users_line(lists)}), they contain "
        f"{_share(lists['items'])} of the items, Gini {lists['gini']:.2f}"
    )


def users_line(lists: Mapping[str, Any]) -> str:
    """The number of users whose lists were compared; old records do not have it."""
    if "users" not in lists:
        return "users not recorded"
    some = f"{lists['users']:,} of " if lists["users"] < lists["of_users"] else ""
    return f"{some}{lists['of_users']:,} users"


def _share(part: float) -> str:
    """The share in per cent, with one decimal if it is below 10 %."""
    return f"{part:.0%}" if part == 0 or part >= 0.1 else f"{part:.1%}"


def lost(predicted: Sample, given: Sample) -> NDArray[np.bool_]:
    """A mask of the levels that occur among the ratings and hardly ever among the predictions, ``(n_levels,)``."""
    return (given.shares > 0) & (predicted.shares < COVERED * given.shares)


def worst(findings: Mapping[str, Finding]) -> Finding:
    """The worst of the findings; its reason begins with the name of its group of pairs."""
    if not findings:
        return Finding(UNKNOWN, "the scores are not ratings")
    name = min(findings, key=lambda key: ORDER.index(findings[key].status))
    return Finding(findings[name].status, f"{name} pairs: {findings[name].reason}")


def conclude(tested: Finding, training: Mapping[str, Mapping[int, Finding]], epoch: int | None = None) -> Verdict:
    """The verdict from the findings about the tested model, of ``epoch`` (from 1), and about each group by epoch."""
    since: int | None = None
    reason, passing = "", set()
    for name, by_epoch in training.items():
        epochs = sorted(by_epoch)
        collapsed = [by_epoch[number].status == COLLAPSED for number in epochs]
        learnt = collapsed.index(False) if False in collapsed else 0  # an untrained network predicts a constant
        last = len(epochs) - (collapsed[::-1].index(False) if False in collapsed else len(epochs))
        passing |= {number for number, is_so in zip(epochs[learnt:last], collapsed[learnt:last], strict=True) if is_so}
        if last < len(epochs) and (since is None or epochs[last] < since):
            since, reason = epochs[last], worst({name: by_epoch[epochs[-1]]}).reason
    return Verdict(tested.status, tested.reason, epoch, since, reason, tuple(sorted(passing)))


def findings(bins: Bins, distribution: Mapping[str, Any], ratings: Sample) -> Iterable[tuple[str, Finding]]:
    """The name of each group of predictions in a ``distribution`` entry, with the finding about it."""
    for name in ("test", "validation", "rated", "unrated"):
        if name in distribution:
            between = distribution["between_users"] if name == "unrated" else None
            yield name, judge(Sample.from_dict(bins, distribution[name]), ratings, between)


def judge_run(bins: Bins | None, final: Mapping[str, Any], lines: Iterable[Mapping[str, Any]], epoch: int) -> Verdict:
    """The verdict on a run whose tested model is that of ``epoch``, from 1; ``lines`` are those of ``metrics.jsonl``.

    Args:
        bins: the bins in which predictions were counted; None if the scores are not ratings.
        final: the ``distribution`` entry of the tested model, with the training ``ratings``.
    """
    if bins is None:
        return conclude(judge_lists(final["lists"]), {}, epoch)
    ratings = Sample.from_dict(bins, final["ratings"])
    training: dict[str, dict[int, Finding]] = {}
    for line in lines:
        if line["stage"] == "select" and DISTRIBUTION in line:
            for name, finding in findings(bins, line[DISTRIBUTION], ratings):
                training.setdefault(name, {})[line["epoch"] + 1] = finding
    return conclude(worst(dict(findings(bins, final, ratings))), training, epoch)


def of_record(record: Mapping[str, Any]) -> Verdict | None:
    """The verdict in a record; None if the record is old or the diagnosis failed."""
    content = record["diagnosis"].get("verdict")
    return Verdict(**{**content, "passing": tuple(content["passing"])}) if content else None


def _named(sample: Sample, which: NDArray) -> str:
    levels = [f"{level:g}" for level in sample.bins.levels[which]]
    return " or ".join(levels) if len(levels) <= NAMED else f"at {len(levels)} of {len(which)} levels"


def _deviations(predicted: Sample, given: Sample) -> str:
    return f"standard deviation {predicted.std:.2f}, of the ratings {given.std:.2f}"
