"""The command line: ``recbole-dgrm``, ``python -m recbole_dgrm`` and ``python run_recbole_dgrm.py``."""

import logging
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.text import Text

from recbole_dgrm.cli.checks import doctor
from recbole_dgrm.cli.comparisons import benchmark, compare, diagnose, report, split, tune
from recbole_dgrm.cli.data import convert, download
from recbole_dgrm.cli.runs import evaluate, export, recommend, train
from recbole_dgrm.errors import OptionError, UserError, explained
from recbole_dgrm.start import own_process
from recbole_dgrm.system.texts import lines

COMMANDS = {
    each.name: each
    for each in (
        *(train, download, convert, benchmark, tune, diagnose, report, split, compare),
        *(recommend, evaluate, export, doctor),
    )
}
OVERVIEW = "\n\ncommands, each with a --help of its own:\n"
OVERVIEW += "\n".join(f"  {name:<10} {each.summary}" for name, each in COMMANDS.items())


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    own_process()
    console = Terminal(markup=False, emoji=False)
    name, *rest = arguments if arguments and arguments[0] in COMMANDS else ["train", *arguments]
    logging.getLogger().addHandler(notes := _Notes())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clusters end jobs with SIGTERM; treated like Ctrl-C
    try:
        with _processes(name), explained():
            return COMMANDS[name].run(rest, console, OVERVIEW if name == "train" else "")
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(f"error: {lines(str(error))}", file=sys.stderr)
        return 2
    finally:
        logging.getLogger().removeHandler(notes)


def _processes(name: str) -> AbstractContextManager[None]:
    """A context in which the processes that ``torchrun`` has started train together."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return nullcontext()
    if name != "train":
        raise OptionError(f"torchrun is only for train; run {name} without it: python run_recbole_dgrm.py {name}")
    from recbole_dgrm.system import distributed  # torch loads slowly, and --help does not need it

    return distributed.process_group()


class Terminal(Console):
    """A console that does not interpret brackets as markup, and shows control characters instead of sending them."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; tables are folded to the width of the terminal, and sentences are wrapped by the terminal."""
        sentences = all(isinstance(one, (str, Text)) for one in objects)
        super().print(*objects, **{"soft_wrap": sentences, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Called for every string that is printed, also within tables."""
        return super().render_str(lines(text), **options)


class _Notes(logging.Handler):
    """Prints warnings as notes; errors are raised, and printed by ``main``."""

    def emit(self, record: logging.LogRecord) -> None:
        from recbole_dgrm.compat.repairs import KNOWN_LOGS

        message = record.getMessage()
        if record.levelno == logging.WARNING and not message.startswith(KNOWN_LOGS):
            # sys.stderr at this time, because a progress bar replaces it so that notes appear above the bar
            print(lines(f"note: {self.format(record)}"), file=sys.stderr)
