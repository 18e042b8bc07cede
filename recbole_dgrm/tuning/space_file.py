"""What a space file may say: YAML, a line per key, or RecBole's ``hyper.test``.

    sampler: grid                                  # grid | random | tpe; may be left to the command line
    conditions: [noise_min < noise_max]            # between two keys, or a key and a number
    noise_min: {choice: [1.0e-4, 1.0e-3]}
    noise_max: {uniform: [0.01, 1.0]}
    learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
    latent_size: {int: [8, 64]}                    # both ends included
    weight_decay: 0.01                             # fixed

RecBole's lines (``learning_rate choice [0.01, 0.001]``) are read with literals only.
"""

import ast
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from recbole_dgrm.errors import OptionError
from recbole_dgrm.system.files import read_bytes
from recbole_dgrm.system.yaml_files import LARGEST
from recbole_dgrm.tuning.space import CONDITION, Condition, Distribution, Space, label_of

SHOWN = 100  # characters of a line that is not understood


def _choice(values: list) -> CategoricalDistribution:
    """One of a list of values of any kind."""
    labels = [label_of(value) for value in values]
    if not values or len(set(labels)) < len(labels):
        raise OptionError(f"choice: {values} must name values, each once")
    return CategoricalDistribution(labels)


def _real(bounds: list, log: bool = False, step: float | None = None) -> FloatDistribution:
    """A real number between two bounds, on a logarithmic scale where ``log``; in steps where ``step``."""
    low, high = _two(bounds)
    numbers = all(isinstance(bound, int | float) and math.isfinite(bound) for bound in bounds)
    if not numbers or not low < high or (log and low <= 0):
        positive = " and above 0" if log else ""
        raise OptionError(f"[{low}, {high}] must be two numbers, the lower first{positive}")
    if step is not None and not (isinstance(step, int | float) and 0 < step < math.inf):
        raise OptionError(f"quniform: the step {step!r} must be a number above 0")
    try:
        return FloatDistribution(low, high, log, step)
    except ArithmeticError:
        raise OptionError(f"quniform: the step {step!r} is too small for [{low}, {high}]") from None


def _whole(bounds: list) -> IntDistribution:
    """A whole number between two bounds, both included."""
    low, high = _two(bounds)
    if not all(type(bound) is int for bound in bounds) or low >= high:
        raise OptionError(f"int: [{low}, {high}] must be two whole numbers, the lower first")
    return IntDistribution(low, high)


def _two(bounds: list) -> list:
    if len(bounds) != 2:
        raise OptionError(f"{bounds} must be [lowest, highest]")
    return bounds


KINDS: dict[str, Callable[[list], Distribution]] = {
    "choice": _choice,
    "uniform": _real,
    "loguniform": lambda bounds: _real(bounds, log=True),
    "quniform": lambda bounds: _real(bounds[:2], step=bounds[2] if len(bounds) > 2 else None),
    "int": _whole,
}


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
    distributions: dict[str, Distribution] = {}
    objects, fixed = {}, {}
    for key, value in rest.items():
        if not isinstance(value, dict):
            fixed[key] = value
            continue
        (kind, given), *more = value.items() or [(None, None)]
        if more or kind not in KINDS or not isinstance(given, list):
            raise OptionError(
                f"{key}: {value!r} is not understood; write {key}: {{choice: [...]}} with one of {', '.join(KINDS)} "
                "and a list"
            )
        try:
            distributions[key] = KINDS[kind](given)
        except OptionError as error:
            raise OptionError(f"{key}: {error}") from error
        if kind == "choice":
            objects[key] = {label_of(choice): choice for choice in given}
    return Space(distributions, objects, fixed, [_condition(text) for text in conditions], sampler)


def _condition(text: Any) -> Condition:
    match = CONDITION.fullmatch(str(text))
    if not match:
        raise OptionError(f"condition {text!r} is not understood; write it like 'noise_min < noise_max'")
    left, relation, right = match.groups()
    try:
        return Condition(left, relation, float(right))
    except ValueError:
        return Condition(left, relation, right)


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
