"""Configuration: YAML layers, each of which overrides those before it.

    RecBole's own files < properties/overall.yaml < properties/protocol/<protocol>.yaml
    < properties/model/<Model>.yaml < properties/dataset/<dataset>.yaml (or <data_path>/<dataset>/<dataset>.yaml)
    < config files, in order < dict < command line

``model``, ``dataset`` and ``protocol`` are read from the last three layers first, because they name files
of the others. A later layer replaces the whole value of a key. Unknown keys and values out of range are
errors before any data is read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import recbole
import torch
from recbole.utils import InputType, argument_list

from recbole_dgrm.compat.config import Config
from recbole_dgrm.compat.repairs import prepare
from recbole_dgrm.config import evaluation_keys, recbole_keys
from recbole_dgrm.config.values import Layer, read_yaml
from recbole_dgrm.data.convert import DESCRIBED
from recbole_dgrm.data.intervals import as_text
from recbole_dgrm.data.tables import codec
from recbole_dgrm.errors import OptionError, UserError
from recbole_dgrm.evaluation import recbole_metrics
from recbole_dgrm.evaluation.metric_names import OVER_RATINGS
from recbole_dgrm.models import registry
from recbole_dgrm.options import INSTEAD, RunOptions, check, check_name, read, retired
from recbole_dgrm.system.yaml_files import properties_dir

RECBOLE_PROPERTIES = Path(recbole.__file__).parent / "properties"
RATINGS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD")  # keys that name columns of the ratings


def load_config(
    config_files: Iterable[Path | str] | Path | str = (),
    config_dict: Mapping[str, Any] | None = None,
    command_line: Mapping[str, Any] | None = None,
) -> Config:
    """The checked config of one run, from all layers; only YAML files are read.

    Args:
        config_files: a path or several; later ones override earlier ones.
        config_dict: keys from Python; must have ``model`` and ``dataset`` unless another layer has them.
        command_line: keys from the command line, read by ``recbole_dgrm.config.values.parse_line``.

    Returns:
        The config with every key.

    Raises:
        OptionError, recbole_dgrm.errors.UnknownModel: a key or a value cannot be used; the message has the remedy.
    """
    prepare()
    recbole_metrics.register()
    in_python = dict(config_dict) if isinstance(config_dict, Mapping) else check("config_dict", config_dict or {}, dict)
    named = {**in_python, **(command_line or {})}
    files = [config_files] if isinstance(config_files, (str, Path)) else config_files
    given = _without_retired(_merge([*(read_yaml(Path(file)) for file in files), named]))
    try:
        return _config(given, named)
    except UserError:
        raise
    except Exception as error:  # RecBole checks few of its keys, and raises any error for wrong values of the others
        raise OptionError(f"this configuration cannot be used: {type(error).__name__}: {error}") from error


def _config(given: Layer, named: Layer) -> Config:
    """The config from the keys that the user has ``given``; the keys ``named`` do not come from a file."""
    model = _named(given, "model", "DGRM")
    model_class = registry.model_class(model)
    options = getattr(model_class, "Options", None)
    layers = _layers_below(given)
    below = _merge(layers.values())
    merged = {**below, **given}
    if "metrics" not in given and not options:  # the scores of RecBole's models are no ratings
        merged["metrics"] = [metric for metric in merged["metrics"] if metric.lower() not in OVER_RATINGS]
    if "load_col" not in given | layers["dataset"]:  # RecBole's default would not load the ratings
        merged["load_col"] = {"inter": [merged[name] for name in RATINGS if merged[name] is not None]}
    run = read(RunOptions, merged)
    if run.device == "cuda" and not torch.cuda.is_available():
        raise OptionError("device=cuda, but torch sees no GPU here; use device=cpu or device=auto")
    parts = None if run.benchmark_filename is None else len(run.benchmark_filename)
    merged["eval_args"] = evaluation_keys.eval_args(merged["eval_args"], run.metrics, parts)
    evaluation_keys.check_scores(model_class, merged)
    evaluation_keys.check_selection(merged)
    checked = recbole_keys.check_keys(merged, evaluation_keys.needed_columns(merged, run)) | asdict(run)
    if options:
        checked |= asdict(read(options, merged))
    else:
        checked |= recbole_keys.check_model_keys(merged, layers["recbole_model"] or layers["model"])
    whole = {key: value for key, value in checked.items() if type(value) is int}  # perhaps given as 5.0
    changed = {key for key, value in given.items() if key in named or value != below.get(key)}
    final = _final(merged | whole, run)
    listwise = getattr(model_class, "input_type", None) == InputType.LISTWISE
    if options and (listwise or run.feedback == "rating"):
        final["train_neg_sample_args"] = None  # trained on whole profiles or rated pairs, without negatives
    config = Config(model, model_class, final, run, merged, changed)
    evaluation_keys.check_changed(config)
    return config


def _final(merged: Layer, run: RunOptions) -> Layer:
    """The keys in the form that RecBole reads."""
    final = dict(merged)
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        final[key] = as_text(merged[key])
    if merged["val_interval"] is not None:
        final["val_interval"] = {name: as_text(value) for name, value in merged["val_interval"].items()}
    final["device"] = ("cuda" if torch.cuda.is_available() else "cpu") if run.device == "auto" else run.device
    final["encoding"] = codec(run.encoding)
    final["normalize_all"] = False  # RecBole's file of ml-100k would scale ratings to 0..1
    return final


def question_keys() -> set[str]:
    """The keys of data and evaluation, without those of how a model is built and trained."""
    theirs = ("general_arguments", "evaluation_arguments", "dataset_arguments")
    every = {"model", "dataset"}.union(*(getattr(argument_list, name) for name in theirs))
    every = every.union(read_yaml(properties_dir() / "overall.yaml"), *_all_protocols())
    return every.difference(argument_list.training_arguments, ("bias_shrinkage",))


def _without_retired(given: Layer) -> Layer:
    """The keys without those of 0.2.0 that are retired, if they have the value that is the only behaviour now."""
    gone = retired(given.get("model"))
    instead = _merge(keys for key, keys in INSTEAD.items() if key in given)
    return {key: value for key, value in (instead | given).items() if key not in gone or value != gone[key]}


def _layers_below(given: Layer) -> dict[str, Layer]:
    """The layers below the keys that the user has given, by name, the lowest first."""
    overall = read_yaml(properties_dir() / "overall.yaml")
    model, dataset = given["model"], _named(given, "dataset", "ml-100k")
    data_path = check("data_path", given.get("data_path"), str | None)
    layers = {
        "recbole": _merge(_of_recbole(name) for name in ("overall", "dataset/sample", f"dataset/{dataset}")),
        "recbole_model": _of_recbole(f"model/{model}"),
        "overall": overall,
        "protocol": protocol_layer(given.get("protocol", overall["protocol"])),
        "model": _optional(registry.defaults_file(model)),
    }
    known = {"model", "dataset"}.union(*layers.values(), *_all_protocols())
    layers["dataset"] = _dataset_layer(dataset, data_path, known)
    recbole_keys.check_exist(given, known)
    return layers


def _dataset_layer(dataset: str, data_path: str | None, known: set[str]) -> Layer:
    """The data set's YAML file in its folder, or else in the package; it may have keys of any model."""
    path = Path(data_path or "dataset") / dataset / f"{dataset}.yaml"
    if not (content := _optional(path)):
        return _optional(properties_dir() / "dataset" / f"{dataset}.yaml")
    content = {key: value for key, value in content.items() if value or key not in recbole_keys.REPLACED}
    content.pop(DESCRIBED, None)  # how the source files were read; not a key of a run
    if wrong := [key for key in ("model", "dataset", "protocol", "data_path") if key in content]:
        raise OptionError(f"{path}: {wrong[0]} cannot be set there, because it selects this file; set it for the run")
    try:
        recbole_keys.check_exist(content, known | _keys_of_all_models())
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from None
    return content


def protocol_layer(name: Any) -> Layer:
    """The keys of a protocol."""
    path = properties_dir() / "protocol" / f"{check_name('protocol', name)}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise OptionError(f"protocol={name!r} is unknown; one of {names}")
    return {**read_yaml(path), "protocol": name}


def _all_protocols() -> list[Layer]:
    return [read_yaml(path) for path in (properties_dir() / "protocol").glob("*.yaml")]


@cache
def _keys_of_all_models() -> frozenset[str]:
    ours = (properties_dir() / "model").glob("*.yaml")
    theirs = (path for path in (RECBOLE_PROPERTIES / "model").glob("*.yaml") if registry.is_recbole(path.stem))
    return frozenset(key for path in (*ours, *theirs) for key in read_yaml(path))


def _of_recbole(name: str) -> Layer:
    content = _optional(RECBOLE_PROPERTIES / f"{name}.yaml")
    return {key: value for key, value in content.items() if key not in recbole_keys.REPLACED}


def _optional(path: Path) -> Layer:
    return read_yaml(path) if path.is_file() else {}


def _merge(layers: Iterable[Mapping[str, Any]]) -> Layer:
    merged: Layer = {}
    for layer in layers:
        merged.update(layer)
    return merged


def _named(given: Layer, key: str, example: str) -> str:
    if not given.get(key):
        raise OptionError(f"no {key} is named; use --{key}={example}, or put '{key}: {example}' into a config file")
    external = key == "model" and isinstance(given[key], str) and registry.is_external(given[key])
    return given[key] if external else check_name(key, given[key])
