"""The files of a running run: its directory, its log, its record, and the checkpoint to continue from."""

import logging
import secrets
import shutil
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from recbole.utils.logger import RemoveColorFilter

from recbole_dgrm.errors import OptionError, OutputError, TrainingDiverged, UnknownModel, UserError, explained
from recbole_dgrm.evaluation.references import References, skill
from recbole_dgrm.identity import RECORD, WHERE
from recbole_dgrm.options import option
from recbole_dgrm.records import CHECKPOINT, EPOCHS, EVENTS, RunRecord, run_name
from recbole_dgrm.system import distributed
from recbole_dgrm.system.environment import peak_memory
from recbole_dgrm.system.files import drop_partials, make_folder, write_json, writing
from recbole_dgrm.training.checkpoints import read_checkpoint

LOG = logging.getLogger(__name__)
NAN_LOSS = "Training loss is nan"  # the beginning of RecBole's error
HARMLESS = (*WHERE, "model", "dataset", "protocol", "seed", "epochs", "device", "refit", "load_col", "metrics")


def new_directory(config) -> Path:
    """Make a directory for a run in ``output_dir``."""
    name = f"{run_name(config.given)}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    path = Path(config.run.output_dir) / name
    make_folder(path)
    return path


def state_to_continue(config, run_dir: Path) -> dict[str, Any] | None:
    """The checkpoint in ``run_dir``, or None; without one, the logged epochs of the stopped run are removed."""
    path = run_dir / CHECKPOINT
    if distributed.is_main_process():
        drop_partials(run_dir)
    if path.exists():
        return read_checkpoint(path, config["device"])
    if distributed.is_main_process():
        with writing(run_dir / EPOCHS):
            (run_dir / EPOCHS).unlink(missing_ok=True)
        shutil.rmtree(run_dir / EVENTS, ignore_errors=True)
    return None


@contextmanager
def recorded(record: RunRecord, run_dir: Path) -> Iterator[None]:
    """Within the block, the status in ``record.json`` is running; afterwards it is how the run ended."""
    write_json(run_dir / RECORD, asdict(record))
    try:
        with explained():
            yield
        if record.status == "running":
            record.status = "finished"
        _write(record, run_dir)
    except (KeyboardInterrupt, Exception) as error:
        with suppress(OutputError):  # the first error is raised
            if isinstance(error, (KeyboardInterrupt, OutputError)):  # a run can continue after a full disk, too
                record.status, record.error = "interrupted", str(error) or "stopped by the user"
                LOG.warning("stopped; continue with %s", option("resume", run_dir))
            else:
                record.status = "diverged" if isinstance(error, TrainingDiverged) else "failed"
                record.error, record.traceback = f"{type(error).__name__}: {error}", traceback.format_exc()
                LOG.error("the run %s\n%s", record.status, record.traceback)
        with suppress(OutputError):
            _write(record, run_dir)
        raise


def _write(record: RunRecord, run_dir: Path) -> None:
    record.timing["peak_rss_mib"] = peak_memory()
    write_json(run_dir / RECORD, asdict(record))


def add_references(record: RunRecord, references: References, users: NDArray) -> dict[str, NDArray]:
    """Add reference rows, skills and resolutions of the test part to a record; returns the metrics of bias by user."""
    record.reference, record.resolution["test"] = references.rows, references.resolution
    record.skill = skill(record.test, references.rows)
    return references.vectors(users)


class _RunLog(logging.FileHandler):
    """A log file that raises errors of the disk, which logging would print and ignore."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Called by logging while it handles an error of writing a line."""
        with writing(Path(self.baseFilename)):
            raise


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Within the block, log messages of RecBole and of this package in this thread are also written to ``path``."""
    with writing(path):
        handler = _RunLog(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(RemoveColorFilter())
    own = threading.get_ident()
    handler.addFilter(lambda record: record.thread == own)
    root, ours = logging.getLogger(), logging.getLogger("recbole_dgrm")
    level = ours.level
    root.addHandler(handler)
    ours.setLevel(min(logging.INFO, ours.getEffectiveLevel()))
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(level)
        with suppress(OSError):  # each line was written before
            handler.close()


@contextmanager
def errors_of_recbole(config: Any) -> Iterator[None]:
    """Within the block, an error of a model of RecBole becomes a sentence; errors of our own models stay as they are.

    Raises:
        UnknownModel: a library is missing; some of RecBole's models import theirs only while they train.
        TrainingDiverged: the loss became NaN.
        OptionError: any other error, with the keys that the user has set.
    """
    model = config["model"]
    try:
        with explained():
            yield
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UnknownModel(f"{model} needs the library {error.name}, which is not installed") from error
    except Exception as error:
        if not config.model_class.__module__.startswith("recbole."):
            raise
        if NAN_LOSS in str(error):
            rate = config["learning_rate"]
            raise TrainingDiverged(f"{model}: the training loss became nan; lower learning_rate={rate}") from error
        reason = next(iter(str(error).strip().splitlines()), "no reason given")
        changed = [f"{key}={config.given[key]}" for key in sorted(config.changed) if key not in HARMLESS]
        remedy = f"check {', '.join(changed)}" if changed else "no key was changed; another model may take these data"
        raise OptionError(f"{model} of RecBole stops with {type(error).__name__}: {reason}; {remedy}") from error
