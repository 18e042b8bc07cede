"""Errors whose messages are for users: they name the key or file, its value, and the remedy.

Functions that check or read something raise them; only the docstrings of the public API list which.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class UserError(Exception):
    """Base class of all errors here; the command line prints the message without a traceback."""


class OptionError(UserError, ValueError):
    """A configuration key or value that cannot be used."""


class UnknownModel(UserError, ValueError):
    """A model that does not exist or cannot do what is asked."""


class DataError(UserError, ValueError):
    """Input data that cannot be used."""


class DownloadError(UserError, RuntimeError):
    """A data set that could not be downloaded."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that is missing, broken, or not of this run."""


class NotInstalled(UserError, ImportError):
    """A library that is not installed."""


class LostProcess(UserError, RuntimeError):
    """One of the processes that train together has ended."""


class OutputError(UserError, OSError):
    """A file that cannot be read or written."""


class OutOfMemory(UserError, MemoryError):
    """A run that needs more memory than there is."""


class TrainingDiverged(UserError, RuntimeError):
    """A loss became NaN or infinite."""


_ROOM = "free some space or name an --output_dir on another disk"
_LEAVE = "check its permissions or name an --output_dir that can be written"
_NAME = "something else has that name; move it away or name another folder"
_LOCK = "this disk has no locks; name an --output_dir on another disk"
_LOOK = "check the disk, then continue with the same command"
REMEDIES = (
    dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _ROOM)
    | dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _LEAVE)
    | dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), _NAME)
    | {errno.ENAMETOOLONG: "shorten it"}
    | dict.fromkeys((errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS), _LOCK)
)
NO_MEMORY = ("can't allocate memory", "out of memory", "Cannot allocate memory", "bad_alloc", "bad allocation")


# RecBole pins a version of ray that has no wheel for Python 3.12 and later, and that nothing here imports. pip cannot
# leave out a single dependency, so RecBole is installed without dependencies, and setup.py has the others.
INSTALL = {"recbole": "pip install --no-deps recbole==1.2.1"}


def refused(path: Any, error: Exception) -> OutputError:
    """The error for a file that could not be read or written, with its ``path``, the reason and the remedy."""
    if isinstance(error, OutputError) and isinstance(error.__cause__, Exception):  # the error of a file in a folder
        error = error.__cause__
    number, reason = getattr(error, "errno", None), getattr(error, "strerror", None)
    return OutputError(f"{path}: {reason or error}; {REMEDIES.get(number or 0, _LOOK)}")


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors of disk, memory and installation into sentences; a context manager and a decorator.

    Raises:
        NotInstalled: a library of ``INSTALL`` is missing; the message has the command that installs it.
        OutputError: a file cannot be written or read; the message names the file, the reason and the remedy.
        OutOfMemory: there is too little memory.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        raise refused(error.filename or "a file", error) from error
    except ModuleNotFoundError as error:
        if error.name not in INSTALL:
            raise
        raise NotInstalled(f"{error.name} is not installed; {INSTALL[error.name]}") from error
    except (MemoryError, RuntimeError) as error:  # torch raises RuntimeErrors if memory is short
        is_short = isinstance(error, MemoryError) or any(text in str(error) for text in NO_MEMORY)
        if isinstance(error, OutOfMemory) or not is_short:
            raise
        raise OutOfMemory(
            f"too little memory ({str(error).strip().splitlines()[0] if str(error).strip() else 'MemoryError'}); "
            "make train_batch_size and eval_batch_size smaller"
        ) from error
