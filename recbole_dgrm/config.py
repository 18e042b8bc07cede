"""Configuration: YAML layers, each above the one before.

    RecBole's own files < properties/overall.yaml < properties/protocol/<protocol>.yaml
    < properties/model/<Model>.yaml < properties/dataset/<dataset>.yaml (or <data_path>/<dataset>/<dataset>.yaml)
    < config files, in order < dict < command line

``model``, ``dataset`` and ``protocol`` are looked up in the upper three first, because they name files
of the lower ones. A later layer replaces a key as a whole. A key that no file knows and a value out of
range are errors before any data is read.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import recbole
import torch
import yaml
from recbole.utils import argument_list

from recbole_dgrm import compat, registry, yaml_files
from recbole_dgrm.errors import OptionError
from recbole_dgrm.files import read_bytes
from recbole_dgrm.labels import OVER_RATINGS
from recbole_dgrm.models.profile import ProfileRecommender
from recbole_dgrm.options import LONGEST_NAME, RATINGS, Choice, Range, check, check_name, read

RECBOLE_PROPERTIES = Path(recbole.__file__).parent / "properties"
Layer = dict[str, Any]


@dataclass(frozen=True)
class RunOptions:
    """Keys that every run has, whatever the model; each is explained in ``properties/``."""

    protocol: str
    seed: Annotated[int, Range(0, 2**31 - 1)]
    device: Annotated[str, Choice("auto", "cpu", "cuda")]
    data_path: str | None
    output_dir: str
    checkpoint_interval: Annotated[float, Range(0)]
    diagnose_every: Annotated[int, Range(0)]
    benchmark_filename: list[str] | None
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
    learner: Annotated[str, Choice("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")]
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
        for part in self.benchmark_filename or []:
            check_name("benchmark_filename", part)
        scale = self.rating_scale
        if scale is not None and not (len(scale) == 2 and scale[0] < scale[1]):
            raise OptionError(f"rating_scale={scale} must be [lowest, highest] with lowest < highest")
        name, _, n = self.valid_metric.partition("@")
        computed = [metric for metric in self.metrics if metric.lower() == name.lower()]
        if not computed or (n and n not in map(str, self.topk)):
            raise OptionError(
                f"valid_metric={self.valid_metric} is not computed; allowed: one of metrics={self.metrics}, "
                f"with @N for an N of topk={self.topk} where the metric is a ranking"
            )
        if self.device == "cuda" and not torch.cuda.is_available():
            raise OptionError("device=cuda, but torch sees no GPU here; use device=cpu or device=auto")
        if self.compile and cxx_compiler() is None:
            raise OptionError(
                "compile=true, but no C++ compiler is installed (g++, clang++); install one or leave it off"
            )


def cxx_compiler() -> str | None:
    """The C++ compiler that ``compile=true`` needs, if one is installed."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "cl"))), None)


def properties_dir() -> Path:
    """``properties/`` of an installed wheel, else of the checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "properties", package.parent / "properties"):
        if (folder / "overall.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no properties/ beside or in {package}: the installation is incomplete")


def read_yaml(path: Path) -> Layer:
    """A YAML file as a dict; safe, with ``1e-4`` a number.

    Raises:
        OptionError: no such file, no valid YAML, or not a mapping.
    """
    try:
        text = read_bytes(path, yaml_files.LARGEST).decode()
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, too large, or no possible path
        raise OptionError(f"cannot read the config file {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        content = yaml_files.load_yaml(text)
    except yaml.YAMLError as error:
        raise OptionError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content or {}, dict):
        raise OptionError(f"{path} must hold 'key: value' lines, not a {type(content).__name__}")
    return content or {}


def parse_value(text: str) -> Any:
    """A command-line value, read as YAML: ``0.1``, ``[256, 64]``, ``true``, ``~``, ``1e-4``, a name.

    Raises:
        OptionError: the text is no YAML value.
    """
    try:
        return yaml_files.load_yaml(text)
    except yaml.YAMLError as error:
        shown = text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."
        reason = f" ({error})" if type(error) is yaml.YAMLError else ""  # PyYAML's own are of several lines
        raise OptionError(f"{shown!r} is not a YAML value{reason}; quote it as in --key='[1, 2]'") from None


def load_config(
    config_files: Iterable[Path] = (), config_dict: Mapping[str, Any] | None = None,
    command_line: Mapping[str, Any] | None = None,
) -> compat.Config:  # fmt: skip
    """The config of one run, from all layers; checked, nothing read but YAML.

    Args:
        config_files: paths, later ones above earlier ones.
        config_dict: for callers from Python; must name ``model`` and ``dataset`` unless another layer does.
        command_line: parsed with ``parse_value``.

    Returns:
        RecBole's Config with every key; ``config["input"]`` holds the merged keys as they were given,
        ready to be written as YAML and read again.

    Raises:
        OptionError, recbole_dgrm.errors.UnknownModel: what is wrong, the value, and the remedy.
    """
    registry.register()
    given = _merge(
        [*(read_yaml(Path(file)) for file in config_files), dict(config_dict or {}), dict(command_line or {})]
    )
    overall = read_yaml(properties_dir() / "overall.yaml")
    model, dataset = _named(given, "model", "DGRM"), _named(given, "dataset", "ml-100k")
    model_class = registry.model_class(model)
    protocol = protocol_layer(str(given.get("protocol", overall["protocol"])))
    model_layer = _optional(properties_dir() / "model" / f"{model}.yaml")
    data_path = check("data_path", given.get("data_path"), str | None)
    dataset_layer = _dataset_layer(dataset, data_path)
    theirs = _recbole_layers(model, dataset)
    layers = [theirs, overall, protocol, model_layer, dataset_layer]
    _check_keys(given, {"model", "dataset"}.union(*layers, *_all_protocols()))
    merged = _merge([*layers, given, {"model": model, "dataset": dataset}])
    if model not in registry.MODELS and "metrics" not in given:  # RecBole's scores are no ratings: left out, not faked
        merged["metrics"] = [metric for metric in merged["metrics"] if metric.lower() not in OVER_RATINGS]
    if "load_col" not in given | dataset_layer:  # RecBole's own default leaves the ratings out
        names = ("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD")
        merged["load_col"] = {"inter": [merged[name] for name in names]}
    run = read(RunOptions, merged)
    if hasattr(model_class, "Options"):
        read(model_class.Options, merged)
    return _build(model_class, merged, run)


def _build(model_class: type, merged: Layer, run: RunOptions) -> compat.Config:
    final = dict(merged)
    final["device"] = ("cuda" if torch.cuda.is_available() else "cpu") if run.device == "auto" else run.device
    final["data_path"] = run.data_path or "dataset"
    final["normalize_all"] = False  # RecBole's file of ml-100k squeezes ratings into 0..1
    if issubclass(model_class, ProfileRecommender) or (merged["model"] in registry.MODELS and run.feedback == "rating"):
        final["train_neg_sample_args"] = None  # whole profiles, or rated pairs: nothing is sampled
    rating_metrics = {metric.lower() for metric in merged["metrics"]} & set(OVER_RATINGS)
    final["predicts_ratings"] = run.feedback == "rating" and (
        merged["model"] in registry.MODELS or bool(rating_metrics)
    )
    try:
        config = compat.Config(merged["model"], merged["dataset"], config_dict=final)
    except Exception as error:  # RecBole checks few of its keys, and falls over the values of the others
        raise OptionError(f"RecBole cannot use this configuration: {type(error).__name__}: {error}") from error
    if run.data_path:  # RecBole would take its own copy of ml-100k in any case; we, where the folder has none
        theirs, own = Path(config["data_path"]), Path(run.data_path) / merged["dataset"]
        if own.is_dir() or not theirs.is_dir():
            config["data_path"] = str(own)
    config["input"] = merged
    return config


def _merge(layers: Iterable[Mapping[str, Any]]) -> Layer:
    merged: Layer = {}
    for layer in layers:
        merged.update(layer)
    return merged


def _named(given: Layer, key: str, example: str) -> str:
    if not given.get(key):
        raise OptionError(f"no {key} is named; say --{key}={example} or put '{key}: {example}' into a config file")
    return check_name(key, given[key])


def _optional(path: Path) -> Layer:
    return read_yaml(path) if path.is_file() else {}


def protocol_layer(name: str) -> Layer:
    """The keys of a protocol.

    Raises:
        OptionError: there is none of this name.
    """
    path = properties_dir() / "protocol" / f"{check_name('protocol', name)}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise OptionError(f"protocol={name!r} is unknown; one of {names}")
    return {**read_yaml(path), "protocol": name}


def _all_protocols() -> list[Layer]:
    return [read_yaml(path) for path in (properties_dir() / "protocol").glob("*.yaml")]


def _dataset_layer(dataset: str, data_path: str | None) -> Layer:
    beside = Path(data_path or "dataset") / dataset / f"{dataset}.yaml"
    return _optional(beside) or _optional(properties_dir() / "dataset" / f"{dataset}.yaml")


def _recbole_layers(model: str, dataset: str) -> Layer:
    names = ["overall", f"model/{model}", "dataset/sample", f"dataset/{dataset}"]
    files = _merge(_optional(RECBOLE_PROPERTIES / f"{name}.yaml") for name in names)
    return {key: value for key, value in files.items() if key not in compat.REPLACED_KEYS}


def _check_keys(given: Layer, known: set[str]) -> None:
    lists = ("general_arguments", "training_arguments", "evaluation_arguments", "dataset_arguments")
    known = known.union(*(getattr(argument_list, name) for name in lists), compat.UNLISTED_KEYS)
    for key in map(str, given):
        if key in compat.REPLACED_KEYS:
            raise OptionError(f"{key} is not used here: {compat.REPLACED_KEYS[key]}")
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            raise OptionError(f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
