"""Registration of our models, trainers, metrics, data sets and loaders in RecBole, for scripts of RecBole's users.

After ``register`` a script with RecBole's own functions can run our models:

    config = Config(model="DGRM", dataset="ml-100k", config_dict={"protocol": "full"})
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    model = get_model(config["model"])(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid)
    trainer.evaluate(test)
"""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import recbole.config
import recbole.data.dataset
import recbole.data.utils
import recbole.trainer
from recbole.data.dataloader import AbstractDataLoader

from recbole_dgrm.compat.config import Config
from recbole_dgrm.compat.repairs import prepare
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data import loaders
from recbole_dgrm.data.dataset import RatingDataset
from recbole_dgrm.errors import OptionError
from recbole_dgrm.evaluation import recbole_metrics
from recbole_dgrm.evaluation.metric_names import ASKED, AUTO, candidates, smaller_is_better
from recbole_dgrm.models.registry import GENERAL, MODELS
from recbole_dgrm.runs.run_files import new_directory
from recbole_dgrm.training.trainers import trainer_class

LOG = logging.getLogger(__name__)
OURS: dict[str, type] = {}  # our models by name, without those whose name RecBole has, too
CONFIG: Callable[..., None] = recbole.config.Config.__init__
LOADER: Callable[..., Any] = recbole.data.utils.get_dataloader


def register() -> None:
    """Register our models, trainers and metrics in RecBole by name; further calls have no effect.

    RecBole looks a model up as module ``GENERAL.<lower case name>``, its trainer as ``recbole.trainer.<Name>Trainer``
    and its data set as ``recbole.data.dataset.<Name>Dataset``; all are set. A name that RecBole already has (DiffRec)
    remains RecBole's model. For our models RecBole's ``Config`` has the keys and checks of ``load_config``, and its
    ``data_preparation`` returns our loaders.
    """
    prepare()
    recbole_metrics.register()
    for name, model in MODELS.items():
        ours = sys.modules[model.__module__]
        if sys.modules.setdefault(f"{GENERAL}.{name.lower()}", ours) is ours:
            OURS[name] = model
            setattr(recbole.trainer, f"{name}Trainer", trainer_class(model))
            setattr(recbole.data.dataset, f"{name}Dataset", RatingDataset)
    recbole.config.Config.__init__ = _config
    recbole.data.utils.get_dataloader = _loader_class


def _config(
    config: recbole.config.Config,
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Iterable[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
) -> None:
    """RecBole's ``Config.__init__``, which uses ``load_config`` for our models.

    The default protocol is ``full``, which is RecBole's own. The command line of the script is not read.
    """
    if type(config) is not recbole.config.Config:  # our subclass
        return CONFIG(config, model, dataset, config_file_list, config_dict)
    files, given = list(config_file_list or []), dict(config_dict or {})
    layers = [*(read_yaml(Path(file)) for file in files), given]
    if not (named := _named(model, layers)):
        CONFIG(config, model, dataset, config_file_list, config_dict)
        return _check_metrics(config)
    if not any("protocol" in layer for layer in layers):
        given["protocol"] = "full"
    ours = load_config(files, given | {"model": named} | ({"dataset": dataset} if dataset else {}))
    if ours["valid_metric"] == AUTO:
        metric = candidates(ours["metrics"], ours["topk"])[0]
        ours = ours.replaced(valid_metric=metric, valid_metric_bigger=not smaller_is_better(metric.lower()))
        LOG.warning("%s needs the data, which RecBole reads later; %s is used instead", ASKED, metric)
    ours = ours.writing_to(new_directory(ours))
    config.__class__, config.__dict__ = Config, vars(ours)


def _check_metrics(config: recbole.config.Config) -> None:
    """Check that no metric is one of ours, which RecBole's trainers cannot compute."""
    for metric in config["metrics"]:
        if metric.lower() in recbole_metrics.OURS:
            runs = f"recbole_dgrm.train({config['model']!r}, {config['dataset']!r}) has them"
            raise OptionError(f"metrics: RecBole's own trainers cannot compute {metric}; {runs}")


def _named(model: str | type | None, layers: Sequence[Mapping[str, Any]]) -> str | None:
    """The name of the model, if it is one of ours."""
    named = model or next((layer["model"] for layer in reversed(layers) if layer.get("model")), None)
    return next((name for name, ours in OURS.items() if named in (name, ours)), None)


def _loader_class(config: recbole.config.Config, phase: str) -> Any:
    """RecBole's ``get_dataloader``, which for our configs returns a function that makes our loaders."""
    return partial(_loader, phase) if isinstance(config, Config) else LOADER(config, phase)


def _loader(phase: str, config: Config, dataset: Any, sampler: Any, shuffle: bool = False) -> AbstractDataLoader:
    if phase == "train":
        return loaders.batches_of(config, dataset)
    return loaders.evaluated(config, dataset, phase)
