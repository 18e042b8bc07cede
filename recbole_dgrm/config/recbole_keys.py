"""RecBole's keys that a user may set: their names and types, and those that cannot be used here.

RecBole checks few of its keys: with a wrong value it fails, or silently does something else. ``eval_args``, ``metrics``
and related keys are checked in ``evaluation_keys.py``; the names of columns are compared with the files in ``data/``.
Any other error of RecBole is turned into a sentence when it occurs.
"""

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat
from recbole.utils import argument_list

from recbole_dgrm.data.intervals import check_interval
from recbole_dgrm.errors import OptionError
from recbole_dgrm.options import Text, check, check_known
from recbole_dgrm.system.yaml_files import load_yaml, properties_dir

LOG = logging.getLogger(__name__)

_KEYS_BY_KIND: dict[Any, str] = {
    bool: "reproducibility shuffle log_wandb show_progress valid_metric_bigger filter_inter_by_user_or_item",
    Text: "wandb_project USER_ID_FIELD ITEM_ID_FIELD LABEL_FIELD NEG_PREFIX",
    Text | None: "RATING_FIELD TIME_FIELD",
    str: "field_separator seq_separator",
    list[str] | None: "alias_of_user_id alias_of_item_id",
    list[str] | str | None: "additional_feat_suffix",
    str | list | None: "user_inter_num_interval item_inter_num_interval",
    dict | None: "clip_grad_norm train_neg_sample_args load_col unload_col unused_col seq_len val_interval",
    Literal["first", "last"] | None: "rm_dup_inter",
    Annotated[int, Field(ge=0, le=64)]: "worker",
    Annotated[int, Field(ge=0, le=20)]: "loss_decimal_place metric_decimal_place",
    NonNegativeFloat: "learning_rate reg_weight",
}
KINDS = {key: kind for kind, keys in _KEYS_BY_KIND.items() for key in keys.split()}
FILES = ("inter", "user", "item", "kg", "link", "net")
PARTS = {
    "train_neg_sample_args": ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"),
    "clip_grad_norm": ("max_norm", "norm_type"),
}  # keys whose values are mappings, and the keys of these

_TABLES = load_yaml((properties_dir() / "recbole_keys.yaml").read_text(encoding="utf-8"))  # each is explained there
REPLACED, REFUSED = _TABLES["replaced"], _TABLES["refused"]
NAMES = {key: Literal[tuple(names)] for key, names in _TABLES["names"].items()}


def known_keys() -> set[str]:
    """The keys that RecBole's code reads for all models."""
    lists = ("general_arguments", "training_arguments", "evaluation_arguments", "dataset_arguments")
    return set(_TABLES["unlisted"]).union(*(getattr(argument_list, name) for name in lists))


def check_exist(given: Iterable[Any], known: Iterable[str]) -> None:
    """Check that all keys ``given`` are ``known`` or RecBole's, and are not replaced by another key."""
    for key in map(str, given):
        if key in REPLACED:
            raise OptionError(f"{key} is not used here: {REPLACED[key]}")
    check_known("unknown key", map(str, given), known_keys().union(known))


def check_keys(merged: Mapping[str, Any], needed: list[str]) -> dict[str, Any]:
    """Check the keys of RecBole without reading data; ``needed`` columns must be loaded. Returns the checked keys."""
    checked = {key: check(key, merged[key], hint) for key, hint in KINDS.items() if key in merged}
    for key, reason in REFUSED.items():
        if merged.get(key) not in (None, [], {}):
            raise OptionError(f"{key}={merged[key]!r} cannot be used here: {reason}; leave it out")
    for key, names in PARTS.items():
        check_known(f"{key}: unknown key", merged[key] or {}, names)
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        if merged[key] is not None:
            check_interval(key, merged[key])
    if merged["log_wandb"] and find_spec("wandb") is None:
        raise OptionError("log_wandb=true, but wandb is not installed: pip install wandb, or leave it off")
    _check_columns(merged, needed)
    return checked


def _check_columns(merged: Mapping[str, Any], needed: list[str]) -> None:
    """Check that the columns of ratings have different names, and that the needed ones are loaded and not dropped."""
    roles: dict[str, str] = {}
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "LABEL_FIELD"):
        if (name := merged[key]) is not None and (other := roles.setdefault(name, key)) != key:
            raise OptionError(f"{key}={name!r} is also the name of {other}; give each its own column")
    more = merged.get("additional_feat_suffix") or []
    load, unload, unused = (merged.get(key) or {} for key in ("load_col", "unload_col", "unused_col"))
    for key, columns in (("load_col", load), ("unload_col", unload), ("unused_col", unused)):
        check_known(f"{key}: there is no kind of file", columns, [*FILES, *([more] if isinstance(more, str) else more)])
    if both := [suffix for suffix in unload if load.get(suffix) not in (None, "*")]:
        raise OptionError(f"unload_col and load_col both name columns of {both[0]}; give one of them, or load_col=~")
    loaded = needed if merged["load_col"] is None else load.get("inter", [])
    dropped = {*unload.get("inter", []), *unused.get("inter", [])} - {merged["TIME_FIELD"]}  # needed for the split only
    lacking = [name for name in needed if name in dropped or not (loaded == "*" or name in list(loaded))]
    if lacking:
        raise OptionError(
            f"load_col, unload_col and unused_col leave out {', '.join(lacking)} of the .inter file, which is needed; "
            "load it"
        )


def check_model_keys(merged: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keys of a model of RecBole against the types of their defaults; returns them."""
    checked = {key: check(key, merged[key], _hint_like(key, default)) for key, default in defaults.items()}
    whole = {key for key, default in defaults.items() if type(default) is int and checked[key].is_integer()}
    return checked | {key: int(checked[key]) for key in whole}


def _hint_like(key: str, default: Any) -> Any:
    """The type of a key of a model of RecBole, from its default."""
    if isinstance(default, bool):
        return bool
    if isinstance(default, str) or default is None:
        return NAMES.get(key, str | None)
    return list[float] if isinstance(default, list) else float


@cache
def log_once(text: str) -> None:
    """Log a note about the config, at most once per process."""
    LOG.warning(text)
