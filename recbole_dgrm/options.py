"""Typed options: the type and the range of a YAML value are declared once, with its name.

A model declares a frozen dataclass of pydantic's types without defaults (the defaults are in its YAML file):

    @dataclass(frozen=True)
    class Options:
        noise_steps: PositiveInt
        prediction: Literal["posterior", "x_0_hat"]
        fixed_step: PositiveInt | None

and ``read`` builds it from any mapping, with an error that names the key, the value and what is allowed.
Rules between keys go into ``__post_init__`` and raise ``OptionError``.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from recbole_dgrm.errors import OptionError

T = TypeVar("T")
LARGEST = 2**53  # the largest number; larger ints are not exact as floats
LARGEST_RATING = 1e9
LONGEST_SHOWN = 100  # characters of a value in an error
MANY = 20  # names that an error lists, at most
LONGEST_NAME = 200  # bytes; file systems allow 255, and suffixes are added
KINDS = {
    "null": "empty (~)",
    "integer": "a whole number",
    "number": "a number",
    "string": "a name",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping (name: value)",
}  # types of JSON Schema, as messages name them

# Keys of 0.2.0 that no longer exist, with the value that corresponds to the present behaviour. Stored configs may still
# have them, and they are part of the hashes of such runs.
RETIRED: dict[str, Any] = {"compile": False, "precision": "float32"}
NOISE_ROWS = {"noise_rows": "auto"}
OF_DGRMPLUS = {
    **{"orientation": "user", "mask_channel": False, "blend": 0.0, "blend_factors": 16, "blend_components": 64},
    **{"blend_chains": 1, "blend_sweeps": 115, "blend_ridge": 250.0},
}  # DGRM and DGRMKL had these keys, too
RETIRED_OF: dict[str, dict[str, Any]] = {
    "BMF": {"side_features": [], "time_effects": False},
    "DGRM": NOISE_ROWS | OF_DGRMPLUS,
    "DGRMKL": NOISE_ROWS | OF_DGRMPLUS,
    "DGRMPlus": NOISE_ROWS,
}
INSTEAD = {
    "noise_rows": {"step_cost": "items", "decay_per_rating": 0.0, "weight_average": 0.0}
}  # the behaviour of runs with such a key, if it is not a default any more


def retired(model: Any) -> dict[str, Any]:
    """The keys of a model in 0.2.0 that no longer exist, with the value of the present behaviour."""
    return RETIRED | (RETIRED_OF.get(model, {}) if isinstance(model, str) else {})


def _filled(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError
    return text


Text = Annotated[str, Field(description="a name on one line, not an empty one"), AfterValidator(_filled)]
Share = Annotated[float, Field(ge=0, le=1)]
Rating = Annotated[float, Field(ge=-LARGEST_RATING, le=LARGEST_RATING)]
Dropout = Annotated[float, Field(ge=0, le=0.99)]  # 1 would drop everything
CenterKind = Literal["none", "mean", "bias"]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


def check_known(where: str, given: Iterable[Any], known: Iterable[str]) -> None:
    """Check that all names ``given`` are ``known``."""
    names = {name.lower(): name for name in sorted(known)}
    for key in given:
        if key not in names.values():
            near = get_close_matches(str(key).lower(), names, n=1, cutoff=0.5)
            hint = f"; one of {', '.join(names.values())}" if len(names) <= MANY else ""
            raise OptionError(f"{where} {key!r}" + (f"; did you mean {names[near[0]]!r}?" if near else hint))


def check_name(key: str, value: Any) -> str:
    """``value``, if it is a text that can be a file name and is not a path."""
    if not isinstance(value, str):
        raise OptionError(f"{key}={_shown(value)} is not a name; a name that looks like something else needs quotes")
    name = value
    if not name.isprintable() or not name.strip(". ") or set(name) & set("/\\:"):
        raise OptionError(f"{key}={name!r} is not a plain name: not empty, no path, no control characters")
    if len(name.encode()) > LONGEST_NAME:
        raise OptionError(f"{key}={name[:20]!r}... is longer than {LONGEST_NAME} bytes; give it a shorter name")
    return name


def read(cls: type[T], config: Mapping[str, Any]) -> T:
    """Build the options dataclass ``cls`` from ``config``.

    Raises:
        OptionError: the value of a key is missing, has the wrong type or is out of range.
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
    """Build ``cls`` from ``given``, the value of ``key``; ``rest`` has the defaults."""
    check(key, given, dict)
    check_known(f"{key}: unknown key", given, [field.name for field in fields(cls)])  # type: ignore[arg-type]
    try:
        return read(cls, {**rest, **given})
    except OptionError as error:
        raise OptionError(f"{key}: {error}") from None


def check(key: str, value: Any, hint: Any) -> Any:
    """``value`` if it fits the (annotated) type ``hint``; whole floats become ints and ints floats.

    Raises:
        OptionError: it does not fit; the message says what is allowed.
    """
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        kind, limits = _describe(TypeAdapter(hint).json_schema())
        if any(map(_is_of_wrong_kind, error.errors(include_url=False))):
            raise OptionError(f"{key}={_shown(value)} is not {kind}{limits and f' ({limits})'}") from None
        read_as = float(value) if kind.startswith(KINDS["number"]) else _whole(value)
        raise OptionError(f"{key}={_shown(read_as)} is out of range; allowed: {limits or kind}") from None


@cache
def _adapter(hint: Any) -> TypeAdapter:
    """The check of a type; it is strict: texts are not read as numbers, and ``true`` is not 1."""
    untyped = list in (hint, *get_args(hint))  # such as an interval, which may be infinite; its reader checks the items
    finite: Any = hint if untyped else Annotated[hint, AfterValidator(_finite)]
    return TypeAdapter(Annotated[finite, BeforeValidator(_whole)], config=ConfigDict(strict=True))


def _whole(value: Any) -> Any:
    """A whole float as an int; for a type of floats pydantic converts it back."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _finite(value: Any) -> Any:
    numbers = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, (int, float))]
    if not all(-LARGEST <= number <= LARGEST for number in numbers):  # also true for nan
        raise ValueError
    return value


def _is_of_wrong_kind(error: Mapping[str, Any]) -> bool:
    kind, given = error["type"], error["input"]
    return kind.endswith("_type") or (kind == "literal_error" and not isinstance(given, str))


def _describe(schema: Mapping[str, Any]) -> tuple[str, str]:
    """The kind of value that a JSON schema allows, and its limits, both as texts for messages."""
    if "anyOf" in schema:
        kinds, limits = zip(*map(_describe, schema["anyOf"]), strict=True)
        return " or ".join(kinds), ", or ".join(filter(None, limits))
    if schema.get("items"):
        kind, limit = _describe(schema["items"])
        return f"a list of {kind.removeprefix('a ')}s", limit
    return KINDS[schema.get("type", "object")], _limits(schema)


def _limits(schema: Mapping[str, Any]) -> str:
    if names := schema.get("enum") or [schema[key] for key in ("const",) if key in schema]:
        return f"one of {', '.join(map(str, names))}"
    low, above, high = (_whole(schema.get(key)) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if above == 0 and schema["type"] == "integer":
        low, above = 1, None
    if high is not None:
        return f"in {f'[{low}' if above is None else f'({above}'}, {high}]"
    if above is not None:
        return f"a number above {above}"
    return schema.get("description", "") if low is None else f"a number of at least {low}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def option(name: str, value: object) -> str:
    """``--name=value``, quoted for a shell, for printed commands."""
    return f"--{name}={shlex.quote(str(value))}"


@dataclass(frozen=True)
class RunOptions:
    """Keys that every run has, for all models; each is explained in ``properties/``."""

    protocol: str
    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    data_path: Text | None
    output_dir: Text
    checkpoint_interval: NonNegativeFloat
    diagnose_every: NonNegativeInt
    benchmark_filename: list[str] | None
    known_share: Share
    encoding: Text
    rating_scale: list[Rating] | None
    rating_step: PositiveFloat | None
    rating_threshold: Rating | None
    bias_shrinkage: NonNegativeFloat
    epochs: PositiveInt
    eval_step: PositiveInt
    stopping_step: NonNegativeInt | Literal["auto"]
    refit: bool
    train_batch_size: PositiveInt | Literal["auto"]
    eval_batch_size: PositiveInt
    learner: Literal["adam", "adamw", "sgd", "adagrad", "rmsprop"]  # not sparse_adam: no gradient is sparse
    weight_decay: NonNegativeFloat
    topk: list[PositiveInt]
    metrics: list[str]
    valid_metric: str
    feedback: Literal["rating", "implicit"]
    split_rounding: Literal["up", "down"]
    rated_ties: Literal["expected", "item_order"]
    rated_filter: Literal["none", "threshold"]
    rated_denominator: Literal["n", "relevant"]

    def __post_init__(self) -> None:
        parts = self.benchmark_filename
        for part in parts or []:
            check_name("benchmark_filename", part)
        if parts is not None and not 2 <= len(set(parts)) == len(parts) <= 3:
            raise OptionError(f"benchmark_filename={parts} must name two parts, [train, test], or three, each once")
        if self.known_share == 0:
            raise OptionError("known_share=0 would leave nothing to learn from; give a share above 0")
        scale = self.rating_scale
        if scale is not None and not (len(scale) == 2 and scale[0] < scale[1]):
            raise OptionError(f"rating_scale={scale} must be [lowest, highest] with lowest < highest")
