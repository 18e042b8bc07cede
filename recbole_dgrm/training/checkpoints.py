"""The checkpoint file of a run: writing, reading, and restoring the state of a trainer."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import scipy.sparse
import torch

from recbole_dgrm.errors import CheckpointError, refused
from recbole_dgrm.records import CHECKPOINT
from recbole_dgrm.system.files import check_unpacked, plain, write_whole
from recbole_dgrm.system.processes import uninterrupted

KEYS = {
    *("note", "model", "epoch", "lines", "best_epoch", "cur_step", "best_valid_score", "best_valid_result"),
    *("state_dict", "best_state_dict", "other", "best_other", "optimizer", "random"),
}
REMEDY = "move it away, and the run begins again from its config.yaml"


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state``, which has ``KEYS``; after an error the old file is still there.

    Interrupts are delayed, because within torch.save one would become an error of torch, or end the process.
    """

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # torch replaces it by an error about its file position
                    raise error.__context__ from None
                raise

    with uninterrupted():
        write_whole(path, write)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """The checkpoint that ``write_checkpoint`` wrote to ``path``; nothing in the file can run code.

    Raises:
        CheckpointError: the file is not a checkpoint, is compressed, or lacks one of ``KEYS``.
        OutputError: the file cannot be read from the disk.
    """
    try:
        check_unpacked(path)
        state = torch.load(path, map_location=device, weights_only=True)
        if missing := KEYS.difference(state):
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
    except OSError as error:  # the file may be good
        raise refused(path, error) from error
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not the checkpoint of a run ({first}); {REMEDY}") from error
    return state


class Checkpointer:
    """Writes the checkpoint of a run, and restores a model or a trainer from a checkpoint.

    Attributes:
        path: the file.
    """

    def __init__(self, config):
        self.path = Path(config["checkpoint_dir"]) / CHECKPOINT
        self._model, self._interval = config["model"], config.run.checkpoint_interval
        self._written = monotonic()

    def is_due(self) -> bool:
        """Whether ``checkpoint_interval`` seconds have passed since the last checkpoint."""
        return monotonic() - self._written >= self._interval

    def write(self, trainer, epoch: int) -> None:
        """Write the state of ``trainer`` after ``epoch``."""
        state = {
            "note": plain(trainer.note),
            "model": self._model,
            "epoch": epoch,
            "lines": trainer.epoch_log.n_lines,
            "best_epoch": trainer.best_epoch,
            "cur_step": trainer.cur_step,
            "best_valid_score": float(trainer.best_valid_score),
            "best_valid_result": plain(trainer.best_valid_result),
            "state_dict": trainer.model.state_dict(),
            "best_state_dict": trainer.best_state,
            "other": {key: pack(value) for key, value in trainer.model.other_parameter().items()},
            "best_other": {key: pack(value) for key, value in trainer.best_other.items()},
            "optimizer": trainer.optimizer.state_dict(),
            "random": random_state(trainer.train_data.generator),
        }
        write_checkpoint(self.path, state)
        self._written = monotonic()

    def load(self, model, state: dict[str, Any], best: bool = False) -> None:
        """Load the last or the best state of a checkpoint from ``read_checkpoint`` into ``model``.

        Raises:
            CheckpointError: the checkpoint is of another model or has other sizes.
        """
        if state["model"] != self._model:
            raise CheckpointError(f"{self.path} is of {state['model']}, this run is of {self._model}; {REMEDY}")
        which = "best_" if best else ""
        with self._fitting():
            model.load_state_dict(state[f"{which}state_dict"])
            model.load_other_parameter({key: unpack(value) for key, value in state[f"{which}other"].items()})

    def restore(self, trainer, state: dict[str, Any], generator: torch.Generator) -> None:
        """Restore ``trainer`` except for its model, and the random state of the loader's ``generator``.

        Raises:
            CheckpointError: it does not fit the trainer.
        """
        with self._fitting():
            trainer.optimizer.load_state_dict(state["optimizer"])
            trainer.best_state = state["best_state_dict"]
            trainer.best_other = {key: unpack(value) for key, value in state["best_other"].items()}
            for name in ("best_epoch", "cur_step", "best_valid_score", "best_valid_result"):
                setattr(trainer, name, state[name])
            stopped = trainer.cur_step > trainer.patience  # the checkpoint is of the epoch that ended the training
            trainer.start_epoch = trainer.epochs if stopped else state["epoch"] + 1
            set_random_state(state["random"], generator)

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        """Within the block, any exception becomes a ``CheckpointError``."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split())  # torch's messages have several lines
            problem = f"{self.path} does not fit this run ({type(error).__name__}: {reason})"
            raise CheckpointError(f"{problem}; {REMEDY}") from error


# A checkpoint keeps tensors and plain Python alone, which ``weights_only=True`` can read.


def pack(value: Any) -> Any:
    """Turn an array or a sparse matrix into tensors, and leave plain data as they are; ``unpack`` undoes it.

    Raises:
        TypeError: the value cannot be kept as plain data.
    """
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(value)}
    if scipy.sparse.issparse(value):
        matrix = value.tocsr()
        parts = [torch.from_numpy(part) for part in (matrix.data, matrix.indices, matrix.indptr)]
        return {"sparse": parts, "shape": list(matrix.shape), "format": value.format}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (torch.Tensor, bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be kept as plain data")


def unpack(value: Any) -> Any:
    """The value that ``pack`` was given."""
    if isinstance(value, dict) and "array" in value:
        return value["array"].numpy()
    if isinstance(value, dict) and "sparse" in value:
        parts = tuple(part.numpy() for part in value["sparse"])
        matrix = scipy.sparse.csr_matrix(parts, shape=value["shape"])
        matrix.check_format()  # scipy's C code would not notice an index outside the matrix
        return matrix.asformat(value["format"])
    return value


def random_state(loader: torch.Generator) -> dict[str, Any]:
    """The state of every random generator of a training: those of the loader, torch, numpy and Python."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "loader": loader.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
    }


def set_random_state(state: dict[str, Any], loader: torch.Generator) -> None:
    """Set every random generator to a state that ``random_state`` has returned."""
    loader.set_state(state["loader"].cpu())
    torch.set_rng_state(state["torch"].cpu())
    torch.cuda.set_rng_state_all([cuda.cpu() for cuda in state["cuda"]])
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
