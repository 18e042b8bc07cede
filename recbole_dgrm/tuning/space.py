"""A search space: which values each key may take, and which points are valid.

Optuna's distributions say which values a key may take. Conditions between keys, fixed keys and the grid that has every
valid point once are ours.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from recbole_dgrm.errors import OptionError

SAMPLERS = ("grid", "random", "tpe")
RELATIONS = {"<=": le, ">=": ge, "==": eq, "!=": ne, "<": lt, ">": gt}
CONDITION = re.compile(rf"\s*(\w+)\s*({'|'.join(RELATIONS)})\s*(\S+)\s*")
DRAWS = 1000  # tries to draw a valid point before the conditions are called unsatisfiable
LARGEST_GRID = 100_000  # points; they are listed, and nobody has trained so many
Point = dict[str, Any]
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution


@dataclass(frozen=True)
class Condition:
    """``left relation right``; ``right`` is a key or a number."""

    left: str
    relation: str
    right: str | float

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether a point satisfies it; a key that the point lacks makes it hold."""
        right = point.get(self.right) if isinstance(self.right, str) else self.right
        left = point.get(self.left)
        try:
            return left is None or right is None or RELATIONS[self.relation](left, right)
        except TypeError:
            raise OptionError(f"condition '{self}': {left!r} and {right!r} cannot be compared") from None

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {self.right}"


@dataclass(frozen=True)
class Space:
    """The space of a search.

    A point maps keys to values. Its labels are the values as a database can hold them.

    Attributes:
        distributions: the labels that each key may take.
        objects: what each label of a choice stands for.
    """

    distributions: dict[str, Distribution]
    objects: dict[str, dict[str, Any]]
    fixed: Point
    conditions: list[Condition]
    sampler: str | None = None

    def __post_init__(self) -> None:
        if not self.distributions:
            raise OptionError("the space has no key to search; write one as key: {choice: [...]}")
        if self.sampler not in (None, *SAMPLERS):
            raise OptionError(f"sampler={self.sampler!r} is unknown; one of {', '.join(SAMPLERS)}")
        for condition in self.conditions:
            for key in (condition.left, condition.right):
                if isinstance(key, str) and key not in self.keys:
                    raise OptionError(f"condition '{condition}': {key!r} is no key of the space")

    @property
    def keys(self) -> list[str]:
        """The keys that are searched, then the fixed ones."""
        return [*self.distributions, *self.fixed]

    def violated(self, point: Point) -> Condition | None:
        """The first condition that ``point`` breaks."""
        return next((condition for condition in self.conditions if not condition.holds(point)), None)

    def grid(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        """The labels of every valid point exactly once, in an order drawn from ``rng``.

        Raises:
            OptionError: a key has no list of values, or no point is valid.
        """
        lists = {key: listed(distribution) for key, distribution in self.distributions.items()}
        for key, labels in lists.items():
            if not labels:
                raise OptionError(f"sampler=grid cannot list the values of {key}; give a choice, or use random or tpe")
        if (size := math.prod(map(len, lists.values()))) > LARGEST_GRID:
            raise OptionError(
                f"the grid has {size:,} points, more than {LARGEST_GRID:,}; name fewer values, or use sampler=random "
                "or tpe"
            )
        points = [dict(zip(lists, labels, strict=True)) for labels in itertools.product(*lists.values())]
        points = [labels for labels in points if not self.violated(self.point(labels))]
        if not points:
            raise OptionError(f"no point satisfies {', '.join(map(str, self.conditions))}")
        return [points[index] for index in rng.permutation(len(points))]

    def sample(self, study: optuna.Study, given: Mapping[str, Any]) -> dict[str, Any]:
        """The labels of a valid point: those that are ``given``, and for other keys what the study's sampler suggests.

        Raises:
            OptionError: none was found.
        """
        for _ in range(DRAWS):
            study.enqueue_trial(dict(given))
            trial = study.ask(dict(self.distributions))
            if not self.violated(self.point(trial.params)):
                return trial.params
            study.tell(trial, state=TrialState.FAIL)
        raise OptionError(f"no valid point in {DRAWS} draws; look at {', '.join(map(str, self.conditions))}")

    def point(self, labels: Mapping[str, Any]) -> Point:
        """The values behind labels, fixed keys included."""
        searched = {key: labels[key] for key in self.distributions if key in labels}
        return {**self.fixed, **{key: self.objects.get(key, {}).get(label, label) for key, label in searched.items()}}

    def labels_of(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The labels of what a config has for the keys of the space, as far as it lies in the space."""
        labels = {key: label_of(config[key]) for key in self.distributions if key in config}
        inside = {key: self.distributions[key] for key in labels if _holds(self.distributions[key], labels[key])}
        return {key: it.to_external_repr(it.to_internal_repr(labels[key])) for key, it in inside.items()}


def label_of(value: Any) -> Any:
    """The value as a database can hold it: a list or the like as JSON."""
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def _holds(distribution: Distribution, label: Any) -> bool:
    """Whether the label is one of the distribution's."""
    if isinstance(distribution, FloatDistribution):
        return isinstance(label, int | float) and distribution.low <= label <= distribution.high
    return label in listed(distribution)


def listed(distribution: Distribution) -> Sequence[Any]:
    """All labels of a distribution; none of real numbers, which cannot be listed."""
    match distribution:
        case CategoricalDistribution():
            return distribution.choices
        case IntDistribution():
            return range(distribution.low, distribution.high + 1)
    return ()
