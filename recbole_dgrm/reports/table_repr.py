"""Results that ``print``, the Python prompt and notebooks show as a table."""

from typing import Any

import pandas as pd

from recbole_dgrm.reports import run_table
from recbole_dgrm.system.texts import printable


class TableRepr:
    """A result that is shown as the table ``shown()``; names in it are not interpreted as markup."""

    def shown(self) -> pd.DataFrame:
        """The table that is shown; its numbers are rounded for reading."""
        raise NotImplementedError

    def __repr__(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return _without_control_characters(self.shown()).to_string()

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return _without_control_characters(self.shown()).to_html()


class Evaluation(dict[str, Any]):
    """The result of an evaluation: a dict that is shown as a table."""

    @property
    def part(self) -> str:
        """``test`` or ``valid``."""
        return "test" if "test" in self else "valid"

    def __repr__(self) -> str:
        return run_table.in_text(run_table.run_table(self, self.part))

    def _repr_html_(self) -> str:
        return run_table.in_html(run_table.run_table(self, self.part))


def _without_control_characters(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.map(lambda value: printable(value) if isinstance(value, str) else value)
    return frame.rename(index=printable, columns=printable)
