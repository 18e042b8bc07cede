"""The log of each epoch: a line of ``metrics.jsonl``, TensorBoard scalars and the progress bar."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recbole_dgrm.errors import CheckpointError
from recbole_dgrm.records import CHECKPOINT, EPOCHS, EVENTS, read_epochs, write_epochs
from recbole_dgrm.system import distributed
from recbole_dgrm.system.files import append_line, writing


class Events:
    """A TensorBoard writer of scalars. It writes in a thread, so an error of the disk is raised by a later call.

    Attributes:
        folder: the folder of the event files.
    """

    def __init__(self, folder: Path, start_epoch: int):
        from torch.utils.tensorboard import SummaryWriter  # slow to load

        self.folder = folder
        with writing(folder):
            self._writer = SummaryWriter(str(folder), purge_step=start_epoch or None)
        with suppress(AttributeError):  # its thread would also print the traceback that the next call raises
            self._writer.file_writer.event_writer._async_writer._worker._invoke_excepthook = lambda *_: None

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        with writing(self.folder):
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        with writing(self.folder):
            self._writer.close()


class NoEvents:
    """A TensorBoard writer that writes nothing."""

    def add_scalar(self, tag: str, value: float, step: int) -> None: ...

    def close(self) -> None: ...


class EpochLog:
    """Logs the epochs of one training into the directory of its run.

    Attributes:
        events: the TensorBoard writer.
        n_lines: the number of lines of ``metrics.jsonl``.
    """

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir
        self.n_lines = len(read_epochs(run_dir))
        self.events: Events | NoEvents = NoEvents()
        self._trained: dict[str, Any] = {}

    def open_events(self, stage: str, start_epoch: int) -> Events:
        """Start to write TensorBoard events; existing events from ``start_epoch`` on are replaced."""
        self.events = Events(self.run_dir / EVENTS / stage, start_epoch)
        return self.events

    @contextmanager
    def bar(self, name: str, start_epoch: int, epochs: int) -> Iterator[None]:
        """Within the block, a terminal shows the number of finished epochs."""
        with tqdm(total=epochs, initial=start_epoch, desc=name, leave=False, disable=None) as self._bar:
            yield

    def trained(self, epoch: int, seconds: float, losses: Any) -> str:
        """Store the duration and the losses of an epoch; returns them as text."""
        self._trained = {"epoch": epoch, "seconds": round(seconds, 4), **named(losses)}
        return " ".join(f"{key}={value:.6g}" for key, value in self._trained.items())

    def advance(self, epoch: int, valid: dict[str, float], best: str) -> None:
        """Advance the bar, show the text ``best`` in it, and write the validation metrics of the epoch as events."""
        self._bar.update(epoch + 1 - self._bar.n)
        if best:
            self._bar.set_postfix_str(best, refresh=False)
        for key, value in valid.items():
            self.events.add_scalar(f"valid/{key}", value, epoch)

    def write_line(self, stage: str, valid: dict[str, float], observed: dict[str, Any]) -> None:
        """Append the line of the last trained epoch to ``metrics.jsonl``."""
        values = {f"valid_{key}": value for key, value in valid.items()}
        append_line(self.run_dir / EPOCHS, {"stage": stage, **self._trained, **values, **observed})
        self.n_lines += 1

    def rewind(self, n_lines: int) -> None:
        """Drop the lines after the first ``n_lines``; their epochs will be trained again.

        Raises:
            CheckpointError: there are fewer lines.
        """
        lines = read_epochs(self.run_dir)[:n_lines]
        if len(lines) < n_lines:
            raise CheckpointError(
                f"{self.run_dir / EPOCHS} has {len(lines)} lines, but {CHECKPOINT} was written after {n_lines}; "
                f"move {CHECKPOINT} away, and the run begins again from its config.yaml"
            )
        self.n_lines = n_lines
        if distributed.is_main_process():
            write_epochs(self.run_dir, lines)


def named(losses: Any) -> dict[str, float]:
    """RecBole's losses by name: the fields of a named tuple, or ``train``, or ``train0``, ``train1``, ..."""
    if hasattr(losses, "_asdict"):
        return losses._asdict()
    if isinstance(losses, tuple):
        return {f"train{index}": value for index, value in enumerate(losses)}
    return {"train": losses}
