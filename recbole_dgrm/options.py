"""Typed, range-checked options: what a YAML value may be is said once, beside its name.

A model declares a frozen dataclass without defaults (the defaults live in its YAML file):

    @dataclass(frozen=True)
    class Options:
        noise_steps: Annotated[int, Range(1)]
        prediction: Annotated[str, Choice("posterior", "x_0_hat")]
        fixed_step: Annotated[int | None, Range(1)]

and ``read`` builds it from any mapping, with an error that names key, value and allowed range.
Rules between keys go into ``__post_init__`` and raise ``OptionError``.
"""

import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from recbole_dgrm.errors import OptionError

T = TypeVar("T")
LARGEST = 2**53  # of all numbers: beyond it whole numbers are no longer exact, and torch has no room for them
LONGEST_SHOWN = 100  # characters of a value in an error
MANY = 20  # names, more than which an error does not list
LONGEST_NAME = 200  # bytes; file systems allow 255, and endings are added
NAMES = {
    NoneType: "empty (~)", int: "a whole number", float: "a number", str: "a name", bool: "true or false",
    list: "a list", dict: "a mapping (name: value)",
}  # fmt: skip
PLURALS = {int: "whole numbers", float: "numbers", str: "names"}


class Range:
    """A closed interval of numbers, or of each number of a list; a bound may be left open with ``inf``."""

    def __init__(self, low: float, high: float = math.inf, *, above: bool = False):
        self.low, self.high, self.above = low, high, above

    def __contains__(self, value: object) -> bool:
        if isinstance(value, list):
            return all(item in self for item in value)
        if not isinstance(value, (int, float)) or not -LARGEST <= value <= LARGEST:  # also of nan
            return False
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"a number {'above' if self.above else 'of at least'} {self.low}"
        return f"in {'(' if self.above else '['}{self.low}, {self.high}]"


class Choice:
    """One of a few names or numbers."""

    def __init__(self, *names: str | int):
        self.names = names

    def __contains__(self, value: object) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.names))


class Filled:
    """A text that is not empty and stands on one line."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and value.strip() != "" and value.isprintable()

    def __str__(self) -> str:
        return "a name on one line, not an empty one"


RATINGS = Range(-1e9, 1e9)  # what a rating may be
SEEDS = Range(0, 2**31 - 1)
FINITE = Range(-LARGEST, LARGEST)


def check_known(where: str, given: Iterable[Any], known: Iterable[str]) -> None:
    """Whether all names ``given`` are ``known``.

    Raises:
        OptionError: one is not; with the nearest, or where none is near with those that are known unless they are many.
    """
    names = {name.lower(): name for name in sorted(known)}
    for key in given:
        if key not in names.values():
            near = get_close_matches(str(key).lower(), names, n=1, cutoff=0.5)
            hint = f"; one of {', '.join(names.values())}" if len(names) <= MANY else ""
            raise OptionError(f"{where} {key!r}" + (f"; did you mean {names[near[0]]!r}?" if near else hint))


def check_name(key: str, value: Any) -> str:
    """``value``, if it is a text that can stand as a file name without leading out of its folder.

    Raises:
        OptionError: it is no text, empty, too long, or has separators or characters that cannot be printed.
    """
    name: str = check(key, value, str)
    if not name.isprintable() or not name.strip(". ") or set(name) & set("/\\:"):
        raise OptionError(f"{key}={name!r} is not a plain name: no empty one, no path, no control characters")
    if len(name.encode()) > LONGEST_NAME:
        raise OptionError(f"{key}={name[:20]!r}... is longer than {LONGEST_NAME} bytes; give it a shorter name")
    return name


def read(cls: type[T], config: Mapping[str, Any]) -> T:
    """Build the options dataclass ``cls`` from ``config``.

    Raises:
        OptionError: a key is missing, has the wrong type or lies outside its range.
    """
    assert is_dataclass(cls)
    hints = get_type_hints(cls, include_extras=True)
    values = {}
    for field in fields(cls):
        try:
            value = config[field.name]
        except KeyError:
            raise OptionError(f"{field.name} is not set; {cls.__name__} needs it") from None
        values[field.name] = check(field.name, value, hints[field.name])
    return cls(**values)


def read_part(key: str, cls: type[T], given: Any, rest: Mapping[str, Any]) -> T:
    """Build ``cls`` from ``given``, the value of ``key``, and from ``rest`` where that says nothing.

    Raises:
        OptionError: it is no mapping, has an unknown key, or a value that cannot be used.
    """
    check(key, given, dict)
    check_known(f"{key}: unknown key", given, [field.name for field in fields(cls)])  # type: ignore[arg-type]
    try:
        return read(cls, {**rest, **given})
    except OptionError as error:
        raise OptionError(f"{key}: {error}") from None


def check(key: str, value: Any, hint: Any) -> Any:
    """``value`` if it fits the (annotated) type ``hint``; whole floats become ints and ints floats."""
    kind, *limits = (hint.__origin__, *hint.__metadata__) if hasattr(hint, "__metadata__") else (hint,)
    allowed = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    if value is None and NoneType in allowed:
        return None
    value = _convert(value, allowed)
    if not any(_is(value, option) for option in allowed):
        raise OptionError(f"{key}={_shown(value)} is not {' or '.join(map(_name, allowed))}{_said(limits)}")
    for limit in limits:
        if value not in limit:
            raise OptionError(f"{key}={_shown(value)} is out of range; allowed: {limit}")
    return value


def _convert(value: Any, allowed: tuple[Any, ...]) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if float in allowed and int not in allowed and abs(value) <= LARGEST:
        return float(value)
    if int in allowed and float not in allowed and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _is(value: Any, kind: Any) -> bool:
    if get_origin(kind) is list:
        (inner,) = get_args(kind)
        return isinstance(value, list) and all(_is(item, inner) for item in value)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, (int, float))
    return isinstance(value, kind)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _name(kind: Any) -> str:
    return f"a list of {PLURALS[get_args(kind)[0]]}" if get_origin(kind) is list else NAMES[kind]


def _said(limits: list[Any]) -> str:
    return f" ({'; '.join(map(str, limits))})" if limits else ""


def option(name: str, value: object) -> str:
    """``--name=value`` as a shell reads it back; for commands that are printed."""
    return f"--{name}={shlex.quote(str(value))}"


@dataclass(frozen=True)
class RunOptions:
    """Keys that every run has, whatever the model; each is explained in ``properties/``."""

    protocol: str
    seed: Annotated[int, SEEDS]
    device: Annotated[str, Choice("auto", "cpu", "cuda")]
    data_path: Annotated[str | None, Filled()]
    output_dir: Annotated[str, Filled()]
    checkpoint_interval: Annotated[float, Range(0)]
    diagnose_every: Annotated[int, Range(0)]
    benchmark_filename: list[str] | None
    encoding: Annotated[str, Filled()]
    rating_scale: Annotated[list[float] | None, RATINGS]
    rating_step: Annotated[float | None, Range(0, above=True)]
    rating_threshold: Annotated[float | None, RATINGS]
    bias_shrinkage: Annotated[float, Range(0)]
    epochs: Annotated[int, Range(1)]
    eval_step: Annotated[int, Range(1)]
    stopping_step: Annotated[int, Range(0)]
    precision: Annotated[str, Choice("float32", "bfloat16")]
    compile: bool
    refit: bool
    train_batch_size: Annotated[int, Range(1)]
    eval_batch_size: Annotated[int, Range(1)]
    learner: Annotated[
        str, Choice("adam", "adamw", "sgd", "adagrad", "rmsprop")
    ]  # not sparse_adam: no gradient is sparse
    weight_decay: Annotated[float, Range(0)]
    topk: Annotated[list[int], Range(1)]
    metrics: list[str]
    valid_metric: str
    feedback: Annotated[str, Choice("rating", "implicit")]
    split_rounding: Annotated[str, Choice("up", "down")]
    rated_ties: Annotated[str, Choice("expected", "item_order")]
    rated_filter: Annotated[str, Choice("none", "threshold")]
    rated_denominator: Annotated[str, Choice("n", "relevant")]

    def __post_init__(self) -> None:
        parts = self.benchmark_filename
        for part in parts or []:
            check_name("benchmark_filename", part)
        if parts is not None and not 2 <= len(set(parts)) == len(parts) <= 3:
            raise OptionError(f"benchmark_filename={parts} must name [train, test] or three parts, each once")
        scale = self.rating_scale
        if scale is not None and not (len(scale) == 2 and scale[0] < scale[1]):
            raise OptionError(f"rating_scale={scale} must be [lowest, highest] with lowest < highest")
