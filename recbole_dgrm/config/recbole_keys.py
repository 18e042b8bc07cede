"""What the keys of RecBole may be: their types and ranges, which of them we refuse, and which change nothing.

RecBole checks few of its keys: it fails on a wrong value, or uses it without a word. Keys for which a type is not
enough have functions below; ``eval_args``, ``metrics`` and the like are in ``evaluation_keys.py``, and the names of
columns are compared with the files in ``data/atomic_files.py``.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from recbole_dgrm.data.intervals import check_interval
from recbole_dgrm.errors import OptionError
from recbole_dgrm.options import Text, check, check_known, check_name, read_part
from recbole_dgrm.system.yaml_files import load_yaml, properties_dir

LOG = logging.getLogger(__name__)

_KEYS_BY_KIND: dict[Any, str] = {
    bool: "reproducibility shuffle log_wandb show_progress require_pow repeatable valid_metric_bigger double_tower "
    "filter_inter_by_user_or_item kg_reverse_r",
    Text: "wandb_project state USER_ID_FIELD ITEM_ID_FIELD LABEL_FIELD NEG_PREFIX ITEM_LIST_LENGTH_FIELD LIST_SUFFIX "
    "POSITION_FIELD HEAD_ENTITY_ID_FIELD TAIL_ENTITY_ID_FIELD RELATION_ID_FIELD ENTITY_ID_FIELD",
    Text | None: "RATING_FIELD TIME_FIELD",
    str: "field_separator seq_separator",
    str | None: "transform",
    list[str]: "numerical_features",
    list[str] | None: "alias_of_user_id alias_of_item_id alias_of_entity_id alias_of_relation_id",
    list[str] | str | None: "additional_feat_suffix",
    str | list | None: "user_inter_num_interval item_inter_num_interval entity_kg_num_interval "
    "relation_kg_num_interval",
    dict | None: "clip_grad_norm train_neg_sample_args load_col unload_col unused_col seq_len val_interval "
    "discretization preload_weight",
    Literal["first", "last"] | None: "rm_dup_inter",
    Annotated[int, Field(ge=0, le=64)]: "worker",
    Annotated[int, Field(ge=0, le=20)]: "loss_decimal_place metric_decimal_place",
    PositiveInt: "MAX_ITEM_LIST_LENGTH",
    NonNegativeFloat: "learning_rate reg_weight",
}
KINDS = {key: kind for kind, keys in _KEYS_BY_KIND.items() for key in keys.split()}

VALUES: dict[str, Any] = {
    "load_col": list[str] | str,
    "unload_col": list[str],
    "unused_col": list[str],
    "seq_len": PositiveInt,
    "val_interval": str | list,
}  # what each value of these mappings may be

_TABLES = load_yaml((properties_dir() / "recbole_keys.yaml").read_text(encoding="utf-8"))  # each is explained there
REPLACED, REFUSED, IDLE, UNLISTED = (_TABLES[name] for name in ("replaced", "refused", "idle", "unlisted"))
RANGES = {key: Field(**limits) for limits, keys in _TABLES["ranges"] for key in keys}
NAMES = {key: Literal[tuple(names)] for key, names in _TABLES["names"].items()}
FILES, OF_OTHER_MODELS = ("inter", "user", "item"), ("kg", "link", "net")


@dataclass(frozen=True)
class Sampling:
    """The keys of ``train_neg_sample_args``."""

    distribution: Literal["uniform", "popularity"]
    sample_num: PositiveInt
    alpha: NonNegativeFloat
    dynamic: bool
    candidate_num: NonNegativeInt

    def __post_init__(self) -> None:
        if self.dynamic and not self.candidate_num:
            raise OptionError("dynamic=True chooses among candidates; say candidate_num, 1 or more")


@dataclass(frozen=True)
class Clipping:
    """The keys of ``clip_grad_norm``, which are the arguments of torch's function of that name."""

    max_norm: PositiveFloat
    norm_type: Any

    def __post_init__(self) -> None:
        if self.norm_type != math.inf:  # with it, the norm is the largest gradient
            check("norm_type", self.norm_type, PositiveFloat)


def check_keys(merged: Mapping[str, Any], theirs: Mapping[str, Any], needed: list[str]) -> dict[str, Any]:
    """Check RecBole's keys as far as that needs no data, and log which of them change nothing.

    Args:
        merged: all keys of the run.
        theirs: the keys as RecBole's own files have them.
        needed: the columns of the ``.inter`` file that the run needs.

    Raises:
        OptionError: what is wrong, the value, and the remedy.
    """
    checked = {key: check(key, merged[key], hint) for key, hint in KINDS.items() if key in merged}
    for key, reason in REFUSED.items():
        if merged.get(key) not in (None, [], {}):
            raise OptionError(f"{key}={merged[key]!r} cannot be used here: {reason}; leave it out")
    for key, hint in VALUES.items():
        for name, value in (merged.get(key) or {}).items():
            check(f"the name {name!r} in {key}", name, str)
            check(f"{key}: {name}", value, hint)
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        if merged[key] is not None:
            check_interval(key, merged[key])
    if merged["log_wandb"] and find_spec("wandb") is None:
        raise OptionError("log_wandb=true, but wandb is not installed: pip install wandb, or leave it off")
    _check_training(merged)
    _check_names(merged)
    _check_loading(merged, needed)
    _say_idle(merged, theirs)
    return checked


def check_model_keys(merged: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keys of a model of RecBole, each against the type of its default.

    Raises:
        OptionError: what is wrong, the value, and the remedy.
    """
    return {key: check(key, merged[key], model_hint(key, default)) for key, default in defaults.items()}


def model_hint(key: str, default: Any) -> Any:
    """The type of a key of RecBole's models, with its range where one is known."""
    if isinstance(default, bool):
        return bool
    if default is None:
        return str | None
    if isinstance(default, str):
        return NAMES.get(key, str)
    whole = all(isinstance(item, int) for item in (default if isinstance(default, list) else [default]))
    number: Any = int if whole and key not in _TABLES["real"] else float
    number = Annotated[number, RANGES[key]] if key in RANGES else number
    return list[number] if isinstance(default, list) else number


def _check_training(merged: Mapping[str, Any]) -> None:
    sampling, clipping = merged["train_neg_sample_args"], merged["clip_grad_norm"]
    if sampling is not None and sampling.get("distribution", "") not in (None, "None"):
        rest = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}
        read_part("train_neg_sample_args", Sampling, sampling, rest)
    if clipping is not None:
        read_part("clip_grad_norm", Clipping, clipping, {"norm_type": 2.0})


def _check_names(merged: Mapping[str, Any]) -> None:
    """Check that columns have names of their own, and that the separators can stand between fields."""
    roles: dict[str, str] = {}
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "LABEL_FIELD"):
        if (name := merged[key]) is not None and (other := roles.setdefault(name, key)) != key:
            raise OptionError(f"{key}={name!r} is the name of {other}, too; give each a column of its own")
    users = {merged["USER_ID_FIELD"], *(merged["alias_of_user_id"] or [])}
    if both := users & {merged["ITEM_ID_FIELD"], *(merged["alias_of_item_id"] or [])}:
        raise OptionError(
            f"alias_of_user_id and alias_of_item_id: {', '.join(both)} cannot hold ids of both users and items"
        )
    for key in ("field_separator", "seq_separator"):
        text = merged[key]
        if not text or set(text) & set(":\"'\r\n") or any(map(str.isalnum, text)) or (len(text) > 1 and "|" in text):
            raise OptionError(f'{key}={text!r} cannot separate fields; a tab is written "\\t" in double quotes')
    if merged["field_separator"] == merged["seq_separator"]:
        raise OptionError(f"field_separator and seq_separator are both {merged['field_separator']!r}; they must differ")


def _check_loading(merged: Mapping[str, Any], needed: list[str]) -> None:
    """Check that the needed columns are loaded, and not dropped again."""
    more = merged.get("additional_feat_suffix") or []
    for suffix in (more := [more] if isinstance(more, str) else more):
        if check_name("additional_feat_suffix", suffix) in FILES:
            raise OptionError(f"additional_feat_suffix={suffix!r} is read in any case; leave it out")
    load, unload, unused = (merged.get(key) or {} for key in ("load_col", "unload_col", "unused_col"))
    for key, columns in (("load_col", load), ("unload_col", unload), ("unused_col", unused)):
        check_known(f"{key}: there is no kind of file", columns, [*FILES, *OF_OTHER_MODELS, *more])
    kept = {"inter": needed, "user": [merged["USER_ID_FIELD"]], "item": [merged["ITEM_ID_FIELD"]]}
    for suffix, names in kept.items():
        loaded = load.get(suffix, [] if suffix == "inter" and merged["load_col"] is not None else names)
        if isinstance(loaded, str) and loaded != "*":
            raise OptionError(f"load_col: {suffix}={loaded!r} is neither a list of columns nor '*' for all")
        if lacking := [name for name in names if loaded != "*" and name not in loaded]:
            raise OptionError(f"load_col: {suffix}={loaded} lacks {', '.join(lacking)}, which is needed; add it")
        for key, gone in (("unload_col", unload), ("unused_col", unused)):
            after = [merged["TIME_FIELD"]] if key == "unused_col" else []  # that is dropped once the split is made
            if lost := [name for name in gone.get(suffix, []) if name in names and name not in after]:
                raise OptionError(f"{key}: {suffix} takes {', '.join(lost)} away, which is needed; leave it out")
    for suffix in unload:
        if merged["load_col"] is not None and load.get(suffix) != "*":
            raise OptionError(
                f"unload_col: {suffix} stands beside load_col: {suffix}={load.get(suffix)}; "
                f"to load all but some say load_col={{{suffix}: '*'}}"
            )


def _say_idle(merged: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    for key, reason in IDLE.items():
        if merged.get(key) not in (None, theirs.get(key)):
            say_once(idle(key, merged[key], reason))
    if merged["wandb_project"] != theirs["wandb_project"] and not merged["log_wandb"]:
        say_once(idle("wandb_project", merged["wandb_project"], "log_wandb is off"))


def idle(key: str, value: Any, reason: str) -> str:
    """The note on a key that changes nothing."""
    return f"{key}={value} changes nothing here: {reason}"


@cache
def say_once(text: str) -> None:
    """Log a note about the config, once in a process, however often the config is read."""
    LOG.warning(text)
