"""The checkpoint file of a run: writing, reading, and restoring the state of a trainer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from recbole_dgrm.errors import CheckpointError, refused
from recbole_dgrm.records import CHECKPOINT
from recbole_dgrm.system.files import check_unpacked, plain, write_whole
from recbole_dgrm.system.interrupts import uninterrupted
from recbole_dgrm.training.plain_state import pack, random_state, set_random_state, unpack

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
            stopped = trainer.cur_step > trainer.stopping_step  # the checkpoint is of the epoch that ended the training
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
