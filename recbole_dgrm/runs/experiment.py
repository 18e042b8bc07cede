"""One run: trains, validates and tests a model from a config, and writes its record and files.

The training selects the epoch with the best validation metric. With ``refit`` a new model is then trained on the
training and validation parts for as many epochs. The test part is scored once, at the end.
"""

import logging
import traceback
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.utils import init_seed
from torch.optim.swa_utils import AveragedModel

from recbole_dgrm import records
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import loaders
from recbole_dgrm.data.atomic_files import check_source, source_hash
from recbole_dgrm.data.splits import Splits, build_splits
from recbole_dgrm.errors import CheckpointError, OptionError, UserError, explained
from recbole_dgrm.evaluation import collapse, diagnosis, groups, references, selection
from recbole_dgrm.identity import Identity
from recbole_dgrm.options import option
from recbole_dgrm.runs.run_files import (
    add_references,
    errors_of_recbole,
    log_to,
    new_directory,
    recorded,
    state_to_continue,
)
from recbole_dgrm.runs.trial import Trial, read_trial
from recbole_dgrm.system import distributed
from recbole_dgrm.system.environment import environment
from recbole_dgrm.system.files import check_writable, plain
from recbole_dgrm.system.processes import locked_folder
from recbole_dgrm.system.turns import turn
from recbole_dgrm.training.recorded_trainer import RecordedTrainer
from recbole_dgrm.training.trainers import check_processes, trainer_class

LOG = logging.getLogger(__name__)


class Pruned(Exception):
    """Raised to end a trial of a search that is worse than the others."""


@explained()
@turn()
def run_one(
    config, run_dir: Path | None = None, show_progress: bool = False, label: str = "", trial: Trial | None = None
) -> tuple[records.RunRecord, Path]:
    """Train, validate, test and save one model.

    Args:
        config: from ``recbole_dgrm.config.layers.load_config``.
        run_dir: the directory to write into; if it has a checkpoint, the run continues from it. By default a new
            directory is made in ``output_dir``.
        show_progress: show progress bars on the terminal.
        label: the run's name in tables; the model's name by default.
        trial: if given, the run is a trial of a search, which ends after validation and never reads the test part.

    Returns:
        The record and the directory of the run. If the directory has this run already and it is finished, nothing is
        trained and nothing is written.

    Raises:
        recbole_dgrm.errors.UserError: with the problem and the remedy; the record has the same sentence.
    """
    record = records.new_record(config.given, label)
    if run_dir and (ended := _ended(run_dir, record.hash)):
        return ended, run_dir
    check_processes(config.model_class)
    distributed.check_device(config["device"])
    if run_dir is None:
        check_writable(Path(config.run.output_dir))
    check_source(config, with_test=trial is None)
    record.data["source"] = source = source_hash(config, with_test=trial is None)
    run_dir = run_dir or Path(distributed.broadcast_text(lambda: str(new_directory(config))))
    config = config.writing_to(run_dir)
    with ExitStack() as stack:
        if distributed.is_main_process():
            stack.enter_context(locked_folder(run_dir, "process", "wait for its end; one run is made by one command"))
        if ended := _ended(run_dir, record.hash, source):
            return ended, run_dir
        record.environment = environment(config)
        state = state_to_continue(config, run_dir)
        if distributed.is_main_process():
            records.write_config(run_dir, config.given)
            stack.enter_context(log_to(run_dir / records.RUN_LOG))
            stack.enter_context(recorded(record, run_dir))
        stack.enter_context(distributed.ends_in_order(f"continue with {option('resume', run_dir)}"))
        with errors_of_recbole(config):
            run = _Run(config, run_dir, record, show_progress, with_test=trial is None)
            run.validate(state, trial) if trial else run.go(state)
    return record, run_dir


def _ended(run_dir: Path, config: str, source: str | None = None) -> records.RunRecord | None:
    """The record of the run in ``run_dir`` if it has ended; an error if it is of another ``config`` or ``source``."""
    if (stored := records.read_run(run_dir)) is None:
        return None
    wanted = replace(stored.identity, config=config) if source is None else Identity(config, source)
    if difference := wanted.difference(stored.identity):
        raise CheckpointError(
            f"the run in {run_dir} cannot be continued, because {difference}; undo the change, or start a new run"
        )
    return records.RunRecord(**stored.record) if stored.ended else None


def resume(run_dir: Path, show_progress: bool = False) -> tuple[records.RunRecord, Path]:
    """Continue a run that was stopped, from its last checkpoint if it has one, with its own config.

    If the run has ended, its record is only read, and its data is not needed.
    """
    if (run_dir / records.TRIAL).exists():
        raise CheckpointError(
            f"{run_dir} is a trial of a search, and a trial is never tested; repeat the tune command to continue"
        )
    return make(run_dir, show_progress)


def make(run_dir: Path, show_progress: bool = False, label: str = "") -> tuple[records.RunRecord, Path]:
    """Start or continue the run whose config is in ``run_dir``, which may be a trial; see ``resume``."""
    stored = records.read_run(run_dir)
    label = label or (stored.record["label"] if stored else "")
    return run_one(saved_config(run_dir), run_dir, show_progress, label, read_trial(run_dir))


def saved_config(run_dir: Path) -> Any:
    """The config of the run in ``run_dir``."""
    path = run_dir / records.CONFIG
    if not path.is_file():
        raise CheckpointError(f"{run_dir} is not a run directory: it has no {records.CONFIG}")
    try:
        return load_config([path])
    except UserError as error:
        raise CheckpointError(f"{path} cannot be used: {error}; correct it, or start a new run") from error


class _Run:
    """The stages of one run, with the data and the record that they share."""

    def __init__(self, config, run_dir: Path, record: records.RunRecord, show_progress: bool, with_test: bool = True):
        self.run_dir, self.record, self.show_progress = run_dir, record, show_progress
        start = monotonic()
        self.splits = build_splits(config, with_test)
        record.timing["read_s"] = round(monotonic() - start, 3)
        if (longest := max(config.run.topk)) > (n_items := self.splits.train.item_num - 1):
            raise OptionError(
                f"topk={config['topk']}: there are only {n_items} items, fewer than {longest}; name shorter lists"
            )
        record.data |= self.splits.described()
        self.config, resolution = selection.with_chosen_metric(config, self.splits)
        record.selected_by = self.config.run.valid_metric
        record.resolution = {"valid": resolution} if resolution else {}

    def go(self, state: dict[str, Any] | None) -> None:
        """Select the epoch on validation, refit if the config says so, and test once; ``state`` is a checkpoint."""
        selected = state["note"].get("selected") if state else None
        if not selected:
            trainer = self.train("train", state)
            chosen = trainer.model.chosen() if hasattr(trainer.model, "chosen") else {}
            selected = {"epochs": trainer.best_epoch + 1, "valid": plain(trainer.best_valid_result), "chosen": chosen}
            state = None
        if self.config.run.refit:
            trainer = self.train("known", state, selected)
        self._test(trainer, selected)

    def validate(self, state: dict[str, Any] | None, trial: Trial) -> None:
        """Train and validate, as a trial of a search; end early if the trial is worse than the others."""

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

    def train(self, part: str, state: dict[str, Any] | None, selected: dict[str, Any] | None = None, callback=None):
        """Train a new model on ``part``; the epoch is selected on validation unless ``selected`` has it."""
        config = self.config
        note = {"fingerprint": self.record.data["fingerprint"], "selected_by": config.run.valid_metric}
        if state and any(state["note"].get(key) != value for key, value in note.items()):
            path = self.run_dir / records.CHECKPOINT
            raise CheckpointError(f"{path} belongs to another split or validation metric; start a new run")
        trainer, loader, seconds = untrained(config, self.splits, part)
        self.record.timing["build_s"] = round(self.record.timing.get("build_s", 0.0) + seconds, 3)
        copies = [module for module in trainer.model.modules() if isinstance(module, AveragedModel)]
        counts = [sum(parameter.numel() for parameter in module.parameters()) for module in (trainer.model, *copies)]
        self.record.parameters = counts[0] - sum(counts[1:])
        trainer.note, valid = note, None
        if selected:
            trainer.note["selected"] = selected
            trainer.epochs = selected["epochs"]
            if selected["chosen"]:
                trainer.model.adopt(selected["chosen"])
        else:
            valid = loaders.eval_loader(config, self.splits, "valid")
            if self.splits.test is not None:  # the trials of a search are not diagnosed
                trainer.observe = diagnosis.EpochMonitor(config, self.splits)
        if state:
            trainer.resume(state, loader)
        after = None if callback is None else lambda epoch, _: callback(trainer, epoch)
        trainer.fit(loader, valid, show_progress=self.show_progress, callback_fn=after)
        return trainer

    def _time(self, best_epoch: int) -> list[dict[str, Any]]:
        """Record how long the epochs took, including those before the run was resumed; returns their lines."""
        lines = records.read_epochs(self.run_dir)
        seconds = [line["seconds"] for line in lines]
        self.record.timing |= {
            "train_s": round(sum(seconds), 3),
            "validate_s": round(sum(line.get("validate_s", 0.0) for line in lines), 3),
            "epoch_s": round(sum(seconds) / len(seconds), 4),
            "epochs": sum(line["stage"] == "select" for line in lines),
            "best_epoch": best_epoch,
        }
        return lines

    def _test(self, trainer, selected: dict[str, Any]) -> None:
        loader, record = loaders.eval_loader(self.config, self.splits, "test"), self.record
        start = monotonic()
        record.test = dict(trainer.evaluate(loader, show_progress=self.show_progress))
        record.unclipped = trainer.evaluator.unclipped
        record.timing["evaluate_s"] = round(monotonic() - start, 3)
        if distributed.is_main_process():
            self._complete(trainer, selected, loader.users.numpy())

    def _complete(self, trainer, selected: dict[str, Any], users: NDArray) -> None:
        """Add everything but the test result to the record, and write the metrics of each of the tested ``users``."""
        record, config, splits = self.record, self.config, self.splits
        record.valid, lines = selected["valid"], self._time(selected["epochs"])
        tokens = splits.test.id2token(splits.test.uid_field, users)
        vectors = {"user": np.asarray(tokens, dtype=str), **trainer.evaluator.per_user}
        try:
            reference = references.measure(config, splits)
            vectors |= add_references(record, reference, users)
            record.groups = groups.measure(trainer.evaluator, config, splits, users, reference)
            record.diagnosis, times = diagnosis.examine(trainer, config, splits, lines, selected["epochs"])
            record.timing |= times
            LOG.info("collapse: %s", collapse.of_record(asdict(record)).line)
        except Exception as error:  # the test is done, so the run is finished all the same
            record.error = f"the test succeeded, but the analysis after it failed: {type(error).__name__}: {error}"
            record.traceback = traceback.format_exc()
            LOG.warning("%s", record.error)
        records.write_vectors(self.run_dir / records.PER_USER, vectors)


def untrained(config, splits: Splits, part: str) -> tuple[RecordedTrainer, Any, float]:
    """A trainer with an untrained model, the batches of ``part``, and the seconds that building the model took.

    All random generators are seeded first, so that it can be repeated.
    """
    init_seed(config.run.seed, config["reproducibility"])
    loader = loaders.train_loader(config, splits, part)
    start = monotonic()  # some of RecBole's models learn while they are built
    model = config.model_class(config, getattr(splits, part)).to(config["device"])
    seconds = monotonic() - start
    return trainer_class(type(model))(config, model), loader, seconds
