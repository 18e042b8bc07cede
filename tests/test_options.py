import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveFloat, PositiveInt

from recbole_dgrm.errors import OptionError
from recbole_dgrm.options import Share, check, read


@dataclass(frozen=True)
class Options:
    steps: PositiveInt
    scale: Share
    rate: PositiveFloat
    fixed_step: PositiveInt | None
    hidden: list[PositiveInt]
    prediction: Literal["posterior", "x_0_hat"]
    refit: bool
    name: str
    levels: list[float] | None


VALID = {
    "steps": 5,
    "scale": 0.5,
    "rate": 1e-3,
    "fixed_step": None,
    "hidden": [256, 128],
    "prediction": "x_0_hat",
    "refit": True,
    "name": "run",
    "levels": [0.5, 1.0],
}


def read_with(**changed):
    return read(Options, VALID | changed)


def test_valid_values_are_taken_over_and_keys_of_others_are_ignored():
    assert read_with(learner="adam") == Options(**VALID)


def test_whole_floats_become_ints_and_ints_become_floats():
    options = read_with(steps=5.0, fixed_step=2.0, scale=1, rate=2)
    assert (options.steps, options.fixed_step, options.scale, options.rate) == (5, 2, 1.0, 2.0)
    kinds = [type(value) for value in (options.steps, options.fixed_step, options.scale, options.rate)]
    assert kinds == [int, int, float, float]


@pytest.mark.parametrize("key", VALID)
def test_none_is_taken_only_where_it_is_allowed(key):
    if key in ("fixed_step", "levels"):
        assert getattr(read_with(**{key: None}), key) is None
    else:
        with pytest.raises(OptionError, match=f"{key}=None is not"):
            read_with(**{key: None})


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("steps", "5", "a whole number (a number of at least 1)"),
        ("steps", 5.5, "a whole number (a number of at least 1)"),
        ("steps", math.nan, "a whole number (a number of at least 1)"),
        ("steps", True, "a whole number (a number of at least 1)"),
        ("scale", True, "a number (in [0, 1])"),
        ("rate", "1e-3", "a number (a number above 0)"),
        ("fixed_step", 1.5, "a whole number or empty (~) (a number of at least 1)"),
        ("hidden", 256, "a list of whole numbers (a number of at least 1)"),
        ("hidden", [256, "128"], "a list of whole numbers (a number of at least 1)"),
        ("hidden", [256, None], "a list of whole numbers (a number of at least 1)"),
        ("levels", [1, "x"], "a list of numbers or empty (~)"),
        ("prediction", 3, "a name (one of posterior, x_0_hat)"),
        ("refit", 1, "true or false"),
        ("name", 7, "a name"),
    ],
)
def test_a_wrong_type_is_refused_with_key_value_and_what_is_allowed(key, value, allowed):
    with pytest.raises(OptionError) as error:
        read_with(**{key: value})
    assert str(error.value) == f"{key}={value!r} is not {allowed}"


@pytest.mark.parametrize("key", VALID)
def test_a_missing_key_is_named(key):
    config = {other: value for other, value in VALID.items() if other != key}
    with pytest.raises(OptionError, match=rf"^{key} is not set; Options needs it"):
        read(Options, config)


@pytest.mark.parametrize(
    ("kind", "inside", "outside", "said"),
    [
        (Share, [0, 0.5, 1], [-1e-9, 1.001, math.nan], "in [0, 1]"),
        (Share | list[Share], [0.5, [0, 1], []], [], ""),
        (Annotated[float, Field(gt=0, le=1)], [1e-9, 1], [0, 1.1], "in (0, 1]"),
        (Annotated[float, Field(ge=2)], [2, 10**9], [1, math.inf, math.nan], "a number of at least 2"),
        (PositiveInt | None, [1, None], [0], "a number of at least 1"),
        (list[PositiveInt], [[256]], [[256, 0]], "a number of at least 1"),
        (PositiveFloat, [1e-9], [0, math.inf], "a number above 0"),
        (Literal["a", "b"], ["a"], ["c"], "one of a, b"),
        (int, [2], [2**60], "a whole number"),
    ],
)
def test_ranges_and_choices_say_what_they_allow(kind, inside, outside, said):
    for value in inside:
        check("key", value, kind)
    for value in outside:
        with pytest.raises(OptionError) as error:
            check("key", value, kind)
        assert str(error.value).startswith(f"key={value!r}")
        assert str(error.value).endswith(f" is out of range; allowed: {said}")


def test_rules_between_keys_raise_their_own_error():
    @dataclass(frozen=True)
    class Rising:
        low: float
        high: float

        def __post_init__(self):
            if self.low >= self.high:
                raise OptionError(f"low={self.low} must be below high={self.high}")

    assert read(Rising, {"low": 1, "high": 2}) == Rising(1.0, 2.0)
    with pytest.raises(OptionError, match=r"low=2.0 must be below high=1.0"):
        read(Rising, {"low": 2, "high": 1})
