"""Write files whole or not at all, with values of JSON."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch

from recbole_dgrm.errors import REMEDIES, OutputError, refused


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file or folder under a temporary name and rename it, so that a kill leaves nothing incomplete."""
    partial = path.absolute().with_name(f".{path.name}.{os.getpid()}.partial")  # pandas would expand a leading '~'
    try:
        with writing(path):
            write(partial)
            os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            (shutil.rmtree if partial.is_dir() else os.unlink)(partial)
        raise


def drop_partials(folder: Path) -> None:
    """Remove the temporary files of killed writers from ``folder``; no other process may be writing there."""
    with writing(folder):
        for partial in folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, unless they exist."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Write a new folder, whole or not at all; ``write`` gets the folder, which exists."""

    def fill(partial: Path) -> None:
        partial.mkdir(parents=True)
        write(partial)

    write_whole(path, fill)


def check_writable(folder: Path, option: str = "output_dir") -> None:
    """Check that files can be written into ``folder``, which need not exist yet."""
    there = folder
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=there)).rmdir()  # permissions alone are not enough
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in REMEDIES:
            raise refused(there, error) from error
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{option}={folder} cannot be written ({reason}); name a folder that can be") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block, an OSError becomes an OutputError with a sentence about ``path``, the reason and the remedy."""
    try:
        yield
    except OSError as error:
        raise refused(path, error) from error


def read_bytes(path: Path, most: int) -> bytes:
    """Read a file; nothing beyond ``most`` bytes is read, and a larger file is a ValueError."""
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"larger than {most:,} bytes")
    return content


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append ``value`` to a JSON-lines file; a kill may leave an incomplete last line without a line end."""
    with writing(path), open(path, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(plain(value)) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, whole or not at all."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Convert ``value`` to JSON values: dicts, lists, strings, numbers, booleans and None; NaN and infinity to None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def check_unpacked(path: Path) -> None:
    """Check that a zip file is not compressed (those of torch are not), so that its size in memory is known."""
    with ZipFile(path) as file:
        parts = file.infolist()
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("its parts are compressed")
