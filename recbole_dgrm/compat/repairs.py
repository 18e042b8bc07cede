"""Replacements of functions of RecBole that fail, or that would run code from files."""

import ast
import inspect
import logging
from collections import Counter
from collections.abc import Callable
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import recbole.config
import recbole.data.dataset.dataset
import recbole.data.utils
import recbole.evaluator.metrics
import recbole.trainer.trainer
import recbole.utils
import scipy.sparse
import torch
from numpy.typing import NDArray
from recbole.utils import FeatureType
from tqdm import tqdm

from recbole_dgrm.errors import CheckpointError, DataError
from recbole_dgrm.system.files import check_unpacked
from recbole_dgrm.system.turns import ignore_known_warnings
from recbole_dgrm.system.yaml_files import YamlLoader

# Aliases that numpy removed and RecBole uses; RecBole sets them through ``np.float_``, which was removed, too.
NUMPY_ALIASES = {"bool": np.bool_, "float": np.float64}

# RecBole's calls that would unpickle a file; ``prepare`` replaces them by ``load_weights``, ``load_array`` or
# ``refuse_pickle``.
UNSAFE_LOADS = (
    ("data.utils", "pickle.load"),
    ("model.general_recommender.convncf", "torch.load"),
    ("model.general_recommender.ldiffrec", "np.load"),
    ("model.general_recommender.nais", "torch.load"),
    ("model.general_recommender.neumf", "torch.load"),
    ("model.general_recommender.ract", "torch.load"),
    ("trainer.trainer", "torch.load"),
)

# A message of RecBole that has no consequences: a user has many ratings.
KNOWN_LOGS = ("Max value of user's history interaction records has reached",)


OPTIMIZERS = ("Adam", "AdamW", "SGD", "Adagrad", "RMSprop")  # those of the key ``learner``
DECORATED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")  # their methods that load the compiler


class Altered:
    """A library in which some functions are replaced; one module of RecBole gets it in place of the original."""

    def __init__(self, library: ModuleType, **functions: Callable[..., Any]):
        self._library = library
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


def prepare() -> None:
    """Replace the functions; further calls have no effect."""
    for name, kind in NUMPY_ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, kind)
    if not hasattr(scipy.sparse.dok_matrix, "_update"):  # removed in scipy 1.13; LightGCN, NGCF, ... call it
        scipy.sparse.dok_matrix._update = lambda matrix, entries: matrix._dict.update(entries)
    dataset = recbole.data.dataset.dataset
    dataset.pd = Altered(pd, read_csv=read_csv)
    dataset.Dataset._fill_nan = fill_missing
    dataset.len = lengths
    dataset.Counter = counter
    trainer = recbole.trainer.trainer
    trainer.get_tensorboard = LateEvents
    trainer.tqdm = partial(tqdm, leave=False, disable=None)  # finished bars are removed; none outside of a terminal
    trainer.optim = Altered(torch.optim, **{name: without_compiler(getattr(torch.optim, name)) for name in OPTIMIZERS})
    trainer.amp = Altered(torch.cuda.amp, GradScaler=partial(torch.amp.GradScaler, "cuda"))  # its new name
    metrics = recbole.evaluator.metrics
    metrics.mean_squared_error, metrics.mean_absolute_error = mean_squared_error, mean_absolute_error
    ignore_known_warnings()
    plain = {
        "torch": Altered(torch, load=load_weights, save=save_weights),
        "np": Altered(np, load=load_array),
        "pickle": Altered(recbole.data.utils.pickle, load=refuse_pickle),
    }
    for name, call in UNSAFE_LOADS:
        library = call.partition(".")[0]
        setattr(import_module(f"recbole.{name}"), library, plain[library])
    config = recbole.config.Config
    config.compatibility_settings = lambda _: None  # it sets numpy's aliases through removed names
    config._convert_config_dict = lambda _, keys: {key: literal(value) for key, value in keys.items()}
    config._build_yaml_loader = lambda _: YamlLoader


def read_csv(*arguments: Any, **options: Any) -> pd.DataFrame:
    """``pandas.read_csv`` of a file in RecBole's format; a missing sequence becomes an empty one.

    RecBole fills them in place on a column, which on pandas 3 changes only a copy.
    """
    table = pd.read_csv(*arguments, **options)
    return table.fillna({name: "" for name in table if str(name).endswith("_seq")})


def fill_missing(dataset: Any) -> None:
    """RecBole's ``Dataset._fill_nan``, which has no effect on pandas 3.

    A missing token becomes the padding 0, a missing number the mean of its column, a missing sequence an empty one.
    """
    for feat in (getattr(dataset, name) for name in dataset.feat_name_list):
        for field in feat:
            kind, column = dataset.field2type[field], feat[field]
            if not column.hasnans:
                continue
            if kind == FeatureType.TOKEN:
                feat[field] = column.fillna(0)
            elif kind == FeatureType.FLOAT:
                feat[field] = column.fillna(column.mean())
            else:
                empty = np.array([], np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64)
                feat[field] = column.map(lambda value, empty=empty: empty if isinstance(value, float) else value)


def counter(values: Any = ()) -> Counter:
    """Replaces ``Counter`` in RecBole's Dataset, which counts ids in a Python loop over all ratings."""
    found = pd.Series(values, dtype=None if len(values) else object).value_counts(sort=False)
    return Counter({value: count for value, count in zip(found.index, found.tolist(), strict=True) if count})


def lengths(values: Any) -> Any:
    """Replaces ``len`` in RecBole's Dataset, which calls ``column.agg(len)`` for the length of each value.

    On pandas 3 that returns the length of the column.
    """
    return values.map(len) if isinstance(values, pd.Series) else len(values)


def without_compiler(optimizer: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The optimizer class without torch's decorators for ``torch.compile``.

    The first call of a decorated method loads ``torch._dynamo``, which takes two seconds, and nothing is compiled here.
    """
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in DECORATED}
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))  # its decorator turns gradients off
    return type(optimizer.__name__, (optimizer,), methods)


def mean_squared_error(given: NDArray, predicted: NDArray) -> float:
    """What scikit-learn's function of this name returns, which takes long to load."""
    return float(np.mean((given - predicted) ** 2))


def mean_absolute_error(given: NDArray, predicted: NDArray) -> float:
    """What scikit-learn's function of this name returns, which takes long to load."""
    return float(np.mean(np.abs(given - predicted)))


class LateEvents:
    """RecBole's TensorBoard writer, opened at the first write.

    RecBole opens one in ``log_tensorboard/`` of the working directory for each trainer, even if nothing is trained.
    """

    def __init__(self, logger: logging.Logger):
        self._logger = logger

    @cached_property
    def _writer(self) -> Any:
        return recbole.utils.get_tensorboard(self._logger)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def literal(value: Any) -> Any:
    """The value of a text in RecBole's command line or dict: a Python literal, true, false, or the text itself.

    RecBole would evaluate it as code.
    """
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(value.lower(), value)


def refuse_pickle(file: Any) -> None:
    """Replaces ``pickle.load``, which could run code from the file."""
    raise DataError(f"{file.name} is a pickled data set, and is not loaded; set dataset_save_path=None and remove it")


def save_weights(state: dict[str, Any], path: Path | str, **_: Any) -> None:
    """Write a checkpoint of RecBole's trainer without pickled objects, so that ``load_weights`` can read it.

    RecBole pickles its config and numpy numbers; it only reads the name of the model from the config.
    """
    named = {"config": {"model": state["config"]["model"]}, "best_valid_score": float(state["best_valid_score"])}
    torch.save({**state, **named}, path)


def load_weights(path: Path | str, map_location: Any = None, **_: Any) -> dict[str, Any]:
    """Read a checkpoint or a file of named tensors; the weights are in ``state_dict``, as RecBole expects."""
    remedy = "give the checkpoint.pt of a run made here, or a file of tensors by name; RecBole's own are pickled"
    try:
        check_unpacked(Path(path))
        state = torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} cannot be read as weights ({reason}); {remedy}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} has a {type(state).__name__}, not weights; {remedy}")
    return state if isinstance(state.get("state_dict"), dict) else {"state_dict": state}


def load_array(path: Path | str, **_: Any) -> np.ndarray:
    """The item embeddings ``(n_items, width)`` that LDiffRec clusters."""
    remedy = (
        "LDiffRec with n_cate above 1 needs a file of the items' embeddings: numpy.save(path, array), a table of floats"
    )
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise DataError(f"{path} is not a table of finite numbers; {remedy}")
    return array
