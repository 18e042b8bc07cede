"""A mixin for RecBole's trainers: logs and checkpoints in one run directory, the best state, resuming."""

import logging
from collections.abc import Callable
from math import ceil
from pathlib import Path
from time import monotonic
from typing import Any

from recbole.utils import calculate_valid_score
from torch import Tensor

from recbole_dgrm.errors import TrainingDiverged
from recbole_dgrm.evaluation import collector
from recbole_dgrm.evaluation.scoring import PAIRS, pair_scores
from recbole_dgrm.system import distributed
from recbole_dgrm.system.turns import OwnRandomness, usual_settings
from recbole_dgrm.training.checkpoints import Checkpointer
from recbole_dgrm.training.epoch_log import EpochLog, named

LOG = logging.getLogger(__name__)
PATIENCE = 5, 20  # the fewest and the most validations with ``stopping_step: auto``
PATIENT_BATCHES = 150  # and the batches that they take; docs/results/decisions.md has the measurements


class RecordedTrainer:
    """A mixin that overrides hooks of RecBole's loop; in the bases it comes before a RecBole trainer class.

    Attributes:
        best_epoch: the epoch (from 0) whose state is tested; -1 before the first validation.
        best_state: the model's state after that epoch.
        best_other: the model's ``other_parameter()`` after that epoch, such as LightGCN's.
        train_data: the batches that ``fit`` trains on.
        note: plain values that the caller adds to the checkpoint.
        observe: called with the trainer, the epoch and whether it was validated, after each epoch except those of a
            refit; its result is added to the epoch's line. Set by the caller.
    """

    def __init__(self, config, model):
        super().__init__(config, model)
        self.logger = LOG  # RecBole's is the root logger
        self.epoch_log = EpochLog(Path(config["checkpoint_dir"]))
        self.tensorboard = self.epoch_log.events
        self.checkpointer = Checkpointer(config)
        self.test_batch_size = PAIRS  # RecBole splits pairs by it; our eval_batch_size counts users
        self.eval_collector = collector.Collector(config)
        self.evaluator = collector.Evaluator(config)
        self.best_epoch = -1
        self.best_state: dict[str, Tensor] = {}
        self.best_other: dict[str, Any] = {}
        self.note: dict[str, Any] = {}
        self.observe: Callable[[RecordedTrainer, int, bool], dict[str, Any]] = lambda trainer, epoch, validated: {}
        self._valid_result: dict[str, float] = {}
        self._trained_at = 0.0
        self._writes = self._select = True

    def fit(self, train_data, valid_data=None, verbose=True, saved=True, show_progress=False, callback_fn=None):
        """RecBole's ``fit``; afterwards the model has its best state.

        Args:
            saved: whether to write the checkpoint, the epoch lines and the events.
            callback_fn: called with the epoch and its score after each validation.
        """
        self.train_data, self._writes = train_data, saved and distributed.is_main_process()
        self._select = valid_data is not None
        if self._writes:
            self.tensorboard = self.epoch_log.open_events(self._stage, self.start_epoch)

        def after_validation(epoch: int, score: float) -> None:
            self._after_epoch(epoch, self._valid_result)
            if callback_fn:
                callback_fn(epoch, score)

        name = f"{self.config['model']}{'' if self._select else ' (refit)'}"
        with usual_settings(), self.epoch_log.bar(name, self.start_epoch, self.epochs):
            result = super().fit(train_data, valid_data, verbose, True, show_progress, after_validation)
        if self.best_epoch < 0:
            raise TrainingDiverged(f"{self.valid_metric} on validation was never a number; lower the learning rate")
        if self._writes:
            self.checkpointer.write(self, self.start_epoch + len(self.train_loss_dict) - 1)
        self.load_best()
        self.tensorboard.close()
        return result

    def evaluate(self, eval_data, load_best_model=False, model_file=None, show_progress=False):
        """RecBole's ``evaluate`` with its own random generator, so that evaluating twice gives the same numbers."""
        if load_best_model:
            self.load_best()
        self.eval_collector.scale, self.eval_collector.known = eval_data.scale, eval_data.known
        with self.own_randomness():
            return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    def own_randomness(self) -> OwnRandomness:
        """Within the block, random numbers come from a separate generator, so that they do not affect training."""
        return OwnRandomness(self.config.run.seed)

    def load(self, state: dict[str, Any], best: bool = False) -> None:
        """Load the last or the best state of a checkpoint into the model; raises as ``Checkpointer.load``."""
        self.checkpointer.load(self.model, state, best)

    def load_best(self) -> None:
        """Load the best state into the model."""
        if self.best_state:
            self.model.load_state_dict(self.best_state)
            self.model.load_other_parameter(self.best_other)

    def resume(self, state: dict[str, Any], train_data) -> None:
        """Continue exactly where a checkpoint was written; raises as ``load``."""
        if state["best_epoch"] >= 0:
            self.load(state, best=True)  # so that a state that does not fit fails before the training
        self.load(state)
        self.train_data = train_data
        self.checkpointer.restore(self, state, train_data.generator)
        self.epoch_log.rewind(state["lines"])

    def _build_optimizer(self, **kwargs):
        optimizer = super()._build_optimizer(**kwargs)
        for parameters in optimizer.param_groups:
            if "fused" in parameters:  # RMSprop has no such option
                parameters["fused"] = True
        return optimizer

    @property
    def patience(self) -> int:
        """How many validations in a row may bring no new best; one more ends the training, as RecBole counts.

        With ``stopping_step: auto`` these are half as many as up to the best one, or as many as take
        ``PATIENT_BATCHES`` of a pass over the training data, whichever is more, within ``PATIENCE``.
        """
        if (given := self.config.run.stopping_step) != "auto":
            return given
        epochs = max((self.best_epoch + 1) / 2, PATIENT_BATCHES / len(self.train_data))
        return min(max(ceil(epochs / self.eval_step), PATIENCE[0]), PATIENCE[1])

    @property
    def _stage(self) -> str:
        return "select" if self._select else "refit"

    def _valid_epoch(self, valid_data, show_progress=False):
        self.stopping_step = self.patience  # RecBole counts validations against it after this hook
        self._valid_result = self.evaluate(valid_data, show_progress=show_progress)
        score = calculate_valid_score(self._valid_result, self.valid_metric)
        return distributed.broadcast(score), self._valid_result  # all processes stop in the same epoch

    def _neg_sample_batch_eval(self, batched_data):
        """Score a batch of rated pairs; RecBole calls this."""
        pairs, _, *positives = batched_data
        return pairs, pair_scores(self.model, self.config, pairs), *positives

    def _generate_train_loss_output(self, epoch_idx, s_time, e_time, losses):
        text, self._trained_at = self.epoch_log.trained(epoch_idx, e_time - s_time, losses), monotonic()
        if self._select and (epoch_idx + 1) % self.eval_step:  # otherwise RecBole calls another hook of ours
            self._after_epoch(epoch_idx, {})
        return text

    def _add_train_loss_to_tensorboard(self, epoch_idx, losses, tag="loss"):
        for name, value in named(losses).items():
            self.tensorboard.add_scalar(f"{tag}/{name}", value, epoch_idx)

    def _add_hparam_to_tensorboard(self, best_valid_result):
        """Do nothing: RecBole would open a second event directory, and ``config.yaml`` has the parameters."""

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        """Keep the state; RecBole calls this after each new best epoch, and without validation after every epoch."""
        if epoch < 0:
            return
        self.best_epoch = epoch
        state = self.model.state_dict()  # without validation it always is the best, so it needs no copy
        self.best_state = {key: value.clone() for key, value in state.items()} if self._select else dict(state)
        self.best_other = self.model.other_parameter()
        if not self._select:
            self._after_epoch(epoch, {})

    def _after_epoch(self, epoch: int, valid: dict[str, float]) -> None:
        best = f"best {self.valid_metric} {self.best_valid_score:.4f} at {self.best_epoch + 1}"
        self.epoch_log.advance(epoch, valid, best if self._select and self.best_epoch >= 0 else "")
        if self._writes:
            times = {"validate_s": round(monotonic() - self._trained_at, 4)} if valid else {}
            observed = self.observe(self, epoch, bool(valid)) if self._select else {}
            self.epoch_log.write_line(self._stage, valid, times | observed)
            if self.checkpointer.is_due():
                self.checkpointer.write(self, epoch)
