"""Errors whose message is meant for the user as it stands: the thing, the value, the remedy."""


class UserError(Exception):
    """Base of all; the command line prints the message without a traceback."""


class UnsupportedVersion(UserError, RuntimeError):
    """An installed library version on which results would be wrong."""


class OptionError(UserError, ValueError):
    """A configuration key or value that cannot be used."""


class UnknownModel(UserError, ValueError):
    """A model name that neither we nor RecBole have."""


class DataError(UserError, ValueError):
    """Input data that cannot be used."""


class DownloadError(UserError, RuntimeError):
    """A data set that could not be fetched."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that is missing, broken, or not of this run."""


class LostProcess(UserError, RuntimeError):
    """One of the processes that train together has ended."""


class OutputError(UserError):
    """A file that the disk or its permissions refuse."""


class OutOfMemory(UserError, MemoryError):
    """A run that needs more memory than there is."""


class TrainingDiverged(UserError, RuntimeError):
    """A loss became NaN or infinite."""
