"""Text that others chose (labels, names, ids, errors), made harmless for what it is written into.

Whoever writes such text passes it through the function of its form: a page and a terminal through ``printable``,
a figure through ``in_figure``, a spreadsheet through ``in_spreadsheet``.
"""

from typing import Any

JOINERS = "\u200c\u200d"  # within words of some scripts, and within emoji
FORMULA = tuple("=+-@＝＋－＠")  # with these a spreadsheet begins a formula
LONGEST = 40  # letters of a name in a figure


def printable(text: str) -> str:
    """``text`` on one line, what cannot be printed as an escape: no control character moves a cursor or ends a line."""
    return text if text.isprintable() else "".join(map(_shown, text))


def lines(text: str) -> str:
    """The same for text of ours that may have several lines."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(letter: str) -> str:
    if letter.isprintable() or letter in JOINERS:
        return letter
    return " " if letter.isspace() else letter.encode("unicode_escape").decode()


def in_figure(text: Any) -> str:
    """``text`` as matplotlib draws it letter by letter: no mathematics, no hidden legend entry, no endless line."""
    words = printable(str(text))
    words = words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
    return (" " if words.startswith("_") else "") + words.replace("$", r"\$")


def in_spreadsheet(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula: a leading apostrophe says so. Numbers stay numbers."""
    if not isinstance(value, str):
        return value
    words = printable(value)
    return f"'{words}" if words.lstrip().startswith(FORMULA) else words
