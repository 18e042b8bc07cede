"""The types of what a run leaves on disk; a file that departs from them is damaged or not ours.

A line like ``Sample = _keys({Size: "n", Bounded: "mean std"})`` reads: a sample has the key ``n``, which is a size, and
the keys ``mean`` and ``std``, which are bounded numbers. The files are checked as they are read; nothing is converted.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError, create_model

LARGEST = 1e30  # of a metric: predictions of a model that diverged reach it, and its square is still a number
LEVELS = 1e6  # of a rating scale
YEARS_S = 1e10  # seconds in three centuries
SHOWN = 40  # characters of a value that departs
WANTED = {
    "bool_type": "true or false",
    "dict_type": "keys and values",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "keys and values",
    "string_type": "a text",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
}  # what a user reads, by pydantic's name of the error

Number = Annotated[float, Field(strict=True)]
Bounded = Annotated[Number, Field(ge=-LARGEST, le=LARGEST)]
Positive = Annotated[Number, Field(ge=0, le=LARGEST)]
Seconds = Annotated[Number, Field(ge=0, le=YEARS_S)]
Share = Annotated[Number, Field(ge=0, le=1)]
Whole = Annotated[int, Field(strict=True)]
Count = Annotated[Whole, Field(ge=0, le=2**53)]
Size = Annotated[Whole, Field(ge=1, le=2**53)]
Trials = Annotated[Whole, Field(ge=1, le=2**31)]
Seed = Annotated[Whole, Field(ge=0, le=2**31 - 1)]
Truth = Annotated[bool, Field(strict=True)]
Names = Mapping[Any, str]


class Keys(BaseModel, extra="allow"):
    """Keys and values; beside those that have a type there may be others."""


class Measured(Keys):
    """A line of epochs whose other entries are all numbers or null."""

    __pydantic_extra__: dict[str, Number | None]


def _keys(needed: Names | None = None, optional: Names | None = None, base: type[Keys] = Keys) -> Any:
    """Keys and values, by type the names of those that have it; an optional key may be missing, yet is not null."""
    fields: Any = {name: (kind, ...) for kind, names in (needed or {}).items() for name in names.split()}
    fields |= {name: (kind, None) for kind, names in (optional or {}).items() for name in names.split()}
    return create_model("Keys", __base__=base, **fields)


def _short_for(key: str, kind: Any) -> Any:
    """Keys and values, or a name that stands for the value of ``key``."""
    return Annotated[kind, BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)]


def _where(fits: Callable[[Any], bool], kind: Any, said: str) -> Any:
    """Values of a kind that fit; ``said`` is what is wrong with another ``value`` or its ``type``."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError(said.format(value=value, type=type(value).__name__))
        return value

    return Annotated[kind, AfterValidator(check)]


def _is_scale(value: list[float]) -> bool:
    low, high, step = value if len(value) == 3 else (0, 1, 1)
    return low < high and step > 0 and high - low < LEVELS * step


def _rises(levels: list[float]) -> bool:
    return len(levels) > 1 and all(low < high for low, high in pairwise(levels))


def _has_one_metric(sweep: list[Keys]) -> bool:
    named = [{key for key, value in dict(point).items() if isinstance(value, (int, float))} for point in sweep]
    ranked = named and any(key.startswith(("ratedndcg", "ndcg")) for key in named[0])
    return bool(ranked) and all(keys == named[0] for keys in named)


def _has_intervals(found: Any) -> bool:
    return len(found.nominal) == len(found.observed) and {0.5, 0.9} <= set(found.nominal)


Scores = dict[str, Bounded | None]
Flat: Any = _where(lambda value: not isinstance(value, (list, dict)), Any, "is a {type}")
Levels = _where(_rises, list[Bounded], "does not rise from one level to the next")
Sample = _keys({Size: "n", Bounded: "mean", Positive: "std", list[Count]: "counts"})
Lists = _keys(
    {Count: "n", Share | None: "distinct items", Bounded | None: "gini entropy"},
    {Count: "users of_users", Share: "rankings"},
)
Distribution = _keys(
    optional={Sample: "rated unrated ratings test validation", Share | None: "between_users", Lists: "lists"}
)
Status = Literal["collapsed", "narrow", "intact", "unknown"]
Verdict = _keys({Status: "status", str: "reason training", Count | None: "epoch since", list[Count]: "passing"})
Distances = _keys({_keys({Bounded: "value low high"}): "kl reverse_kl js wasserstein"})
SweepPoint: Any = _keys(
    {Literal["posterior", "x_0_hat"]: "prediction", Count: "denoising_steps prediction_noise_steps"}
)
KS = _keys({Size: "users", list[Share]: "alphas", list[Count]: "hits"})
Errors: Any = _keys({Positive: "deviation error"})
Gaussians = _keys(
    {
        Size: "n",
        Positive: "deviation crps",
        Bounded | None: "log_score rank_correlation",
        list[Share]: "nominal observed",
        list[Errors]: "bins",
    }
)
Calibrated: Any = _where(_has_intervals, Gaussians, "has not a share for each level, .5 and .9 among them")
Diagnosis = _keys(
    optional={
        Verdict: "verdict",
        Distribution: "distribution",
        Distances: "distances",
        Seconds: "seconds",
        _keys({Calibrated: "model means"}): "calibration",
        _where(lambda ks: len(ks.alphas) == len(ks.hits), KS, "has not a hit for each alpha"): "ks",
        _where(_has_one_metric, list[SweepPoint], "has not one metric at all points"): "sweep",
        _where(_is_scale, list[Bounded], "is {value}, not the lowest rating, the highest and a step between"): "scale",
        Levels: "levels",
    },
)
Scale = _keys({Bounded: "low high threshold", Levels: "levels"})
Data = _keys(
    optional={
        str: "source fingerprint",
        list[str]: "notes",
        Scale | None: "scale",
        Count: "n_users n_items n_train n_valid n_test",
    },
)
Group: Any = _keys({Count: "least n", Count | None: "most"}, base=Measured)
Resolution: Any = _keys({Positive: "ratio", Count: "users of"})
EvalArgs = _keys(optional={_short_for("valid", dict[str, str]): "mode"})
Config = _keys(
    optional={
        EvalArgs: "eval_args",
        str: "valid_metric",
        list[Count]: "topk",
        list[str]: "metrics",
        Count: "epochs eval_step diagnose_every",
        Count | None: "fixed_step metric_decimal_place",
        list[Bounded] | None: "rating_scale",
        Bounded | None: "rating_step rating_threshold",
        Bounded: "bias_shrinkage",
        Truth: "refit",
    },
)
Record = _keys(
    {str: "model dataset protocol", Seed: "seed", Config: "config"},
    {
        str: "label hash begun selected_by",
        Count: "code",
        Literal[
            "running", "finished", "interrupted", "diverged", "failed", "timed_out", "validated", "pruned"
        ]: "status",
        str | None: "error traceback",
        Count | None: "parameters",
        Scores: "valid test skill",
        dict[str, Scores]: "reference",
        dict[Literal["valid", "test"], dict[str, Resolution]]: "resolution",
        dict[Literal["users", "items"], dict[Literal["model", "bias"], list[Group]]]: "groups",
        Diagnosis: "diagnosis",
        dict[str, Seconds]: "timing",
        dict[str, Flat]: "environment",
        Data: "data",
    },
)
Split = _keys({str: "fingerprint"})
Epoch = _keys(
    {Count: "epoch", Literal["select", "refit"]: "stage", Seconds: "seconds"},
    {Distribution: "distribution", Seconds: "diagnose_s", str: "diagnosis_error"},
    Measured,
)
Search = _keys({dict: "config space", str: "sampler study data", Trials: "trials", Truth: "prune", Count: "code"})
Trial = _keys({dict[str, Flat]: "labels", dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Bounded]: "medians"})
Row: Any = _short_for("model", _keys({str: "model"}, {str: "label"}))
Published = _keys(optional={str: "source", list[str]: "protocols", dict[str, dict[str, dict[str, Number]]]: "values"})
Plan = _keys(
    optional={
        list[Row]: "models",
        list[str]: "protocols",
        list[str] | None: "metrics",
        str | None: "baseline",
        Published: "published",
    },
)


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def departure(value: Any, kind: Any) -> str | None:
    """A sentence about the first place where ``value``, read from JSON, is not of this kind; None if there is none."""
    try:
        _adapter(kind).validate_python(value)
    except ValidationError as error:
        return _sentence(error.errors(include_url=False)[0])
    return None


def _sentence(error: Mapping[str, Any]) -> str:
    kind, place = error["type"], error["loc"]
    if kind == "missing":
        return f"{_named(place[:-1])} has no {place[-1]}"
    if kind == "value_error":
        return f"{_named(place)} {error['ctx']['error']}"
    wanted = WANTED.get(kind, "valid").format(**error.get("ctx", {})).replace("'", "").replace(", ", " or ")
    text = json.dumps(error["input"], default=str)
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return f"{_named(place)} is {shown}, not {wanted}"


def _named(place: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f" {key}" for key in place).strip() or "it"
