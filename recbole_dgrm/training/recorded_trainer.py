"""What any RecBole trainer needs to leave its files in one run directory, keep its best state, resume, and read
nothing pickled."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from recbole.utils import calculate_valid_score
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from recbole_dgrm import compat
from recbole_dgrm.errors import CheckpointError, TrainingDiverged
from recbole_dgrm.evaluation import recbole_metrics
from recbole_dgrm.evaluation.scoring import PAIRS
from recbole_dgrm.records import CHECKPOINT, EPOCHS, EVENTS, read_epochs, write_epochs
from recbole_dgrm.system import distributed
from recbole_dgrm.system.files import append_line, plain
from recbole_dgrm.training.checkpoints import (
    REMEDY,
    check_finite,
    check_forms,
    check_optimizer,
    forms,
    pack,
    random_state,
    set_random_state,
    unpack,
    write_checkpoint,
)

LOG = logging.getLogger(__name__)
AGREEMENT = 0.002  # how far reduced precision may move the validation metric


class RunMixin:
    """Before a RecBole trainer class in the bases: files in the run directory, best state, resume.

    Attributes:
        best_epoch: epoch (from 0) whose state is tested; -1 before the first.
        note: plain data that travels in the checkpoint, set by the caller.
        observe: called with the trainer, the epoch and whether it was validated, after each epoch that is not of a
            refit; what it returns stands in the epoch's line. Set by the caller.
    """

    def __init__(self, config, model):
        with compat.no_events():
            super().__init__(config, model)
        self.run_dir = Path(config["checkpoint_dir"])
        self.test_batch_size = PAIRS  # eval_batch_size counts users; this is where RecBole splits pairs
        self.eval_collector = recbole_metrics.Collector(config)
        self.evaluator = recbole_metrics.Evaluator(config)
        self.best_epoch = -1
        self.best_state: dict[str, Tensor] = {}
        self.best_other: dict[str, Any] = {}  # attributes that RecBole keeps beside: LightGCN's are made from the state
        self._other_forms = forms(model.other_parameter())
        self.note: dict[str, Any] = {}
        self.observe: Callable[[RunMixin, int, bool], dict[str, Any]] = lambda trainer, epoch, validated: {}
        self._line: dict[str, Any] = {}
        self._lines = len(read_epochs(self.run_dir))
        self._valid_result: dict[str, float] = {}
        self._reduced = config.run.precision == "bfloat16"
        self._checked = False
        torch.set_autocast_dtype(self.device.type, torch.bfloat16)  # RecBole's own loop does not say which
        self._writes = True
        self._written = monotonic()

    # RecBole's loop, with our hooks.

    def fit(self, train_data, valid_data=None, verbose=True, saved=True, show_progress=False, callback_fn=None):
        """RecBole's ``fit``; afterwards the model holds its best state.

        Args:
            saved: write checkpoint, epoch lines and events. The best state is kept in any case.
            callback_fn: called with epoch and validation score after each evaluation.
        """
        self._loader, self._writes = train_data, saved and distributed.first()
        self._select = valid_data is not None
        if self._writes:
            events = self.run_dir / EVENTS / self._stage
            self.tensorboard = SummaryWriter(str(events), purge_step=self.start_epoch or None)

        def after_validation(epoch: int, score: float) -> None:
            self._after_epoch(epoch, self._valid_result)
            if callback_fn:
                callback_fn(epoch, score)

        name = f"{self.config['model']}{'' if self._select else ' (refit)'}"
        bar = tqdm(total=self.epochs, initial=self.start_epoch, desc=name, leave=False, disable=None)
        with compat.passing_bars(), bar as self._bar:
            result = super().fit(train_data, valid_data, verbose, True, show_progress, after_validation)
        if self.best_epoch < 0:
            raise TrainingDiverged(f"{self.valid_metric} on validation was never a number; look at the learning rate")
        self._write_checkpoint(self.start_epoch + len(self.train_loss_dict) - 1)
        self.load_best()
        self.tensorboard.close()
        return result

    def evaluate(self, eval_data, load_best_model=False, model_file=None, show_progress=False):
        """RecBole's ``evaluate`` with randomness of its own: evaluating twice gives one number."""
        if load_best_model:
            self.load_best()
        self.eval_collector.scale = eval_data.scale
        with compat.passing_bars(), self.own_randomness():
            return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Inside, random numbers come from a source of their own; training goes on as if none were drawn."""
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.config.run.seed)
            yield

    def load_best(self) -> None:
        """Put the best state into the model."""
        if self.best_state:
            self.model.load_state_dict(self.best_state)
            self.model.load_other_parameter(self.best_other)

    @property
    def _stage(self) -> str:
        return "select" if self._select else "refit"

    def _valid_epoch(self, valid_data, show_progress=False):
        with self.in_precision():
            self._valid_result = self.evaluate(valid_data, show_progress=show_progress)
        if self._reduced and not self._checked:
            self._check_precision(self.evaluate(valid_data))
        score = calculate_valid_score(self._valid_result, self.valid_metric)
        return distributed.of_first(score), self._valid_result  # all stop in the same epoch

    def in_precision(self) -> torch.autocast:
        """Inside, matrix products have the precision that the config asks for."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._reduced)

    def _check_precision(self, exact: dict[str, float]) -> None:
        """Go on in float32 if validation says something else in it."""
        name, self._checked = self.valid_metric.lower(), True
        text = f"{name} is {self._valid_result[name]:.4f} in bfloat16, {exact[name]:.4f} in float32"
        self._reduced = abs(self._valid_result[name] - exact[name]) <= AGREEMENT
        self.enable_amp = self._reduced
        if self._reduced:
            LOG.info("precision: %s", text)
        else:
            self._valid_result = exact
            LOG.warning("precision: %s; training goes on in float32", text)

    def _generate_train_loss_output(self, epoch_idx, s_time, e_time, losses):
        self._line = {"epoch": epoch_idx, "seconds": round(e_time - s_time, 4), **_named(losses)}
        if self._select and (epoch_idx + 1) % self.eval_step:  # else RecBole validates or saves, and we hear of that
            self._after_epoch(epoch_idx, {})
        return " ".join(f"{key}={value:.6g}" for key, value in self._line.items())

    def _add_train_loss_to_tensorboard(self, epoch_idx, losses, tag="loss"):
        for name, value in _named(losses).items():
            self.tensorboard.add_scalar(f"{tag}/{name}", value, epoch_idx)

    def _add_hparam_to_tensorboard(self, best_valid_result):
        """RecBole would open a second event directory; ``config.yaml`` has the parameters."""

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        """RecBole calls this at a new best, and after each epoch when there is nothing to validate on."""
        if epoch < 0:
            return
        self.best_epoch = epoch
        self.best_state = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        self.best_other = self.model.other_parameter()
        if not self._select:
            self._after_epoch(epoch, {})

    def _after_epoch(self, epoch: int, valid: dict[str, float]) -> None:
        self._bar.update(epoch + 1 - self._bar.n)
        if self.best_epoch >= 0 and self._select:
            best = f"best {self.valid_metric} {self.best_valid_score:.4f} at {self.best_epoch + 1}"
            self._bar.set_postfix_str(best, refresh=False)
        for key, value in valid.items():
            self.tensorboard.add_scalar(f"valid/{key}", value, epoch)
        if self._writes:
            seen = self.observe(self, epoch, bool(valid)) if self._select else {}
            values = {f"valid_{key}": value for key, value in valid.items()}
            line = {"stage": self._stage, **self._line, **values, **seen}
            append_line(self.run_dir / EPOCHS, line)
            self._lines += 1
            if monotonic() - self._written >= self.config.run.checkpoint_interval:
                self._write_checkpoint(epoch)

    def _write_checkpoint(self, epoch: int) -> None:
        if not self._writes:
            return
        state = {
            "note": plain(self.note),
            "model": self.config["model"],
            "epoch": epoch,
            "lines": self._lines,
            "best_epoch": self.best_epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": plain(self.best_valid_result),
            "state_dict": self.model.state_dict(),
            "best_state_dict": self.best_state,
            "other": {key: pack(value) for key, value in self.model.other_parameter().items()},
            "best_other": {key: pack(value) for key, value in self.best_other.items()},
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(self._loader.generator),
        }
        write_checkpoint(self.run_dir / CHECKPOINT, state)
        self._written = monotonic()

    def load(self, state: dict[str, Any], best: bool = False) -> None:
        """Put the last or the best model of a ``state`` that ``read_checkpoint`` has read into ours.

        Raises:
            CheckpointError: the checkpoint is of another model, of other sizes or of another version.
        """
        path = self.run_dir / CHECKPOINT
        if state["other"] and "best_other" not in state:
            raise CheckpointError(f"{path} is of a version that mixed last and best state; make the run again")
        if state["model"] != self.config["model"]:
            raise CheckpointError(f"{path} is of {state['model']}, this run is of {self.config['model']}; {REMEDY}")
        with self._fitting(path):
            which = "best_" if best else ""
            other = {key: unpack(value) for key, value in state.get(f"{which}other", {}).items()}
            check_forms(other, self._other_forms)
            buffers = {name for name, _ in self.model.named_buffers()}
            check_finite({**state[f"{which}state_dict"], **other}, infinite=buffers)
            self.model.load_state_dict(state[f"{which}state_dict"])
            self.model.load_other_parameter(other)

    def resume(self, state: dict[str, Any], train_data) -> None:
        """Continue exactly where a checkpoint was written; raises as ``load``."""
        if state["best_epoch"] >= 0:
            self.load(state, best=True)  # what does not fit is said now rather than after the training
        self.load(state)
        with self._fitting(self.run_dir / CHECKPOINT):
            self._restore(state, train_data)
        lines = read_epochs(self.run_dir)[: self._lines]  # what came later is trained again
        if len(lines) < self._lines:
            raise CheckpointError(
                f"{self.run_dir / EPOCHS} has {len(lines)} lines, but {CHECKPOINT} was written after {self._lines}; "
                f"move {CHECKPOINT} away, and the run begins again from its config.yaml"
            )
        if distributed.first():
            write_epochs(self.run_dir, lines)

    @staticmethod
    @contextmanager
    def _fitting(path: Path) -> Iterator[None]:
        """Inside, whatever a foreign file makes torch, RecBole or a model stumble over is said to be the file's."""
        try:
            yield
        except Exception as error:
            said = " ".join(str(error).split())  # torch's are of several lines
            raise CheckpointError(f"{path} does not fit this run ({type(error).__name__}: {said}); {REMEDY}") from error

    def _restore(self, state: dict[str, Any], train_data) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        check_optimizer(self.optimizer)
        self.start_epoch = state["epoch"] + 1
        self.best_epoch, self.best_state = state["best_epoch"], state["best_state_dict"]
        self.best_other = {key: unpack(value) for key, value in state.get("best_other", {}).items()}
        self.cur_step, self.best_valid_score = state["cur_step"], state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"]
        if self.cur_step > self.stopping_step:  # it was written in the epoch that stopped the training
            self.start_epoch = self.epochs
        set_random_state(state["random"], train_data.generator)
        self._lines = state["lines"]


def _named(losses) -> dict[str, float]:
    """RecBole's losses by name: of a named tuple its fields, else ``train`` or ``train0``, ``train1``, ..."""
    if hasattr(losses, "_asdict"):
        return losses._asdict()
    if isinstance(losses, tuple):
        return {f"train{index}": value for index, value in enumerate(losses)}
    return {"train": losses}
