"""Workarounds for building, training and evaluating RecBole's models."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import recbole.evaluator
import torch
from recbole.evaluator.collector import DataStruct

from recbole_dgrm.errors import CheckpointError

# Keys of RecBole's models that name a file of initial weights.
PRETRAINED = ("pretrain_path", "pre_model_path", "mf_pretrain_path", "mlp_pretrain_path")


@contextmanager
def building(config: Any) -> Iterator[None]:
    """Within the block, a model of RecBole is built.

    Raises:
        CheckpointError: the initial weights have other shapes than the model's.
    """
    try:
        yield
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError) as error:
        files = [f"{key}={config[key]}" for key in PRETRAINED if config[key]]
        if not files or isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{', '.join(files)}: these weights do not fit {config['model']} on {config['dataset']} "
            f"({type(error).__name__}: {error}); give those of a run on the same data with the same sizes"
        ) from error


class RepairedCollector(recbole.evaluator.Collector):
    """RecBole's Collector, which calls ``.cpu()`` only on tensors; RecBole's calls it also on counts, so that
    ItemCoverage, GiniIndex, AveragePopularity and TailPercentage fail (RecBole issue 2194)."""

    PER_EVALUATION = ("rec.", "data.label")  # prefixes of keys that belong to one evaluation

    def get_data_struct(self) -> DataStruct:
        """Return the collected data, and remove those of this evaluation from the collector."""
        struct = DataStruct()
        for key, value in list(self.data_struct._data_dict.items()):
            struct.set(key, value.cpu() if isinstance(value, torch.Tensor) else value)
            if key.startswith(self.PER_EVALUATION):
                del self.data_struct[key]
        return struct


class NoEvents:
    """A TensorBoard writer that writes nothing."""

    def add_scalar(self, tag: str, value: float, step: int) -> None: ...

    def close(self) -> None: ...
