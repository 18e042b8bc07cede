"""A search space: which values each key may take, which points are valid, and how a file says so.

    sampler: grid                                  # grid | random | tpe; may be left to the command line
    conditions: [noise_min < noise_max]            # between two keys, or a key and a number
    noise_min: {choice: [1.0e-4, 1.0e-3]}
    noise_max: {uniform: [0.01, 1.0]}
    learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
    latent_size: {int: [8, 64]}                    # both ends included
    weight_decay: 0.01                             # fixed

Optuna's distributions say which values a key may take, and its samplers draw them. Conditions between keys, fixed keys
and the grid that has every valid point once are ours.
"""

import ast
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from recbole_dgrm.errors import OptionError
from recbole_dgrm.system.files import read_bytes
from recbole_dgrm.system.yaml_files import LARGEST

SAMPLERS = ("grid", "random", "tpe")
RELATIONS = {"<=": le, ">=": ge, "==": eq, "!=": ne, "<": lt, ">": gt}
CONDITION = re.compile(rf"\s*(\w+)\s*({'|'.join(RELATIONS)})\s*(\S+)\s*")
DRAWS = 1000  # tries to draw a valid point before the conditions are called unsatisfiable
LARGEST_GRID = 100_000  # points; they are listed, and nobody has trained so many
LONGEST_SHOWN = 100  # characters of a line that is not understood
Point = dict[str, Any]
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
KINDS = {
    "choice": "a list of values, each once",
    "uniform": "two numbers, the lower first",
    "loguniform": "two numbers above 0, the lower first",
    "quniform": "two numbers, the lower first, and a step above 0",
    "int": "two whole numbers, the lower first",
}  # what a key may be searched by, and the list that belongs to it


@dataclass(frozen=True)
class Condition:
    """``left relation right``; ``right`` is a key or a number."""

    left: str
    relation: str
    right: str | float

    @classmethod
    def parse(cls, text: Any) -> "Condition":
        """Read a condition like ``noise_min < noise_max``."""
        if not (match := CONDITION.fullmatch(str(text))):
            raise OptionError(f"condition {text!r} is not understood; write it like 'noise_min < noise_max'")
        left, relation, right = match.groups()
        return cls(left, relation, float(right) if is_number(right) else right)

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

    A point maps keys to values. Its labels are the values as Optuna can hold them: lists and the like as JSON.

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

    def is_valid(self, point: Point) -> bool:
        """Whether a point satisfies all conditions."""
        return all(condition.holds(point) for condition in self.conditions)

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
        points = [labels for labels in points if self.is_valid(self.point(labels))]
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
            if self.is_valid(self.point(trial.params)):
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


def read_space_file(path: Path, read_yaml: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The content of a space file, checked: YAML, or RecBole's ``hyper.test`` lines in a file of another kind.

    Raises:
        OptionError: what is wrong, and where.
    """
    try:
        content = read_yaml(path) if path.suffix in (".yaml", ".yml") else _hyper_test(path)
        parse_space(content)
    except OptionError as error:
        raise OptionError(f"space {path}: {error}") from error
    return content


def parse_space(content: Mapping[str, Any]) -> Space:
    """The space that a mapping describes.

    Raises:
        OptionError: a line that cannot be understood.
    """
    rest = dict(content)
    sampler, conditions = rest.pop("sampler", None), rest.pop("conditions", None) or []
    if not isinstance(conditions, list):
        raise OptionError(f"conditions: {conditions!r} must be a list")
    searched = {key: rest.pop(key) for key in list(rest) if isinstance(rest[key], dict)}
    distributions = {key: _distribution(key, value) for key, value in searched.items()}
    choices = {key: value["choice"] for key, value in searched.items() if "choice" in value}
    objects = {key: {label_of(value): value for value in values} for key, values in choices.items()}
    return Space(distributions, objects, rest, [Condition.parse(text) for text in conditions], sampler)


def _distribution(key: str, value: dict) -> Distribution:
    (kind, given), *more = value.items() or [(None, None)]
    if more or kind not in KINDS or not isinstance(given, list):
        raise OptionError(
            f"{key}: {value!r} is not understood; write {key}: {{choice: [...]}} with one of {', '.join(KINDS)} and a "
            "list"
        )
    labels = [label_of(choice) for choice in given]
    numbers = all(type(bound) in (int, float) and math.isfinite(bound) for bound in given)
    try:
        match kind, given:
            case "choice", [_, *_] if len(set(labels)) == len(labels):
                return CategoricalDistribution(labels)
            case "int", [int(low), int(high)] if numbers:
                return IntDistribution(low, high)
            case "uniform" | "loguniform", [low, high] if numbers:
                return FloatDistribution(low, high, log=kind == "loguniform")
            case "quniform", [low, high, step] if numbers:
                return FloatDistribution(low, high, step=step)
    except (ValueError, ArithmeticError):
        pass
    raise OptionError(f"{key}: {kind}: {given} must be {KINDS[kind]}")


def label_of(value: Any) -> Any:
    """The value as Optuna can hold it: a list or the like as JSON."""
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def listed(distribution: Distribution) -> Sequence[Any]:
    """All labels of a distribution; none of real numbers, which cannot be listed."""
    match distribution:
        case CategoricalDistribution():
            return distribution.choices
        case IntDistribution():
            return range(distribution.low, distribution.high + 1)
    return ()


def is_number(text: str) -> bool:
    """Whether ``text`` can be read as a number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _holds(distribution: Distribution, label: Any) -> bool:
    """Whether the label is one of the distribution's."""
    if isinstance(distribution, FloatDistribution):
        return isinstance(label, int | float) and distribution.low <= label <= distribution.high
    return label in listed(distribution)


def _hyper_test(path: Path) -> dict[str, Any]:
    """RecBole's lines, read with literals only; its loguniform has natural logarithms as bounds (as hyperopt's)."""
    try:
        lines = read_bytes(path, LARGEST).decode().splitlines()
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or too large
        raise OptionError(getattr(error, "strerror", None) or str(error)) from None
    content: dict[str, Any] = {}
    for line in lines:
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        try:
            key, kind, text = words
            values = list(ast.literal_eval(text))
            content[key] = {kind: [math.exp(bound) for bound in values] if kind == "loguniform" else values}
        except (ValueError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError) as error:
            raise OptionError(
                f"{line[:LONGEST_SHOWN]!r} is not understood; lines are 'name choice [1, 2]', 'name uniform 0,1' or "
                "'name loguniform -8,0'"
            ) from error
    return content
