"""Training loops inside RecBole's ``Trainer.fit``: one optimizer, closed-form sweeps, or turns.

Trainers know turns, not papers: a model declares ``recbole_dgrm.models.base.Phase`` objects and
``AlternatingTrainer`` walks them.
"""

from collections import namedtuple
from dataclasses import replace
from functools import cache

import numpy as np
from recbole.trainer import Trainer
from recbole.utils import get_trainer
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_dgrm.errors import OptionError, TrainingDiverged
from recbole_dgrm.models.base import Phase
from recbole_dgrm.models.phases import OptimizerGroup, only_learning
from recbole_dgrm.models.registry import MODELS
from recbole_dgrm.system import distributed
from recbole_dgrm.training.recorded_trainer import RunMixin


class SweepTrainer(RunMixin, Trainer):
    """Trains a model that improves by closed-form sweeps: ``model.sweep()`` does one and returns its objective."""

    def _build_optimizer(self, **kwargs):
        return OptimizerGroup()

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        return self.model.sweep()


class AlternatingTrainer(RunMixin, Trainer):
    """Trains a model in the turns it declares with ``model.phases()``."""

    def __init__(self, config, model):
        self.phases: list[Phase] = model.phases()
        if distributed.size() > 1:
            self.phases = [
                replace(phase, loss=distributed.divided(phase.loss, phase.parameters, model.state_rows))
                for phase in self.phases
            ]
        super().__init__(config, model)
        if config.run.compile:
            for name, network in model.named_children():
                if name != "critic":  # torch.compile has no second derivative, which gradient penalties need
                    network.compile()

    def _build_optimizer(self, **kwargs):
        group = OptimizerGroup(
            (phase.name, super(AlternatingTrainer, self)._build_optimizer(
                params=phase.parameters, learning_rate=phase.learning_rate
            ))
            for phase in self.phases
        )  # fmt: skip
        for parameters in (part for optimizer in group.values() for part in optimizer.param_groups):
            if "fused" in parameters:  # one pass over the parameters instead of one per operation; RMSprop has none
                parameters["fused"] = True
        return group

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        """Walk the phases; returns a named tuple with the mean loss per row of each phase."""
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
        score, result = super()._valid_epoch(valid_data, show_progress)
        self.model.end_epoch(score if self.valid_metric_bigger else -score)
        return score, result

    def _run_phase(self, phase: Phase, train_data, epoch_idx: int, bar: tqdm) -> float:
        total, rows = 0.0, 0
        with only_learning(self.model, phase.parameters):
            for _ in range(phase.repeat):
                for batch in train_data:
                    total += self._step(phase, batch.to(self.device), epoch_idx)
                    rows += len(batch)
                    bar.update()
        return total / rows

    def _step(self, phase: Phase, batch, epoch_idx: int) -> float:
        optimizer = self.optimizer[phase.name]
        optimizer.zero_grad()
        with self.in_precision():
            loss = phase.loss(batch)
        value = distributed.total(loss.item())
        if not np.isfinite(value):
            raise TrainingDiverged(
                f"the {phase.name} loss became {value} in epoch {epoch_idx + 1}; lower its learning rate "
                f"({phase.learning_rate}) or look for extreme ratings"
            )
        loss.backward()
        if self.clip_grad_norm:
            clip_grad_norm_(phase.parameters, **self.clip_grad_norm)
        optimizer.step()
        if phase.after_step:
            phase.after_step()
        return value


def trainer_class(model: type) -> type[Trainer]:
    """The trainer that follows from what a model declares: ``sweep``, ``phases``, or neither.

    One that declares neither is trained by RecBole's own trainer of its name, with our files, checkpoints and resume.
    """
    if hasattr(model, "sweep"):
        return SweepTrainer
    if hasattr(model, "phases"):
        return AlternatingTrainer
    theirs = get_trainer(model.type, model.__name__)
    return theirs if issubclass(theirs, RunMixin) else _recorded(theirs)


@cache
def _recorded(theirs: type[Trainer]) -> type[Trainer]:
    return type(theirs.__name__, (RunMixin, theirs), {})


def check_processes(model: type) -> None:
    """Refuse a model that the processes there are cannot train together.

    Raises:
        OptionError: why, and the remedy.
    """
    if distributed.size() == 1:
        return
    if not issubclass(trainer_class(model), AlternatingTrainer):
        reason = "only models that declare their training in phases can"
    elif not (reason := model.undivided):
        return
    able = [
        name for name, other in MODELS.items()
        if issubclass(trainer_class(other), AlternatingTrainer) and not other.undivided
    ]  # fmt: skip
    raise OptionError(
        f"{model.__name__} cannot be trained by {distributed.size()} processes: {reason}; start it without torchrun, "
        f"or take one of {', '.join(able)}"
    )
