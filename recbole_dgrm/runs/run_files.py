"""The files of a run while it is made: its directory, its log, its record, and the checkpoint to continue from."""

import logging
import secrets
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from recbole.utils.logger import RemoveColorFilter

from recbole_dgrm.errors import OutputError, TrainingDiverged, explained
from recbole_dgrm.options import option
from recbole_dgrm.records import CHECKPOINT, EPOCHS, EVENTS, RECORD, RunRecord, run_name
from recbole_dgrm.system import distributed
from recbole_dgrm.system.environment import peak_memory
from recbole_dgrm.system.files import drop_partials, write_json, writing
from recbole_dgrm.training.checkpoints import read_checkpoint

LOG = logging.getLogger(__name__)


def new_directory(config) -> Path:
    """Make a directory for a run in ``output_dir``.

    Raises:
        OutputError: it cannot be made.
    """
    folder = Path(config.run.output_dir)
    path = folder / f"{run_name(config.given)}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"output_dir={folder}: {path} cannot be made ({error.strerror}); name another") from error
    return path


def state_to_continue(config, run_dir: Path) -> dict[str, Any] | None:
    """The checkpoint in ``run_dir``, or None, after what a run without a checkpoint has left is removed.

    Raises:
        CheckpointError: the file is not the checkpoint of a run.
    """
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
    """Within the block, ``record.json`` says that the run is running; afterwards it says how the run ended."""
    write_json(run_dir / RECORD, asdict(record))
    try:
        with explained():
            yield
        _write_end(record, run_dir, "finished" if record.status == "running" else record.status)
    except (KeyboardInterrupt, Exception) as error:
        with suppress(OutputError):  # the first error is the one to be seen
            _write_end(record, run_dir, *_end(error))
        with suppress(OutputError):
            _log_end(record, run_dir, error)
        raise


def _end(error: BaseException) -> tuple[str, str, str | None]:
    """The status of a run that ``error`` ends, what its record says of it, and the traceback if somebody needs one."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "stopped by the user", None
    if isinstance(error, OutputError):  # the disk is to blame, not the run, which can continue as after an interruption
        return "interrupted", str(error), None
    status = "diverged" if isinstance(error, TrainingDiverged) else "failed"
    return status, f"{type(error).__name__}: {error}", traceback.format_exc()


def _write_end(record: RunRecord, run_dir: Path, status: str, *why: str | None) -> None:
    record.status = status
    if why:
        record.error, record.traceback = why
    record.timing["peak_rss_mib"] = peak_memory()
    write_json(run_dir / RECORD, asdict(record))


def _log_end(record: RunRecord, run_dir: Path, error: BaseException) -> None:
    if record.status == "interrupted":
        by_disk = " by the disk, which is to be mended first" if isinstance(error, OutputError) else ""
        LOG.warning("stopped%s; continue with %s", by_disk, option("resume", run_dir))
    else:
        LOG.error("the run %s\n%s", record.status, record.traceback)


@contextmanager
def still_there(run_dir: Path) -> Iterator[None]:
    """Within the block, a run whose directory is removed by somebody ends with a sentence.

    Raises:
        OutputError: the directory is gone.
    """
    try:
        yield
    except (FileNotFoundError, OutputError) as error:
        if not isinstance(error.__cause__ or error, FileNotFoundError) or run_dir.is_dir():
            raise
        raise OutputError(f"{run_dir} was removed while the run was at work in it; start the run again") from error


class _RunLog(logging.FileHandler):
    """Raises what the disk refuses, once: the run ends with it, and its end is logged by the other handlers."""

    _refused = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._refused:
            self._refused = True
            with writing(Path(self.baseFilename)):
                super().emit(record)
            self._refused = False

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(error := sys.exc_info()[1], OSError):
            raise error


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Within the block, everything that RecBole and we log in this thread is written to ``path`` as well."""
    handler = _RunLog(path, encoding="utf-8", delay=True)  # opened at the first line, within the run
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
