"""Results that ``print``, the prompt of Python and a notebook show as a table."""

from typing import Any

import pandas as pd

from recbole_dgrm.reports import run_table
from recbole_dgrm.reports.document import Table
from recbole_dgrm.system.texts import printable


class Shown:
    """A result whose ``shown()`` is its table; names in it are printed letter by letter."""

    def shown(self) -> pd.DataFrame:
        """The table that is shown; for people, the numbers are rounded."""
        raise NotImplementedError

    def __repr__(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return _harmless(self.shown()).to_string()

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return _harmless(self.shown()).to_html()


class Evaluation(dict[str, Any]):
    """What an evaluation has found, a dict that is shown as the table of a run."""

    @property
    def part(self) -> str:
        """``test`` or ``valid``."""
        return "test" if "test" in self else "valid"

    def __repr__(self) -> str:
        return run_table.in_text(run_table.run_table(self, self.part))

    def _repr_html_(self) -> str:
        return run_table.in_html(run_table.run_table(self, self.part))


def frame_of(table: Table) -> pd.DataFrame:
    """A table of a report with its texts, the names of its rows as the index."""
    rows = [[f"{value.text} {value.mark}".rstrip() for value in row] for row in table.all_rows()]
    names = pd.Index([row[0] for row in rows], name=table.columns[0] or None)
    return pd.DataFrame([row[1:] for row in rows], names, table.columns[1:])


def _harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with control characters of texts and of names spelt out."""
    frame = frame.map(lambda value: printable(value) if isinstance(value, str) else value)
    return frame.rename(index=printable, columns=printable)
