"""What the keys of RecBole may be: the type and range of each, which of them are not for us, and which do nothing.

RecBole checks few of its keys and falls over the values of others, or takes them in silence. Keys that need more than a
type have functions below; ``eval_args``, ``metrics`` and the like are in ``evaluation_keys.py``, and what names columns
is checked against the files in ``data/columns.py``.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from recbole_dgrm.data.intervals import check_counts
from recbole_dgrm.errors import OptionError
from recbole_dgrm.options import Text, check, check_known, check_name, read_part

LOG = logging.getLogger(__name__)

_TEXTS, _INTERVAL, _PLACES = list[str] | None, str | list | None, Annotated[int, Field(ge=0, le=20)]
_KEYS_BY_KIND: list[tuple[Any, str]] = [
    (
        bool,
        "reproducibility shuffle log_wandb show_progress require_pow repeatable valid_metric_bigger "
        "filter_inter_by_user_or_item kg_reverse_r double_tower",
    ),
    (
        Text,
        "wandb_project state USER_ID_FIELD ITEM_ID_FIELD LABEL_FIELD NEG_PREFIX ITEM_LIST_LENGTH_FIELD LIST_SUFFIX "
        "POSITION_FIELD HEAD_ENTITY_ID_FIELD TAIL_ENTITY_ID_FIELD RELATION_ID_FIELD ENTITY_ID_FIELD",
    ),
    (Text | None, "RATING_FIELD TIME_FIELD"),
    (str, "field_separator seq_separator"),
    (str | None, "transform"),
    (list[str], "numerical_features"),
    (_TEXTS, "alias_of_user_id alias_of_item_id alias_of_entity_id alias_of_relation_id"),
    (list[str] | str | None, "additional_feat_suffix"),
    (_INTERVAL, "user_inter_num_interval item_inter_num_interval entity_kg_num_interval relation_kg_num_interval"),
    (
        dict | None,
        "clip_grad_norm train_neg_sample_args load_col unload_col unused_col seq_len val_interval discretization "
        "preload_weight",
    ),
    (Literal["first", "last"] | None, "rm_dup_inter"),
    (Annotated[int, Field(ge=0, le=64)], "worker"),
    (PositiveInt, "MAX_ITEM_LIST_LENGTH"),
    (_PLACES, "loss_decimal_place metric_decimal_place"),
    (NonNegativeFloat, "learning_rate reg_weight"),
]
KINDS = {key: kind for kind, keys in _KEYS_BY_KIND for key in keys.split()}

# Of those that are mappings: what each value may be.
VALUES: dict[str, Any] = {
    "load_col": list[str] | str,
    "unload_col": list[str],
    "unused_col": list[str],
    "seq_len": PositiveInt,
    "val_interval": str | list,
}

# Keys of RecBole that would change data or batches in ways that nothing here is made for: refused unless empty.
_SEQUENTIAL, _KNOWLEDGE = "it is for sequential models", "it is for models with a knowledge graph"
NOT_HERE = {
    "transform": _SEQUENTIAL,
    "numerical_features": "it is for context-aware models",
    "discretization": "it is for context-aware models; ratings keep their own scale",
    "preload_weight": "no general recommender reads such weights",
}
# Keys that change nothing here: they are taken, and a note says so where they are not as RecBole has them.
IDLE = {
    "show_progress": "bars are shown on a terminal and nowhere else",
    "state": "the terminal has notes and errors, run.log all lines from INFO on",
    "double_tower": "it is for context-aware models",
    **dict.fromkeys(["ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX", "MAX_ITEM_LIST_LENGTH", "POSITION_FIELD"], _SEQUENTIAL),
    **dict.fromkeys(
        ["HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "ENTITY_ID_FIELD"], _KNOWLEDGE
    ),
    **dict.fromkeys(["kg_reverse_r", "alias_of_entity_id", "alias_of_relation_id"], _KNOWLEDGE),
    **dict.fromkeys(["entity_kg_num_interval", "relation_kg_num_interval"], _KNOWLEDGE),
}

# Of RecBole's models: the kind of a number follows from its default, its range stands here.
_KEYS_BY_RANGE: list[tuple[Any, str]] = [
    (
        Field(ge=0, le=1),
        "dropout_prob dropout node_dropout message_dropout drop_ratio corruption_ratio l1_ratio",
    ),
    (
        Field(ge=0),
        "reg_weight reg_weights reg_weight_1 reg_weight_2 cor_weight ssl_weight ssl_reg proto_reg anneal_cap "
        "vae_anneal_cap negative_weight lambda1 lambda2 rho shrink std second_order_loss_weight mixture_weights",
    ),
    (Field(gt=0), "ssl_temp ssl_tau tau"),
    (
        Field(ge=1),
        "embedding_size latent_dimension hidden_dimension gcn_output_dim rank kfac k num_basis_functions class_num "
        "num_clusters conv_kernel_size pool_kernel_size num_conv_kernel neigh_num neigh_embedding_size "
        "ui_embedding_size weight_size mf_embedding_size mlp_embedding_size user_embedding_size item_embedding_size "
        "steps n_factors n_iterations history_len history_num_per_term n_cate m_step dims_dnn mlp_hidden_size in_dims "
        "out_dims encoder_hidden_size critic_layers cnn_channels cnn_kernels cnn_strides hidden_size_list "
        "user_hidden_size_list item_hidden_size_list save_step pretrain_epochs metrics_k n_enc_epochs n_dec_epochs",
    ),
    (Field(ge=-1, le=1), "margin"),
    (Field(ge=1, le=2), "order"),
]
RANGES = {key: limits for limits, keys in _KEYS_BY_RANGE for key in keys.split()}
# Of those that are names: which there are.
_ACTIVATION = Literal["sigmoid", "tanh", "relu", "leakyrelu", "none"]
NAMES: dict[str, Any] = {
    "loss_type": Literal["BCE", "MSE"],
    "type": Literal["ED", "ND", "RW"],
    "hid_activation": Literal["sigmoid", "relu", "tanh"],
    "out_activation": Literal["sigmoid", "relu"],
    "accum": Literal["sum", "stack"],
    "knn_method": Literal["item", "user"],
    "inter_matrix_type": Literal["01", "rating"],
    "noise_schedule": Literal["linear", "linear-var", "cosine", "binomial"],
    "mean_type": Literal["x0", "eps"],
    "mlp_act_func": _ACTIVATION,
    "ae_act_func": _ACTIVATION,
    "algorithm": Literal["prod", "concat"],
    "aggregator": Literal["mean", "user_attention", "self_attention"],
    "train_method": Literal["no_pretrain", "after_pretrain"],
    "neigh_info_method": Literal["random", "knn", "louvain"],
    "train_stage": Literal["actor_pretrain", "critic_pretrain", "finetune"],
}

REAL = ("negative_weight", "w_max", "q", "resolution")  # numbers whose default happens to be a whole one
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
    """RecBole's keys, checked as far as they need no data; those that change nothing are said.

    Args:
        merged: all keys of the run.
        theirs: the same of RecBole alone.
        needed: the columns that the ``.inter`` file is read for.

    Raises:
        OptionError: what is wrong, the value, and the remedy.
    """
    checked = {key: check(key, merged[key], hint) for key, hint in KINDS.items() if key in merged}
    for key, reason in NOT_HERE.items():
        if merged.get(key) not in (None, [], {}):
            raise OptionError(f"{key}={merged[key]!r} cannot be used here: {reason}; leave it out")
    for key, hint in VALUES.items():
        for name, value in (merged.get(key) or {}).items():
            check(f"the name {name!r} in {key}", name, str)
            check(f"{key}: {name}", value, hint)
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        if merged[key] is not None:
            check_counts(key, merged[key])
    if merged["log_wandb"] and find_spec("wandb") is None:
        raise OptionError("log_wandb=true, but wandb is not installed: pip install wandb, or leave it off")
    _check_training(merged)
    _check_names(merged)
    _check_loading(merged, needed)
    _say_idle(merged, theirs)
    return checked


def check_model_keys(merged: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a model of RecBole, checked; they take their kind from their ``defaults``.

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
    number: Any = int if whole and key not in REAL else float
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
    """Columns have names of their own, and the separators can stand between them."""
    roles: dict[str, str] = {}
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "LABEL_FIELD"):
        if (name := merged[key]) is not None and (other := roles.setdefault(name, key)) != key:
            raise OptionError(f"{key}={name!r} is the name of {other}, too; give each a column of its own")
    if both := {merged["USER_ID_FIELD"], *(merged["alias_of_user_id"] or [])} & {
        merged["ITEM_ID_FIELD"], *(merged["alias_of_item_id"] or [])
    }:  # fmt: skip
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
    """What is needed is loaded, and stays."""
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
            raise OptionError(f"unload_col: {suffix} stands beside load_col: {suffix}={load.get(suffix)}; to load all "
                              f"but some say load_col={{{suffix}: '*'}}")  # fmt: skip


def _say_idle(merged: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    for key, reason in IDLE.items():
        if merged.get(key) not in (None, theirs.get(key)):
            say_once(idle(key, merged[key], reason))
    if merged["wandb_project"] != theirs["wandb_project"] and not merged["log_wandb"]:
        say_once(idle("wandb_project", merged["wandb_project"], "log_wandb is off"))


def idle(key: str, value: Any, reason: str) -> str:
    """What is said of a key that changes nothing."""
    return f"{key}={value} changes nothing here: {reason}"


@cache
def say_once(text: str) -> None:
    """Log a note about the config, which is read many times in a process, once."""
    LOG.warning(text)
