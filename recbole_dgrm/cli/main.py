"""The command line: ``recbole-dgrm``, ``python -m recbole_dgrm`` and ``python run_recbole_dgrm.py``."""

import logging
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.text import Text

from recbole_dgrm.errors import OptionError, UserError, explained
from recbole_dgrm.start import own_process
from recbole_dgrm.system.texts import lines

COMMANDS = "train download convert benchmark tune diagnose report split compare recommend evaluate export doctor"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    own_process()
    command, *rest = arguments if arguments and arguments[0] in COMMANDS.split() else ["train", *arguments]
    console = _Terminal(markup=False, emoji=False)
    logging.getLogger().addHandler(handler := _notes_to_stderr())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # with it clusters end a job; here it is as Ctrl-C
    try:
        with _processes(command), explained():
            # imported here, so that a library that only another command needs stops none: least of all doctor
            return import_module(f"recbole_dgrm.cli.{command}").run(rest, console)
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(f"error: {lines(str(error))}", file=sys.stderr)
        return 2
    finally:
        logging.getLogger().removeHandler(handler)


def _processes(command: str) -> AbstractContextManager[None]:
    """Join the processes that ``torchrun`` has started, so that they train together."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return nullcontext()
    if command != "train":
        raise OptionError(f"torchrun is for a training; {command} is one process: python run_recbole_dgrm.py {command}")
    from recbole_dgrm.system import distributed  # torch loads slowly; --help need not wait for it

    return distributed.process_group()


class _Terminal(Console):
    """A console that prints text as it is: brackets are no markup, and control characters are shown, not sent."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Tables are folded to the width of the terminal; sentences are left to the terminal itself."""
        sentences = all(isinstance(one, (str, Text)) for one in objects)
        super().print(*objects, **{"soft_wrap": sentences, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Called for every string that is printed, also within tables."""
        return super().render_str(lines(text), **options)


class _Stderr(logging.Handler):
    """Prints to the current ``sys.stderr``, which a progress display replaces so that notes appear above its bars."""

    def emit(self, record: logging.LogRecord) -> None:
        print(lines(self.format(record)), file=sys.stderr)


def _notes_to_stderr() -> logging.Handler:
    """The handler that prints warnings as notes; errors are raised and printed by ``main``."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    handler.addFilter(_is_note)
    return handler


def _is_note(record: logging.LogRecord) -> bool:
    from recbole_dgrm.compat.repairs import KNOWN_LOGS  # loaded long before anything is logged

    return record.levelno == logging.WARNING and not record.getMessage().startswith(KNOWN_LOGS)
