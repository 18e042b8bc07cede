"""A search space: which values each key may take, and which points are valid.

YAML, a line per key:

    sampler: grid                                  # grid | random | tpe; may be left to the command line
    conditions: [noise_min < noise_max]            # between two keys, or a key and a number
    noise_min: {choice: [1.0e-4, 1.0e-3]}
    noise_max: {uniform: [0.01, 1.0]}
    learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
    latent_size: {int: [8, 64]}                    # both ends included
    weight_decay: 0.01                             # fixed

RecBole's ``hyper.test`` lines (``learning_rate choice [0.01, 0.001]``) are read too, with literals only.
"""

import ast
import itertools
import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_dgrm.errors import OptionError
from recbole_dgrm.system.files import read_bytes
from recbole_dgrm.system.yaml_files import LARGEST

SAMPLERS = ("grid", "random", "tpe")
RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*")
DRAWS = 1000  # tries to draw a valid point before the conditions are called unsatisfiable
LARGEST_GRID = 100_000  # points; they are listed, and nobody has trained so many
SHOWN = 100  # characters of a line that is not understood
Point = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """One of a list of values of any kind."""

    values: list

    def __post_init__(self) -> None:
        labels = self.labels
        if not self.values or len(set(labels)) < len(labels):
            raise OptionError(f"choice: {self.values} must name values, each once")

    @property
    def labels(self) -> list[Any]:
        """The values as a database can hold them: lists and the like as JSON."""
        return [value if isinstance(value, (str, int, float, bool, type(None))) else json.dumps(value)
                for value in self.values]  # fmt: skip

    def label_of(self, value: Any) -> Any:
        """The label of a value; it must be one of ours."""
        return self.labels[self.values.index(value)]

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def draw(self, rng: np.random.Generator) -> Any:
        """One of the labels."""
        return self.labels[rng.integers(len(self.values))]

    def suggest(self, trial: Any, key: str) -> Any:
        """The value that ``trial`` (of Optuna) takes."""
        return self.values[self.labels.index(trial.suggest_categorical(key, self.labels))]


@dataclass(frozen=True)
class Interval:
    """A real number between ``low`` and ``high``, on a logarithmic scale where ``log``; in steps where ``step``."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        numbers = all(isinstance(bound, (int, float)) and math.isfinite(bound) for bound in (self.low, self.high))
        if not numbers or not self.low < self.high or (self.log and self.low <= 0):
            raise OptionError(f"[{self.low}, {self.high}] must be two numbers, the lower first"
                              + (" and above 0" if self.log else ""))  # fmt: skip
        if self.step is not None and not (isinstance(self.step, (int, float)) and 0 < self.step < math.inf):
            raise OptionError(f"quniform: the step {self.step!r} must be a number above 0")

    def label_of(self, value: float) -> float:
        """The number itself."""
        return float(value)

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def draw(self, rng: np.random.Generator) -> float:
        """A number in the interval."""
        if self.log:
            return float(min(max(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low), self.high))
        if self.step:
            return self.low + self.step * float(rng.integers(math.floor((self.high - self.low) / self.step) + 1))
        return float(rng.uniform(self.low, self.high))

    def suggest(self, trial: Any, key: str) -> float:
        """The number that ``trial`` takes."""
        return trial.suggest_float(key, self.low, self.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Whole:
    """A whole number from ``low`` to ``high``, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if not all(type(bound) is int for bound in (self.low, self.high)) or self.low >= self.high:
            raise OptionError(f"int: [{self.low}, {self.high}] must be two whole numbers, the lower first")

    @property
    def labels(self) -> range:
        """All of them."""
        return range(self.low, self.high + 1)

    def label_of(self, value: int) -> int:
        """The number itself."""
        return value

    def __contains__(self, value: Any) -> bool:
        return value in self.labels

    def draw(self, rng: np.random.Generator) -> int:
        """One of them."""
        return int(rng.integers(self.low, self.high + 1))

    def suggest(self, trial: Any, key: str) -> int:
        """The number that ``trial`` takes."""
        return trial.suggest_int(key, self.low, self.high)


Dimension = Choice | Interval | Whole
KINDS: dict[str, Callable[[list], Dimension]] = {
    "choice": Choice,
    "uniform": lambda bounds: Interval(*_two(bounds)),
    "loguniform": lambda bounds: Interval(*_two(bounds), log=True),
    "quniform": lambda bounds: Interval(*_two(bounds[:2]), step=bounds[2] if len(bounds) > 2 else None),
    "int": lambda bounds: Whole(*_two(bounds)),
}


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

    A point maps keys to values. Its *labels* are the values as a database can hold them.
    """

    dimensions: dict[str, Dimension]
    fixed: Point
    conditions: list[Condition]
    sampler: str | None = None

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise OptionError("the space has no key to search; write one as key: {choice: [...]}")
        if self.sampler not in (None, *SAMPLERS):
            raise OptionError(f"sampler={self.sampler!r} is unknown; one of {', '.join(SAMPLERS)}")
        for condition in self.conditions:
            for key in (condition.left, condition.right):
                if isinstance(key, str) and key not in self.keys:
                    raise OptionError(f"condition '{condition}': {key!r} is no key of the space")

    @property
    def keys(self) -> list[str]:
        """Searched and fixed."""
        return [*self.dimensions, *self.fixed]

    def violated(self, point: Point) -> Condition | None:
        """The first condition that ``point`` breaks."""
        return next((condition for condition in self.conditions if not condition.holds(point)), None)

    def grid(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        """The labels of every valid point exactly once, in an order drawn from ``rng``.

        Raises:
            OptionError: a key has no list of values, or no point is valid.
        """
        for key, dimension in self.dimensions.items():
            if isinstance(dimension, Interval):
                raise OptionError(f"sampler=grid cannot list the values of {key}; give a choice, or use random or tpe")
        lists = [dimension.labels for dimension in self.dimensions.values()]
        if (size := math.prod(map(len, lists))) > LARGEST_GRID:
            raise OptionError(f"the grid has {size:,} points, more than {LARGEST_GRID:,}; name fewer values, or use "
                              "sampler=random or tpe")  # fmt: skip
        points = [dict(zip(self.dimensions, labels, strict=True)) for labels in itertools.product(*lists)]
        points = [labels for labels in points if not self.violated(self.point(labels))]
        if not points:
            raise OptionError(f"no point satisfies {', '.join(map(str, self.conditions))}")
        return [points[index] for index in rng.permutation(len(points))]

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """The labels of a valid point at random.

        Raises:
            OptionError: none was found.
        """
        for _ in range(DRAWS):
            labels = {key: dimension.draw(rng) for key, dimension in self.dimensions.items()}
            if not self.violated(self.point(labels)):
                return labels
        raise OptionError(f"no valid point in {DRAWS} draws; look at {', '.join(map(str, self.conditions))}")

    def labels_of(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The labels of what a config has for the keys of the space, as far as it lies in the space."""
        inside = {key: config[key] for key, dimension in self.dimensions.items() if config.get(key) in dimension}
        return {key: self.dimensions[key].label_of(value) for key, value in inside.items()}

    def suggest(self, trial: Any) -> Point:
        """The point of an Optuna trial, fixed keys included; it may break a condition."""
        return {**self.fixed, **{key: dimension.suggest(trial, key) for key, dimension in self.dimensions.items()}}

    def point(self, labels: Mapping[str, Any]) -> Point:
        """The values behind labels, fixed keys included."""
        values = dict(self.fixed)
        for key, dimension in self.dimensions.items():
            if key in labels:
                choice = isinstance(dimension, Choice)
                values[key] = dimension.values[dimension.labels.index(labels[key])] if choice else labels[key]
        return values


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
    dimensions, fixed = {}, {}
    for key, value in rest.items():
        if not isinstance(value, dict):
            fixed[key] = value
            continue
        (kind, given), *more = value.items() or [(None, None)]
        if more or kind not in KINDS or not isinstance(given, list):
            raise OptionError(f"{key}: {value!r} is not understood; write {key}: {{choice: [...]}} with one of "
                              f"{', '.join(KINDS)} and a list")  # fmt: skip
        try:
            dimensions[key] = KINDS[kind](given)
        except OptionError as error:
            raise OptionError(f"{key}: {error}") from error
    return Space(dimensions, fixed, [_condition(text) for text in conditions], sampler)


def _condition(text: Any) -> Condition:
    match = CONDITION.fullmatch(str(text))
    if not match:
        raise OptionError(f"condition {text!r} is not understood; write it like 'noise_min < noise_max'")
    left, relation, right = match.groups()
    try:
        return Condition(left, relation, float(right))
    except ValueError:
        return Condition(left, relation, right)


def _two(bounds: list) -> list:
    if len(bounds) != 2:
        raise OptionError(f"{bounds} must be [lowest, highest]")
    return bounds


def _hyper_test(path: Path) -> dict[str, Any]:
    """RecBole's lines; its loguniform has natural logarithms as bounds (as hyperopt's)."""
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
                f"{line[:SHOWN]!r} is not understood; lines are 'name choice [1, 2]', 'name uniform 0,1' or "
                "'name loguniform -8,0'"
            ) from error
    return content
