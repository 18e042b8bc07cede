"""A search space: the values of each key, the conditions between keys, and the file format.

    sampler: grid                                  # grid | random | tpe; may be left to the command line
    conditions: [noise_min < noise_max]            # between two keys, or a key and a number; also a < 1 or b == 2
    noise_min: {choice: [1.0e-4, 1.0e-3]}
    noise_max: {uniform: [0.01, 1.0]}
    learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
    latent_size: {int: [8, 64]}                    # both ends included
    weight_decay: 0.01                             # fixed

Distributions and samplers are Optuna's. Conditions between keys, fixed keys, and the grid that has every valid point
once are implemented here.
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
NAME, NUMBER = r"([A-Za-z_]\w*)", r"(-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
COMPARISON = re.compile(rf"\s*{NAME}\s*({'|'.join(RELATIONS)})\s*(?:{NAME}|{NUMBER})\s*")
OR = " or "  # between the comparisons of a condition, one of which must be true
DRAWS = 1000  # if none of so many samples is valid, no point is considered valid
LARGEST_GRID = 100_000  # points of a grid, all of which are in memory
Point = dict[str, Any]
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
FORMS = (
    "choice: [different values], uniform: [low, high], loguniform: [low, high] with low above 0, "
    "quniform: [low, high, step], or int: [low, high] of whole numbers"
)


@dataclass(frozen=True)
class Space:
    """The space of a search; ``distributions``, ``values`` and ``fixed`` are by key.

    A point maps keys to values. Its labels are the values as Optuna can hold them: lists as JSON texts.
    ``distributions`` are those of labels; ``values`` has the value of each label, for the keys with choices.
    """

    distributions: dict[str, Distribution]
    values: dict[str, dict[str, Any]]
    fixed: Point
    conditions: list[str]
    sampler: str | None = None

    def __post_init__(self) -> None:
        if not self.distributions:
            raise OptionError("the space has no key to search; write one as key: {choice: [...]}")
        if self.sampler not in (None, *SAMPLERS):
            raise OptionError(f"sampler={self.sampler!r} is unknown; one of {', '.join(SAMPLERS)}")
        for condition in self.conditions:
            for comparison in str(condition).split(OR):
                if not (match := COMPARISON.fullmatch(comparison)):
                    raise OptionError(
                        f"condition {condition!r} is not understood; write it like 'noise_min < noise_max'"
                    )
                for key in filter(None, match.group(1, 3)):
                    if key not in self.keys:
                        raise OptionError(f"condition '{condition}': {key!r} is not a key of the space")

    @property
    def keys(self) -> list[str]:
        """The keys that are searched, then the fixed ones."""
        return [*self.distributions, *self.fixed]

    def is_valid(self, point: Point) -> bool:
        """Whether a point satisfies all conditions; comparisons of missing or empty values count as true."""
        return all(any(_is_true(each, point) for each in condition.split(OR)) for condition in self.conditions)

    def grid(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        """The labels of every valid point exactly once, in random order."""
        lists = {key: listed(distribution) for key, distribution in self.distributions.items()}
        for key, labels in lists.items():
            if not labels:
                raise OptionError(f"sampler=grid cannot list the values of {key}; give a choice, or use random or tpe")
        if (size := math.prod(map(len, lists.values()))) > LARGEST_GRID:
            raise OptionError(
                f"the grid has {size:,} points, more than {LARGEST_GRID:,}; name fewer values, or use random or tpe"
            )
        points = [dict(zip(lists, labels, strict=True)) for labels in itertools.product(*lists.values())]
        points = [labels for labels in points if self.is_valid(self.point(labels))]
        if not points:
            raise OptionError(f"no point satisfies {', '.join(self.conditions)}")
        return [points[index] for index in rng.permutation(len(points))]

    def sample(self, study: optuna.Study, given: Mapping[str, Any]) -> dict[str, Any]:
        """The labels of a valid point: those ``given``, and for other keys those of the study's sampler."""
        for _ in range(DRAWS):
            study.enqueue_trial(dict(given))
            trial = study.ask(dict(self.distributions))
            if self.is_valid(self.point(trial.params)):
                return trial.params
            study.tell(trial, state=TrialState.FAIL)
        raise OptionError(f"no valid point in {DRAWS} samples; check {', '.join(self.conditions)}")

    def point(self, labels: Mapping[str, Any]) -> Point:
        """The values of the labels, and the fixed keys."""
        return {**self.fixed, **{key: self.values.get(key, {}).get(label, label) for key, label in labels.items()}}

    def labels_of(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The labels of a config's values, for the searched keys whose value is in the space."""
        labels = {}
        for key, distribution in self.distributions.items():
            label = label_of(config.get(key))
            if isinstance(distribution, FloatDistribution):
                if isinstance(label, int | float) and distribution.low <= label <= distribution.high:
                    labels[key] = float(label)
            elif key in config and label in listed(distribution):
                labels[key] = listed(distribution)[listed(distribution).index(label)]
        return labels


def read_space_file(path: Path, read_yaml: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The checked content of a space file: YAML, or in a file with another suffix lines of RecBole's ``hyper.test``."""
    try:
        yaml = path.suffix in (".yaml", ".yml")
        content = read_yaml(path) if yaml else _hyper_test(read_bytes(path, LARGEST).decode())
        parse_space(content)
    except (OptionError, OSError, ValueError) as error:  # ValueError: not UTF-8, or too large
        raise OptionError(f"space {path}: {getattr(error, 'strerror', None) or error}") from error
    return content


def parse_space(content: Mapping[str, Any]) -> Space:
    """The space that a mapping describes."""
    rest = dict(content)
    sampler, conditions = rest.pop("sampler", None), rest.pop("conditions", None) or []
    if not isinstance(conditions, list):
        raise OptionError(f"conditions: {conditions!r} must be a list")
    searched = {key: rest.pop(key) for key in list(rest) if isinstance(rest[key], dict)}
    distributions = {key: _distribution(key, value) for key, value in searched.items()}
    choices = {key: value["choice"] for key, value in searched.items() if "choice" in value}
    values = {key: {label_of(value): value for value in choice} for key, choice in choices.items()}
    return Space(distributions, values, rest, conditions, sampler)


def _distribution(key: str, value: dict) -> Distribution:
    (kind, given), *more = value.items() or [("", None)]
    values = given if isinstance(given, list) and not more else []
    labels = [label_of(each) for each in values]
    numbers = all(type(bound) in (int, float) and math.isfinite(bound) for bound in values)
    try:
        match kind, values:
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
    raise OptionError(f"{key}: {value} is not understood; write {key}: {{...}} with one of {FORMS}")


def _is_true(comparison: str, point: Point) -> bool:
    left, relation, right, number = COMPARISON.findall(comparison)[0]
    ours, theirs = point.get(left), float(number) if number else point.get(right)
    try:
        return ours is None or theirs is None or RELATIONS[relation](ours, theirs)
    except TypeError:
        raise OptionError(f"condition '{comparison}': {ours!r} and {theirs!r} cannot be compared") from None


def label_of(value: Any) -> Any:
    """The value in a form that Optuna can store: lists and mappings as JSON texts."""
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def listed(distribution: Distribution) -> Sequence[Any]:
    """All labels of a distribution; empty for real numbers, which cannot be listed."""
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1)
    return getattr(distribution, "choices", ())


def _hyper_test(text: str) -> dict[str, Any]:
    """Lines of RecBole's ``hyper.test``, read as literals; bounds of loguniform are natural logarithms, as there."""
    content: dict[str, Any] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key, kind, literal = line.split(maxsplit=2)
            values = list(ast.literal_eval(literal))
            content[key] = {kind: [math.exp(bound) for bound in values] if kind == "loguniform" else values}
        except Exception as error:  # literal_eval raises many kinds, including MemoryError and RecursionError
            raise OptionError(
                f"{line[:100]!r} is not understood; write 'name choice [1, 2]' or 'name loguniform -8,0'"
            ) from error
    return content
