"""One run: it takes a config, and leaves a record and its files.

The training selects an epoch on the validation part; with ``refit`` a fresh model then learns from the training and
validation parts for as many epochs. The test part is scored once, at the end.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from recbole.utils import init_seed
from torch import Tensor

from recbole_dgrm.compat.training import building
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import loaders
from recbole_dgrm.data.atomic_files import check_source, source_hash
from recbole_dgrm.data.splits import Splits, build_splits
from recbole_dgrm.errors import CheckpointError, OptionError, OutputError, UserError, explained
from recbole_dgrm.evaluation import collapse, diagnosis, groups, references, selection
from recbole_dgrm.options import option
from recbole_dgrm.records import (
    CONFIG,
    PER_USER,
    RUN_LOG,
    TRIAL,
    Identity,
    RunDirectory,
    RunRecord,
    config_hash,
    new_record,
    read_epochs,
    read_run,
    write_config,
    write_vectors,
)
from recbole_dgrm.runs import upstream
from recbole_dgrm.runs.run_files import log_to, new_directory, recorded, state_to_continue, still_there
from recbole_dgrm.runs.trial import Trial, read_trial
from recbole_dgrm.system import distributed
from recbole_dgrm.system.environment import environment, lacks_bfloat16
from recbole_dgrm.system.files import check_writable, plain
from recbole_dgrm.system.processes import alone_in
from recbole_dgrm.system.turns import turn
from recbole_dgrm.training.recorded_trainer import RecordedTrainer
from recbole_dgrm.training.trainers import check_processes, trainer_class

LOG = logging.getLogger(__name__)


class Pruned(Exception):
    """A trial of a search has fallen behind the others."""


@explained()
@turn()
def run_one(
    config, run_dir: Path | None = None, show_progress: bool = False, label: str = "", trial: Trial | None = None
) -> tuple[RunRecord, Path]:
    """Train, validate, test and save one model.

    Args:
        config: from ``recbole_dgrm.config.layers.load_config``.
        run_dir: the directory to write into, and to continue from if it has a checkpoint; by default a new one is
            made in ``output_dir``.
        show_progress: show bars on the terminal.
        label: the run's name in tables; the model's name by default.
        trial: makes the run a trial of a search, which ends after the validation and never reads the test part.

    Returns:
        The record and the directory of the run. If the directory has this run already, finished, nothing is trained
        and nothing is written.

    Raises:
        recbole_dgrm.errors.UserError: says what is wrong and what to do; the record has the same sentence.
    """
    check_processes(config.model_class)
    distributed.check_device(config["device"])
    if run_dir is None:
        check_writable(Path(config.run.output_dir))
    check_source(config, with_test=trial is None)
    source = source_hash(config, with_test=trial is None)
    run_dir = run_dir or Path(distributed.broadcast_text(lambda: str(new_directory(config))))
    config = config.writing_to(run_dir)
    given = config.given
    record = new_record(given, label, source)
    with ExitStack() as stack:
        if distributed.is_main_process():
            stack.enter_context(alone_in(run_dir, "process", "wait for its end; one run is made by one command"))
        if stored := stored_run(run_dir, Identity(record.hash, source)):
            return RunRecord(**stored.record), run_dir
        record.environment = environment(config)
        state = state_to_continue(config, run_dir)
        stack.enter_context(still_there(run_dir))
        if distributed.is_main_process():
            write_config(run_dir, given)
            stack.enter_context(log_to(run_dir / RUN_LOG))
            stack.enter_context(recorded(record, run_dir))
        stack.enter_context(distributed.ends_in_order(f"continue with {option('resume', run_dir)}"))
        with upstream.explained(config):
            run = _Run(config, run_dir, record, show_progress, with_test=trial is None)
            run.validate(state, trial) if trial else run.go(state)
    return record, run_dir


def stored_run(run_dir: Path, identity: Identity) -> RunDirectory | None:
    """The run of this identity in ``run_dir``, if it has come to its end; None if there is none, or it goes on.

    Raises:
        CheckpointError: the directory has a run of another identity.
    """
    if (stored := read_run(run_dir)) is None:
        return None
    if difference := identity.difference(stored.identity):
        raise CheckpointError(
            f"the run in {run_dir} cannot go on, because {difference}; undo the change, or start a new run"
        )
    return stored if stored.ended else None


def resume(run_dir: Path, show_progress: bool = False, label: str = "") -> tuple[RunRecord, Path]:
    """Continue a run that was stopped, from its last checkpoint if it has one, with its own config.

    The record of a run that has come to its end is read only; its data need not be there any more.

    Raises:
        CheckpointError: ``run_dir`` holds no run, or a trial, or one whose config or data have changed.
    """
    if (run_dir / TRIAL).exists():
        raise CheckpointError(
            f"{run_dir} is a trial of a search, and a trial is never tested; repeat the tune command to go on"
        )
    return make(run_dir, show_progress, label)


def make(run_dir: Path, show_progress: bool = False, label: str = "") -> tuple[RunRecord, Path]:
    """Make or continue the run whose config lies in ``run_dir``, which may be a trial; see ``resume``."""
    config, stored = saved_config(run_dir), read_run(run_dir)
    if stored and stored.ended:
        identity = Identity(config_hash(config.given), stored.identity.data, stored.identity.code)
        stored_run(run_dir, identity)  # refuses a config that has changed
        return RunRecord(**stored.record), run_dir
    trial = read_trial(run_dir)
    return run_one(config, run_dir, show_progress, label or (stored.record["label"] if stored else ""), trial)


def saved_config(run_dir: Path) -> Any:
    """The config of the run in ``run_dir``.

    Raises:
        CheckpointError: ``run_dir`` is not the directory of a run, or its config cannot be used.
    """
    path = run_dir / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{run_dir} is not a run directory: it has no {CONFIG}")
    try:
        return load_config([path])
    except UserError as error:
        raise CheckpointError(f"{path} cannot be used: {error}; correct it, or start a new run") from error


class _Run:
    """The stages of one run, with the data and the record that they share."""

    def __init__(self, config, run_dir: Path, record: RunRecord, show_progress: bool, with_test: bool = True):
        self.run_dir, self.record, self.show_progress = run_dir, record, show_progress
        _warn_of_slow_precision(config)
        self.splits = build_splits(config, with_test)
        if (longest := max(config.run.topk)) > (n_items := self.splits.train.item_num - 1):
            raise OptionError(
                f"topk={config['topk']}: there are only {n_items} items, fewer than {longest}; name shorter lists"
            )
        record.data |= self.splits.described()
        self.config, found = selection.settled(config, self.splits)
        record.selected_by = self.config.run.valid_metric
        record.resolution = {"valid": found} if found else {}

    def go(self, state: dict[str, Any] | None) -> None:
        """Select on validation, refit if the config says so, and test once; continue from ``state`` if there is one."""
        if not state or "selected" not in state["note"]:
            trainer = self.train("train", state)
            chosen = trainer.model.chosen() if hasattr(trainer.model, "chosen") else {}
            selected = {"epochs": trainer.best_epoch + 1, "valid": plain(trainer.best_valid_result), "chosen": chosen}
            state = None
        else:
            selected = state["note"]["selected"]
        if self.config.run.refit:
            trainer = self.train("known", state, selected)
        self._test(trainer, selected)

    def validate(self, state: dict[str, Any] | None, trial: Trial) -> None:
        """Train with validation alone, as a trial of a search; end early where the trial falls behind the others."""

        def compare(trainer: RecordedTrainer, epoch: int) -> None:
            if trial.falls_behind(epoch, trainer.best_valid_score, trainer.valid_metric_bigger):
                raise Pruned

        try:
            trainer = self.train("train", state, callback=compare)
        except Pruned:
            self.record.status = "pruned"
            return
        self.record.valid, self.record.status = plain(trainer.best_valid_result), "validated"
        self._time(trainer.best_epoch + 1)

    def _time(self, best_epoch: int) -> list[dict[str, Any]]:
        """Enter how long the epochs took, also those from before the run was resumed; returns their lines."""
        lines = read_epochs(self.run_dir)
        seconds = [line["seconds"] for line in lines]
        self.record.timing |= {
            "train_s": round(sum(seconds), 3),
            "epoch_s": round(sum(seconds) / len(seconds), 4),
            "epochs": sum(line["stage"] == "select" for line in lines),
            "best_epoch": best_epoch,
        }
        return lines

    def _test(self, trainer, selected: dict[str, Any]) -> None:
        loader = loaders.eval_loader(self.config, self.splits, "test")
        start = monotonic()
        self.record.test = dict(trainer.evaluate(loader, show_progress=self.show_progress))
        self.record.timing["evaluate_s"] = round(monotonic() - start, 3)
        if distributed.is_main_process():
            with distributed.main_process_only():
                self._complete(trainer, selected, loader.users)

    def _complete(self, trainer, selected: dict[str, Any], users: Tensor) -> None:
        """Complete the record with all but the test result, and write the metric vectors of the tested ``users``."""
        self.record.valid = selected["valid"]
        lines = self._time(selected["epochs"])
        tokens = self.splits.test.id2token(self.splits.test.uid_field, users.numpy())
        vectors = {"user": np.asarray(tokens, dtype=str), **trainer.evaluator.per_user}
        with self._kept("reference rows and result by groups"):
            reference = references.measure(self.config, self.splits)
            vectors |= reference.vectors(users.numpy())
            self.record.reference, self.record.resolution["test"] = reference.rows, reference.resolution
            self.record.skill = references.skill(self.record.test, self.record.reference)
            of_groups = groups.measure(trainer.evaluator, self.config, self.splits, users.numpy(), reference)
            self.record.groups = of_groups
        write_vectors(self.run_dir / PER_USER, vectors)
        with self._kept("diagnosis"):
            self.record.diagnosis = diagnosis.examine(trainer, self.config, self.splits, lines, selected["epochs"])
            LOG.info("collapse: %s", collapse.of_record(asdict(self.record)).line)

    @contextmanager
    def _kept(self, what: str) -> Iterator[None]:
        """Within the block, after the test, an error is logged and recorded, and the run finishes all the same."""
        try:
            yield
        except OutputError:
            raise
        except Exception as error:
            said = f"the test is done, but its {what} failed: {type(error).__name__}: {error}"
            self.record.error = f"{self.record.error}; {said}" if self.record.error else said
            self.record.traceback = traceback.format_exc()
            LOG.warning("%s", said)
            LOG.info("%s", self.record.traceback)

    def train(self, part: str, state: dict[str, Any] | None, selected: dict[str, Any] | None = None, callback=None):
        """Train a fresh model on ``part``, and select the epoch on validation unless ``selected`` has it."""
        config = self.config
        if state and state["note"]["fingerprint"] != self.record.data["fingerprint"]:
            raise CheckpointError("the data has changed since the run was started; start a new run")
        if state and state["note"]["selected_by"] != config.run.valid_metric:
            raise CheckpointError("the run was selected by another metric before it was stopped; start a new run")
        trainer, loader, seconds = untrained(config, self.splits, part)
        self.record.timing["build_s"] = round(self.record.timing.get("build_s", 0.0) + seconds, 3)
        self.record.parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
        trainer.note = {"fingerprint": self.record.data["fingerprint"], "selected_by": config.run.valid_metric}
        valid = None
        if selected:
            trainer.note["selected"] = selected
            trainer.epochs = selected["epochs"]
            if selected["chosen"]:
                trainer.model.adopt(selected["chosen"])
        else:
            valid = loaders.eval_loader(config, self.splits, "valid")
            if self.splits.test is not None:  # a search compares its trials and does not observe them
                trainer.observe = diagnosis.EpochMonitor(config, self.splits)
        if state:
            trainer.resume(state, loader)
        after = None if callback is None else lambda epoch, _: callback(trainer, epoch)
        trainer.fit(loader, valid, show_progress=self.show_progress, callback_fn=after)
        return trainer


def _warn_of_slow_precision(config) -> None:
    if config.run.precision == "bfloat16" and config["device"].type == "cpu" and lacks_bfloat16():
        LOG.warning(
            "precision=bfloat16: this processor has neither avx512_bf16 nor amx_bf16, so training may take "
            "much longer than in float32, 36 times as long where it was measured; take precision=float32"
        )


def untrained(config, splits: Splits, part: str) -> tuple[RecordedTrainer, Any, float]:
    """A trainer with its model before the first step, after all random generators are seeded: one config, one model.

    Returns:
        The trainer, the training batches of ``part``, and the seconds that building the model took.
    """
    init_seed(config.run.seed, config["reproducibility"])
    loader = loaders.train_loader(config, splits, part)
    start = monotonic()  # some of RecBole's models learn while they are built
    with building(config):
        model = config.model_class(config, getattr(splits, part)).to(config["device"])
    seconds = monotonic() - start
    return trainer_class(type(model))(config, model), loader, seconds
