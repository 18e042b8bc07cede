"""Make text from outside (labels, names, ids, errors) safe for the place where it is shown.

Use ``printable`` for a page or a terminal, ``in_figure`` for a figure, ``in_spreadsheet`` for a spreadsheet,
``in_file_name`` for a part of a file name, and ``listed`` for a list in a sentence.
"""

import re
from collections.abc import Iterable
from typing import Any

JOINERS = "\u200c\u200d"  # invisible letters inside words of some scripts and inside emoji
FORMULA = tuple("=+-@＝＋－＠")  # a spreadsheet reads a cell that begins with one of these as a formula
LONGEST = 40  # letters of a name in a figure


def printable(text: str) -> str:
    """``text`` on one line, with escapes for control characters, which could move a cursor or end a line."""
    return text if text.isprintable() else "".join(map(_shown, text))


def lines(text: str) -> str:
    """``printable`` for each line of a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(letter: str) -> str:
    if letter.isprintable() or letter in JOINERS:
        return letter
    return " " if letter.isspace() else letter.encode("unicode_escape").decode()


def in_figure(text: Any) -> str:
    """``text`` for matplotlib: not read as mathematics, not hidden from the legend, and not too long."""
    words = printable(str(text))
    words = words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
    return (" " if words.startswith("_") else "") + words.replace("$", r"\$")


def in_spreadsheet(value: Any) -> Any:
    """``value`` for a spreadsheet, with an apostrophe before a text that looks like a formula."""
    if not isinstance(value, str):
        return value
    words = printable(value)
    return f"'{words}" if words.lstrip().startswith(FORMULA) else words


def in_file_name(text: str) -> str:
    """``text`` with hyphens instead of characters that are unsafe in file names or links."""
    return re.sub(r"[^\w.+-]+", "-", text)


def listed(parts: Iterable[str]) -> str:
    """The parts joined by commas, or by semicolons if a part has a comma."""
    parts = list(parts)
    return ("; " if any("," in part for part in parts) else ", ").join(parts)
