"""Commands of the command line: their options, and a function whose docstring is the help."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_dgrm.errors import OptionError
from recbole_dgrm.options import check_known, option
from recbole_dgrm.start import __version__

DATA_PATH = Path("dataset")
Argument = tuple[tuple[str, ...], dict[str, Any]]
Function = Callable[[Namespace, Console], int | None]


class _Parser(ArgumentParser):
    """A parser whose errors are a sentence."""

    def error(self, message: str) -> Any:
        """Called by argparse for an error."""
        raise OptionError(f"{message}; --help explains the options")


def argument(*names: str, **settings: Any) -> Argument:
    """An argument of a command, with the parameters of ``ArgumentParser.add_argument``."""
    return names, settings


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        function: gets the arguments and the console, prints its result, and returns the exit status; None means 0.
        usage: the usage line after the name of the program.
        arguments: the arguments of the command.
        takes_keys: whether other ``--key=value`` are allowed; the function finds their values in ``given.keys``.
    """

    function: Function
    usage: str
    arguments: Sequence[Argument]
    takes_keys: bool

    @property
    def name(self) -> str:
        """The name of the command."""
        return self.function.__name__

    @property
    def summary(self) -> str:
        """The first line of the help."""
        return (getdoc(self.function) or "").partition("\n")[0]

    def run(self, words: Sequence[str], console: Console, more: str = "") -> int:
        """Run the command with the ``words`` after its name; returns the exit status.

        Args:
            more: text for the end of the help.
        """
        program, (summary, _, rest) = program_name(), (getdoc(self.function) or "").partition("\n\n")
        epilog, form = rest.replace("recbole-dgrm", program) + more, RawDescriptionHelpFormatter
        parser = _Parser(program, f"%(prog)s {self.usage}", summary, epilog, formatter_class=form, allow_abbrev=False)
        parser.register("type", Path, _path)
        for names, settings in self.arguments:
            parser.add_argument(*names, **settings)
        given, others = parser.parse_known_args(words)
        lists = {f"--{name}" for name, value in vars(given).items() if isinstance(value, list)}
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        if twice := next((each for each in options if options.count(each) > 1 and each not in lists), None):
            raise OptionError(f"{twice} is given twice")
        if self.takes_keys:
            given.keys = _pairs(others)
        else:
            known = [name for names, _ in self.arguments for name in names if name.startswith("--")]
            check_known("unknown option", (word.partition("=")[0] for word in others), known)
        if sys.stderr.isatty():
            print(f"recbole-dgrm {__version__}: loading libraries", file=sys.stderr, flush=True)
        if self.takes_keys:
            from recbole_dgrm.config.values import parse_line

            given.keys = parse_line(given.keys)
        return self.function(given, console) or 0


def command(usage: str, *arguments: Argument, takes_keys: bool = False) -> Callable[[Function], Command]:
    """A decorator that makes a ``Command`` of a function."""
    return lambda function: Command(function, usage, arguments, takes_keys)


def program_name() -> str:
    """The name of the program as the user typed it."""
    name = Path(sys.argv[0]).name
    if name == "__main__.py":
        return "python -m recbole_dgrm"
    return f"python {name}" if name.endswith(".py") else name


def _path(text: str) -> Path:
    if not text.strip():  # Path("") is the working directory
        raise ArgumentTypeError("the path is empty; name one, or leave the option out")
    return Path(text)


def number(text: str) -> int:
    """A positive whole number: the type of an argument."""
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text} must be a whole number of at least 1")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas: the type of an argument."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _pairs(words: Iterable[str]) -> dict[str, str]:
    """``--key=value`` and ``--key value``; a value may contain ``=``."""
    pairs: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        key, equals, value = word.partition("=")
        if not key.startswith("--"):
            raise OptionError(f"{word!r} is not understood; options are written --key=value")
        value = value if equals else next(rest, "--")
        if not equals and value.startswith("--"):
            raise OptionError(f"{key} has no value; write {key}=value")
        pairs[key.removeprefix("--")] = value
    return pairs


def config_paths(values: Iterable[str]) -> list[Path]:
    """The files of ``--config_files``: each value is a path, or several paths separated by blanks."""
    if not all(map(str.strip, values)):
        raise OptionError("--config_files names no file; leave it out")
    return [path for value in values for path in ([Path(value)] if Path(value).is_file() else map(Path, value.split()))]


def training_command(dataset: str, data_path: Path) -> str:
    """The command that trains a model on a new data set."""
    where = "" if data_path == DATA_PATH else f" {option('data_path', data_path)}"
    return f"  recbole-dgrm --model=DGRMPlus {option('dataset', dataset)}{where}"
