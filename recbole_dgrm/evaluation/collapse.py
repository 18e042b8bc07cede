"""Mode collapse: when predictions are called collapsed, and since which epoch of the training.

Predicted ratings are compared with the ratings that the model learnt from. Predictions have **collapsed** if one of
these holds:

    constant   their standard deviation is below a tenth of that of the ratings
    few        they take less than half as many distinct values as the ratings (effective numbers: the exponential of
               the entropy of the counts, of predictions in fine bins, of ratings by levels)
    ends       too many lie at the ends of the scale: the share that rounds to a level between the lowest and the
               highest is less than half of the same share among the ratings (as in the paper's Figs. 3 and 5)
    alike      users hardly differ: less than a hundredth of the variance is left after the mean prediction of each
               item is subtracted

They are **narrow** if a level that the ratings have gets less than a tenth of its share: a mode is lost. That is
no collapse: predictions of a mean are always narrower than the ratings are.

Where scores are no ratings the top-N lists are judged. Lists have **collapsed** if there is at most one distinct list
per 100 users (with fewer than 100 users: if all have the same list). Both the lists of unseen items and those of all
items are judged; the second finds models whose lists differ only because users have seen different items.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_dgrm.evaluation.distribution import Bins, Sample, effective_number

CONSTANT = 0.1  # of the ratings' standard deviation; on ML-100K the models that predict means keep more than half of it
FEW = 0.5  # of the ratings' distinct values; continuous predictions fill their finer bins, so they should have more
INSIDE = 0.5  # of the ratings' share inside the scale; where the two ends alone are predicted nothing is left there
ALIKE = 0.01  # of the variance; on ML-100K a quarter and more of it is between users, for CFGAN's ends a tenth
COVERED = 0.1  # of a level's share; with less than that the level is missing rather than rare
ALIKE_LISTS = 0.01  # of the lists; personal lists are nearly all distinct
DISTRIBUTION = "distribution"  # the key of what was predicted, in records and in lines of epochs
COLLAPSED, NARROW, INTACT, UNKNOWN = "collapsed", "narrow", "intact", "unknown"
NAMED = 3  # levels that a sentence names at most
ORDER = (COLLAPSED, NARROW, INTACT, UNKNOWN)  # worst first


@dataclass(frozen=True)
class Finding:
    """A status and the sentence that says why."""

    status: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The judgement on the tested model and on the training that led to it.

    Attributes:
        status, reason: what the tested model is, and why.
        epoch: epoch of the tested model, from 1; None where training has no epochs.
        since: first epoch of the collapse that training ended in; None if it ended in none.
        training: the reason of that collapse, as the last inspection of the training gave it.
        passing: epochs with a collapse that went away again, without those before the network had learnt anything.
    """

    status: str
    reason: str
    epoch: int | None = None
    since: int | None = None
    training: str = ""
    passing: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain data, for the record."""
        return asdict(self)

    @property
    def line(self) -> str:
        """The whole verdict in one line."""
        words = {COLLAPSED: "COLLAPSED", NARROW: "none, but narrow", INTACT: "none", UNKNOWN: "not judged"}
        text = f"{words[self.status]}: {self.reason}"
        if self.since is not None:
            text += f"; training is collapsed from epoch {self.since} on"
            text += "" if self.status == COLLAPSED else f" ({self.training}), epoch {self.epoch} was kept"
        elif self.passing:
            text += f"; collapsed in passing at epoch {', '.join(map(str, self.passing))}"
        return text


def judge(predicted: Sample, given: Sample, between_users: float | None = None) -> Finding:
    """Judge whether ``predicted`` has collapsed, compared with the ``given`` ratings.

    Args:
        between_users: share of the variance of predictions that is between users, where it is known.
    """
    few = predicted.values / float(effective_number(given.shares))
    inside = (1 - predicted.ends) / max(1 - given.ends, np.finfo(float).tiny)
    if predicted.std < CONSTANT * given.std:
        return Finding(COLLAPSED, f"predictions hardly differ: {_deviations(predicted, given)}")
    if few < FEW:
        number = float(effective_number(given.shares))
        return Finding(COLLAPSED, f"predictions take {predicted.values:.1f} distinct values, ratings {number:.1f}")
    if inside < INSIDE and len(given.shares) > 2:
        share = f"{predicted.ends:.0%} of the predictions lie at the ends of the scale, of the ratings {given.ends:.0%}"
        return Finding(COLLAPSED, share)
    if between_users is not None and between_users < ALIKE:
        return Finding(COLLAPSED, f"{between_users:.1%} of the variance is between users: everybody gets the same")
    missing = lost(predicted, given)
    if missing.any():
        shares = f"{predicted.shares[missing].sum():.1%} are, of the ratings {given.shares[missing].sum():.1%}"
        levels = f"hardly any prediction is {_named(predicted, missing)} ({shares})"
        return Finding(NARROW, f"{levels}; {_deviations(predicted, given)}")
    return Finding(INTACT, f"every level of the ratings is predicted; {_deviations(predicted, given)}")


def judge_lists(lists: Mapping[str, Any]) -> Finding:
    """Judge whether everybody gets the same list, which is all that can be said where scores are no ratings.

    Args:
        lists: the entry ``lists`` of what ``recbole_dgrm.evaluation.diagnosis.inspect`` returns.
    """
    reason = f"the scores are no ratings; {lists_line(lists)}"
    if alike(lists["distinct"], lists["users"]):
        return Finding(COLLAPSED, f"{reason}: everybody gets the same")
    if alike(lists["rankings"], lists["users"]):
        return Finding(COLLAPSED, f"{reason}; but for what they have seen, everybody gets the same")
    return Finding(UNKNOWN, reason)


def alike(distinct: float | None, users: int) -> bool:
    """Whether so small a share of the lists of ``users`` differs that everybody gets the same."""
    return distinct is not None and users > 1 and distinct <= max(ALIKE_LISTS, 1 / users)


def lists_line(lists: Mapping[str, Any]) -> str:
    """The coverage of top-N lists in words."""
    if lists["distinct"] is None:
        return "there are no lists, because every user has seen all items"
    return (
        f"{_share(lists['distinct'])} of the top-{lists['n']} lists are distinct ({users_line(lists)}), they name "
        f"{_share(lists['items'])} of the items, Gini {lists['gini']:.2f}"
    )


def users_line(lists: Mapping[str, Any]) -> str:
    """How many users the lists belong to, which old records do not say."""
    if "users" not in lists:
        return "users not recorded"
    some = f"{lists['users']:,} of " if lists["users"] < lists["of_users"] else ""
    return f"{some}{lists['of_users']:,} users"


def _share(part: float) -> str:
    """The share in per cent, with a decimal below 10 %."""
    return f"{part:.0%}" if part == 0 or part >= 0.1 else f"{part:.1%}"


def lost(predicted: Sample, given: Sample) -> NDArray[np.bool_]:
    """A mask of the levels that ratings have and predictions hardly have, ``(n_levels,)``."""
    return (given.shares > 0) & (predicted.shares < COVERED * given.shares)


def worst(findings: Mapping[str, Finding]) -> Finding:
    """The worst of the findings; its reason begins with the name of what was judged."""
    if not findings:
        return Finding(UNKNOWN, "the scores are no ratings")
    name = min(findings, key=lambda key: ORDER.index(findings[key].status))
    return Finding(findings[name].status, f"{name} pairs: {findings[name].reason}")


def conclude(tested: Finding, training: Mapping[str, Mapping[int, Finding]], epoch: int | None = None) -> Verdict:
    """The verdict that follows from all findings.

    Args:
        tested: what was found about the tested model.
        training: for each group of predictions the epochs (from 1) and what was found after each.
        epoch: epoch of the tested model.
    """
    since: int | None = None
    reason, passing = "", set()
    for name, found in training.items():
        epochs = sorted(found)
        collapsed = [found[number].status == COLLAPSED for number in epochs]
        learnt = collapsed.index(False) if False in collapsed else 0  # until then it predicts the same for everybody
        last = len(epochs) - (collapsed[::-1].index(False) if False in collapsed else len(epochs))
        passing |= {number for number, is_so in zip(epochs[learnt:last], collapsed[learnt:last], strict=True) if is_so}
        if last < len(epochs) and (since is None or epochs[last] < since):
            since, reason = epochs[last], worst({name: found[epochs[-1]]}).reason
    return Verdict(tested.status, tested.reason, epoch, since, reason, tuple(sorted(passing)))


def findings(bins: Bins, distribution: Mapping[str, Any], ratings: Sample) -> Iterable[tuple[str, Finding]]:
    """For each group of predictions in a ``distribution`` entry its name and what is found about it."""
    for name in ("test", "validation", "rated", "unrated"):
        if name in distribution:
            between = distribution["between_users"] if name == "unrated" else None
            yield name, judge(Sample.from_dict(bins, distribution[name]), ratings, between)


def judge_run(bins: Bins | None, final: Mapping[str, Any], lines: Iterable[Mapping[str, Any]], epoch: int) -> Verdict:
    """The verdict on a run.

    Args:
        bins: the bins that predictions were counted in; None where the scores are no ratings.
        final: the ``distribution`` entry of the tested model, the ``ratings`` that it learnt from among it.
        lines: the lines of ``metrics.jsonl``.
        epoch: epoch of the tested model, from 1.
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
    """The verdict in a record; None in an old record and where the diagnosis failed."""
    content = record["diagnosis"].get("verdict")
    return Verdict(**{**content, "passing": tuple(content["passing"])}) if content else None


def _named(sample: Sample, which: NDArray) -> str:
    levels = [f"{level:g}" for level in sample.bins.levels[which]]
    return " or ".join(levels) if len(levels) <= NAMED else f"at {len(levels)} of {len(which)} levels"


def _deviations(predicted: Sample, given: Sample) -> str:
    return f"standard deviation {predicted.std:.2f}, of the ratings {given.std:.2f}"
