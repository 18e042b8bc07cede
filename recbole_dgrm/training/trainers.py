"""Training loops inside RecBole's ``Trainer.fit``: one optimizer, closed-form sweeps, or alternating phases.

A trainer is independent of models: ``AlternatingTrainer`` runs the ``recbole_dgrm.models.base.Phase`` objects that a
model declares.
"""

from collections import namedtuple
from functools import cache
from typing import Any

import numpy as np
from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score, get_trainer
from tqdm import tqdm

from recbole_dgrm.errors import OptionError, TrainingDiverged
from recbole_dgrm.models.base import Phase
from recbole_dgrm.models.registry import MODELS
from recbole_dgrm.system import distributed
from recbole_dgrm.training.optimizers import OptimizerGroup, clip_gradients, only_learning, with_row_steps
from recbole_dgrm.training.recorded_trainer import RecordedTrainer


class SweepTrainer(RecordedTrainer, Trainer):
    """Trains a model by closed-form sweeps: ``model.sweep()`` does one and returns its objective."""

    def _build_optimizer(self, **kwargs):
        return OptimizerGroup()

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        return self.model.sweep()


class AlternatingTrainer(RecordedTrainer, Trainer):
    """Trains a model in the phases that ``model.phases()`` returns, one after the other in each epoch."""

    def __init__(self, config, model):
        self.phases: list[Phase] = model.phases()
        super().__init__(config, model)

    def _build_optimizer(self, **kwargs):
        group = OptimizerGroup()
        for phase in self.phases:
            parameters: list[Any] = phase.parameters
            if phase.decay_per_rating is not None:
                biases = [parameter for parameter in parameters if parameter.ndim == 1]
                weights = [parameter for parameter in parameters if parameter.ndim > 1]
                parameters = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
            optimizer = super()._build_optimizer(params=parameters, learning_rate=phase.learning_rate)
            group[phase.name] = with_row_steps(optimizer) if type(optimizer).__name__ == "Adam" else optimizer
        return group

    def fit(self, train_data, *arguments, **keywords):
        """``RecordedTrainer.fit``; with several processes, each has its own random numbers."""
        distributed.seed_by_rank(self.config.run.seed, self.start_epoch)
        for phase in self.phases:
            if phase.decay_per_rating is not None:
                ratings = train_data.n_ratings / len(train_data)
                weights = self.optimizer[phase.name].param_groups[0]
                weights["weight_decay"] = self.weight_decay + phase.decay_per_rating * ratings
        return super().fit(train_data, *arguments, **keywords)

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        """Run the phases, and return a named tuple with the mean loss per row of each."""
        self.model.train()
        self.model.begin_epoch(epoch_idx)
        phases = [phase for phase in self.phases if epoch_idx >= phase.from_epoch]
        batches = sum(phase.repeat for phase in phases) * len(train_data)
        bar = tqdm(total=batches, desc=f"epoch {epoch_idx + 1}", leave=False, disable=None if show_progress else True)
        with bar:
            losses = {phase.name: self._run_phase(phase, train_data, epoch_idx, bar) for phase in phases}
        if not self._select:
            self.model.end_epoch(None)
        return namedtuple("PhaseLosses", losses)(**losses)

    def _valid_epoch(self, valid_data, show_progress=False):
        with self.own_randomness():
            self.model.choose(valid_data, lambda: self._score(valid_data))
        score, result = super()._valid_epoch(valid_data, show_progress)
        self.model.end_epoch(score if self.valid_metric_bigger else -score)
        return score, result

    def _score(self, valid_data) -> float:
        score = calculate_valid_score(self.evaluate(valid_data), self.valid_metric)
        return score if self.valid_metric_bigger else -score

    def _run_phase(self, phase: Phase, train_data, epoch_idx: int, bar: tqdm) -> float:
        total, rows = 0.0, 0
        if phase.before:
            phase.before()
        with only_learning(self.model, phase.parameters):
            for _ in range(phase.repeat):
                for batch in train_data:
                    total += self._step(phase, batch.to(self.device), epoch_idx)
                    rows += len(batch)
                    bar.update()
        if phase.after:
            phase.after()
        return total / rows

    def _step(self, phase: Phase, batch, epoch_idx: int) -> float:
        optimizer = self.optimizer[phase.name]
        optimizer.zero_grad()
        share = batch[distributed.share_of_rank(len(batch))]
        loss = distributed.loss_of_share(phase.loss(share), len(batch))
        value = distributed.all_reduce_sum(loss.item())
        if not np.isfinite(value):
            raise TrainingDiverged(
                f"the {phase.name} loss became {value} in epoch {epoch_idx + 1}; lower its learning rate "
                f"({phase.learning_rate}) or check for extreme ratings"
            )
        loss.backward()
        distributed.sum_gradients(phase.parameters)
        if self.clip_grad_norm:
            clip_gradients(phase.parameters, **self.clip_grad_norm)
        optimizer.step()
        if phase.after_step:
            phase.after_step()
        return value


def trainer_class(model: type) -> type[Trainer]:
    """The trainer of a model class: ``SweepTrainer`` if it has ``sweep``, ``AlternatingTrainer`` if it has ``phases``.

    A model with neither is trained by RecBole's trainer for it, with ``RecordedTrainer`` mixed in.
    """
    if hasattr(model, "sweep"):
        return SweepTrainer
    if hasattr(model, "phases"):
        return AlternatingTrainer
    theirs = get_trainer(model.type, model.__name__)
    return theirs if issubclass(theirs, RecordedTrainer) else _recorded(theirs)


@cache
def _recorded(theirs: type[Trainer]) -> type[Trainer]:
    return type(theirs.__name__, (RecordedTrainer, theirs), {})


def check_processes(model: type) -> None:
    """Check that a model can be trained by several processes, if there are several.

    Raises:
        OptionError: it cannot.
    """
    if distributed.world_size() == 1 or not (reason := _undivided(model)):
        return
    able = [name for name, other in MODELS.items() if not _undivided(other)]
    raise OptionError(
        f"{model.__name__} cannot be trained by {distributed.world_size()} processes: {reason}; start it without "
        f"torchrun, or use one of {', '.join(able)}"
    )


def _undivided(model: type) -> str | None:
    """The reason why several processes cannot train a model together; None if they can."""
    if not issubclass(trainer_class(model), AlternatingTrainer):
        return "only models with training phases can"
    return model.undivided
