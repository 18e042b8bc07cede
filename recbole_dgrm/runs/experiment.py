"""One run: a config in, a record and its files out.

Training selects on validation; with ``refit`` a fresh model then learns from training and validation
data for the epochs that validation chose. The test part is scored once, at the end.
"""

import logging
import secrets
import shutil
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from recbole.utils import init_seed
from recbole.utils.logger import RemoveColorFilter
from torch import Tensor

from recbole_dgrm import compat
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import atomic_files, dataset, loaders
from recbole_dgrm.errors import (
    CheckpointError,
    OptionError,
    OutputError,
    TrainingDiverged,
    UserError,
    explained,
)  # fmt: skip
from recbole_dgrm.evaluation import collapse, diagnosis, references
from recbole_dgrm.models import registry
from recbole_dgrm.options import option
from recbole_dgrm.records import (
    CHECKPOINT,
    CONFIG,
    EPOCHS,
    EVENTS,
    PER_USER,
    RECORD,
    RUN_LOG,
    RunRecord,
    is_scores,
    new_record,
    read_epochs,
    read_run,
    write_config,
    write_vectors,
)  # fmt: skip
from recbole_dgrm.runs import upstream
from recbole_dgrm.system import distributed
from recbole_dgrm.system.environment import environment, peak_memory
from recbole_dgrm.system.files import check_writable, drop_partials, plain, write_json
from recbole_dgrm.system.processes import alone_in
from recbole_dgrm.training.checkpoints import REMEDY, read_checkpoint
from recbole_dgrm.training.recorded_trainer import RunMixin
from recbole_dgrm.training.trainers import check_processes, trainer_class

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """What training without a test gives: the best validation score, its epoch (from 1) and all its metrics."""

    score: float
    best_epoch: int
    metrics: dict[str, float]


@explained()
def run_one(
    config, run_dir: Path | None = None, show_progress: bool = False, label: str = ""
) -> tuple[RunRecord, Path]:  # fmt: skip
    """Train, validate, test and save one model.

    Args:
        config: from ``recbole_dgrm.config.layers.load_config``.
        run_dir: where to write, and to continue from if a checkpoint lies there; without it a new
            directory is made in ``output_dir``.
        show_progress: bars on the terminal.
        label: what tables call the run; the model's name by default.

    Returns:
        The record and the directory of the run.

    Raises:
        recbole_dgrm.errors.UserError: what is wrong and the remedy; also written into the record.
    """
    check_processes(registry.model_class(config["model"]))
    distributed.check_device(config["device"])
    run_dir = run_dir or Path(distributed.text_of_first(lambda: str(_new_directory(config))))
    config = config.writing_to(run_dir)
    given = config.given
    record = new_record(given, label)
    record.environment = environment(config)
    with ExitStack() as stack:
        if distributed.first():
            stack.enter_context(alone_in(run_dir, "process", "wait for its end; one run is made by one command"))
        state = _state(config, run_dir)
        stack.enter_context(_still_there(run_dir))
        if distributed.first():
            write_config(run_dir, given)
            stack.enter_context(_log_to(run_dir / RUN_LOG))
            stack.enter_context(_recorded(record, run_dir))
        stack.enter_context(distributed.ends_in_order(f"continue with {option('resume', run_dir)}"))
        with upstream.explained(config):
            _Run(config, run_dir, record, show_progress).go(state)
    return record, run_dir


def resume(run_dir: Path, show_progress: bool = False, label: str = "") -> tuple[RunRecord, Path]:
    """Continue a run that was stopped, from its last checkpoint if it has one, with its own config.

    Raises:
        CheckpointError: ``run_dir`` is no run.
    """
    config = saved_config(run_dir)
    if not label and (run := read_run(run_dir)):
        label = run.record["label"]
    return run_one(config, run_dir, show_progress, label)


def saved_config(run_dir: Path) -> Any:
    """The config of the run in ``run_dir``.

    Raises:
        CheckpointError: ``run_dir`` is no run, or its config cannot be used.
    """
    path = run_dir / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{run_dir} is not a run directory: it has no {CONFIG}")
    try:
        return load_config([path])
    except UserError as error:
        raise CheckpointError(f"{path} cannot be used: {error}; correct it, or start a new run") from error


@explained()
def validate_one(config, run_dir: Path, callback: Callable[[int, float], None] | None = None) -> Validation:
    """Train and validate a model, continuing from a checkpoint in ``run_dir``; the test part is never there.

    Args:
        callback: called with epoch and score after each validation; what it raises ends the training.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    state = _state(config, run_dir)
    config = config.writing_to(run_dir)
    with _still_there(run_dir), _log_to(run_dir / RUN_LOG):
        run = _Run(config, run_dir, new_record(config.given), False, with_test=False)
        trainer = run.train("train", state, callback=callback)
    return Validation(float(trainer.best_valid_score), trainer.best_epoch + 1, plain(trainer.best_valid_result))


class _Run:
    """The stages of one run; what they share."""

    def __init__(self, config, run_dir: Path, record: RunRecord, show_progress: bool, with_test: bool = True):
        self.config, self.run_dir, self.record, self.show_progress = config, run_dir, record, show_progress
        self.splits = dataset.build(config, with_test)
        if (longest := max(config.run.topk)) > (n_items := self.splits.train.item_num - 1):
            raise OptionError(
                f"topk={config['topk']}: there are only {n_items} items, fewer than {longest}; name shorter lists"
            )
        record.data = {
            "source": atomic_files.source_hash(self.splits.train.config), "fingerprint": self.splits.fingerprint(),
            **self.splits.sizes(), "notes": self.splits.notes,
            "scale": self.splits.scale and self.splits.scale.to_dict(),
        }  # fmt: skip

    def go(self, state: dict[str, Any] | None) -> None:
        """Select on validation, refit if asked, test once. ``state`` is where to continue."""
        if not state or "selected" not in state["note"]:
            trainer = self.train("train", state)
            selected = {"epochs": trainer.best_epoch + 1, "valid": plain(trainer.best_valid_result)}
            state = None
        else:
            selected = state["note"]["selected"]
        if self.config.run.refit:
            trainer = self.train("known", state, selected)
        self._test(trainer, selected)

    def _test(self, trainer, selected: dict[str, Any]) -> None:
        loader = loaders.eval_loader(self.config, self.splits, "test")
        start = monotonic()
        self.record.test = dict(trainer.evaluate(loader, show_progress=self.show_progress))
        self.record.timing["evaluate_s"] = round(monotonic() - start, 3)
        if distributed.first():
            with distributed.alone():
                self._complete(trainer, selected, loader.users)

    def _complete(self, trainer, selected: dict[str, Any], users: Tensor) -> None:
        """What stands in the record beside the test, and the vectors of the tested ``users``."""
        self.record.valid = selected["valid"]
        lines = read_epochs(self.run_dir)  # of all sessions of the run, if it was resumed
        seconds = [line["seconds"] for line in lines]
        self.record.timing |= {
            "train_s": round(sum(seconds), 3),
            "epoch_s": round(sum(seconds) / len(seconds), 4),
            "epochs": sum(line["stage"] == "select" for line in lines),
            "best_epoch": selected["epochs"],
        }
        tokens = self.splits.test.id2token(self.splits.test.uid_field, users.numpy())
        vectors = {"user": np.asarray(tokens, dtype=str), **trainer.evaluator.per_user}
        write_vectors(self.run_dir / PER_USER, vectors)
        with self._kept("reference rows"):
            self.record.reference = references.reference_rows(self.config, self.splits)
            self.record.skill = references.skill(self.record.test, self.record.reference)
        with self._kept("diagnosis"):
            self.record.diagnosis = diagnosis.examine(trainer, self.config, self.splits, lines, selected["epochs"])
            LOG.info("collapse: %s", collapse.of_record(asdict(self.record)).line)

    @contextmanager
    def _kept(self, what: str) -> Iterator[None]:
        """The test is done: what fails inside is said, in the record too, and the run is finished all the same."""
        try:
            yield
        except Exception as error:
            said = f"the test is done, but its {what} failed: {type(error).__name__}: {error}"
            self.record.error = f"{self.record.error}; {said}" if self.record.error else said
            self.record.traceback = traceback.format_exc()
            LOG.warning("%s", said)
            LOG.info("%s", self.record.traceback)

    def train(self, part: str, state: dict[str, Any] | None, selected: dict[str, Any] | None = None, callback=None):
        """A fresh model on ``part``; selects on validation unless ``selected`` says for how long to train."""
        config = self.config
        if state and state["note"]["fingerprint"] != self.record.data["fingerprint"]:
            raise CheckpointError("the data has changed since the run was started; start a new run")
        trainer, loader, seconds = untrained(config, self.splits, part)
        self.record.timing["build_s"] = round(self.record.timing.get("build_s", 0.0) + seconds, 3)
        self.record.parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
        trainer.note = {"fingerprint": self.record.data["fingerprint"]}
        valid = None
        if selected:
            trainer.note["selected"] = selected
            trainer.epochs = selected["epochs"]
        else:
            valid = loaders.eval_loader(config, self.splits, "valid")
            if self.splits.test is not None:  # a trial of a search is compared, not looked at
                trainer.observe = diagnosis.EpochMonitor(config, self.splits)
        if state:
            trainer.resume(state, loader)
        trainer.fit(loader, valid, show_progress=self.show_progress, callback_fn=callback)
        return trainer


def untrained(config, splits: dataset.Splits, part: str) -> tuple[RunMixin, Any, float]:
    """A trainer with its model before the first step, the same for one config, with all random numbers seeded.

    Returns:
        The trainer, the batches of ``part`` to learn from, and the seconds that building the model took.
    """
    init_seed(config.run.seed, config["reproducibility"])
    loader = loaders.train_loader(config, splits, part)
    start = monotonic()  # some of RecBole's models learn while they are built
    with compat.building(config):
        model = registry.model_class(config["model"])(config, getattr(splits, part)).to(config["device"])
    seconds = monotonic() - start
    return trainer_class(type(model))(config, model), loader, seconds


def _state(config, run_dir: Path) -> dict[str, Any] | None:
    """Where to continue, if the run in ``run_dir`` left a checkpoint."""
    if distributed.first():
        drop_partials(run_dir)
    if (run_dir / CHECKPOINT).exists():
        state = read_checkpoint(run_dir / CHECKPOINT, config["device"])
        selected = state["note"].get("selected", {"epochs": 1, "valid": {}})
        if not (isinstance(state["note"].get("fingerprint"), str) and isinstance(selected, dict)
                and isinstance(selected.get("epochs"), int) and 1 <= selected["epochs"] <= config.run.epochs
                and is_scores(selected.get("valid"))):  # fmt: skip
            raise CheckpointError(f"{run_dir / CHECKPOINT} is not a checkpoint of a run: its note is damaged; {REMEDY}")
        return state
    if distributed.first():
        (run_dir / EPOCHS).unlink(missing_ok=True)  # of a run that was stopped before its first checkpoint
        shutil.rmtree(run_dir / EVENTS, ignore_errors=True)
    return None


def _new_directory(config) -> Path:
    given = config.given
    stem = "-".join(str(given[key]) for key in ("model", "dataset", "protocol", "seed"))
    check_writable(folder := Path(given["output_dir"]))
    path = folder / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"output_dir={folder}: {path} cannot be made ({error.strerror}); name another") from error
    return path


@contextmanager
def _recorded(record: RunRecord, run_dir: Path) -> Iterator[None]:
    """Keep ``record.json`` true: running inside, and afterwards how it ended."""
    write_json(run_dir / RECORD, asdict(record))
    try:
        with explained():
            yield
        record.status = "finished"
    except KeyboardInterrupt:
        record.status, record.error = "interrupted", "stopped by the user"
        LOG.warning("stopped; continue with %s", option("resume", run_dir))
        raise
    except OutputError as error:  # of the disk, not of the run: it goes on as after an interruption
        record.status, record.error = "interrupted", str(error)
        LOG.warning("stopped by the disk; once that is mended, continue with %s", option("resume", run_dir))
        raise
    except Exception as error:
        record.status = "diverged" if isinstance(error, TrainingDiverged) else "failed"
        record.error = f"{type(error).__name__}: {error}"
        record.traceback = traceback.format_exc()
        LOG.exception("the run %s", record.status)
        raise
    finally:
        record.timing["peak_rss_mib"] = peak_memory()
        write_json(run_dir / RECORD, asdict(record))


@contextmanager
def _still_there(run_dir: Path) -> Iterator[None]:
    """Inside, a run whose directory somebody takes away ends with a sentence.

    TensorBoard writes in a thread of its own, which would print what it met; the run meets the same.

    Raises:
        OutputError: it is gone.
    """
    printed = threading.excepthook
    threading.excepthook = lambda met: None if isinstance(met.exc_value, OSError) else printed(met)
    try:
        yield
    except FileNotFoundError as error:
        if run_dir.is_dir():
            raise
        raise OutputError(f"{run_dir} was removed while the run was at work in it; start the run again") from error
    finally:
        threading.excepthook = printed


class _RunLog(logging.FileHandler):
    """A full disk ends the run, and is said there; not a line of its log."""

    def handleError(self, record: logging.LogRecord) -> None: ...


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """RecBole and we log to the root logger; inside, everything goes to ``path`` as well."""
    handler = _RunLog(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(RemoveColorFilter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
