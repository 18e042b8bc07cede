"""A document of paragraphs, tables and figures, and its Markdown, HTML and LaTeX forms.

A table is made of a DataFrame; a figure carries the function that draws it. The HTML form is one file: style, script
and figures are inside, nothing is fetched.
"""

import base64
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from recbole_dgrm.errors import OutputError, explained
from recbole_dgrm.system.files import make_folder, write_text
from recbole_dgrm.system.texts import in_spreadsheet, printable

LOG = logging.getLogger(__name__)
MISSING = "–"

MARKDOWN = re.compile(r"\\(?=[!-/:-@\[-`{-~]|$)|[$`]|(?<=\])\(")  # what would be markup, formulas of GitHub included
LATEX_WORDS = r"""
    &  \&   %  \%   $  \$   #  \#   _  \_   {  \{   }  \}   [  {[}   *  {*}   <  $<$   >  $>$   |  $|$
    ~  \textasciitilde{}   ^  \textasciicircum{}   `  \textasciigrave{}   \  \textbackslash{}   …  \ldots{}   –  --
    ↑  $\uparrow$   ↓  $\downarrow$   ▲  $^{+}$   ▼  $^{-}$   †  $^{\dagger}$   ‡  $^{\ddagger}$   ‖  $\|$
    −  $-$   ±  $\pm$   ·  $\cdot$   ×  $\times$   ≤  $\leq$   ≥  $\geq$   α  $\alpha$   ∞  $\infty$
"""  # a character and how LaTeX writes it, in turn
LATEX = str.maketrans(dict(zip(LATEX_WORDS.split()[::2], LATEX_WORDS.split()[1::2], strict=True)))


@dataclass(frozen=True)
class Value:
    """The content of one cell of a table.

    Attributes:
        order: the number that the column is sorted by; NaN sorts last.
        emphasis: ``best`` (bold), ``level`` (underlined) or nothing.
        mark: a sign that follows the text.
    """

    text: str
    order: float = math.nan
    emphasis: str = ""
    mark: str = ""

    @classmethod
    def of(cls, content: Any, form: str = "") -> "Value":
        """A number written by a format specification, a text as it is, a dash where there is no finite number."""
        if isinstance(content, Value):
            return content
        if isinstance(content, str):
            return cls(content)
        if content is None or not math.isfinite(content):
            return cls(MISSING)
        return cls(format(content, form), content)


@dataclass
class Table:
    """A table; the first value of each row is its name. ``quiet`` rows are shown in grey and stay on top.

    Attributes:
        mark: a name by which pages can include the table and its note from the Markdown form; perhaps empty.
    """

    title: str
    columns: list[str]
    rows: list[list[Value]]
    quiet: list[list[Value]] = field(default_factory=list)
    note: str = ""
    mark: str = ""

    @classmethod
    def of_frame(
        cls,
        title: str,
        frame: pd.DataFrame,
        forms: Mapping[str, str] | str = "",
        note: str = "",
        quiet: int = 0,
        mark: str = "",
    ) -> "Table":
        """The table of a frame, whose index names the rows and whose columns are the headings.

        Args:
            frame: of numbers, texts and ``Value``.
            forms: the format specification of each column, or that of all.
            quiet: how many of the first rows are quiet.
            mark: what the table is included by; all but letters, digits and ``_`` becomes a hyphen.
        """
        spec = dict.fromkeys(frame.columns, forms) if isinstance(forms, str) else forms
        rows = [
            [Value(str(name)), *(Value.of(content, spec.get(column, "")) for column, content in line.items())]
            for name, line in zip(frame.index, frame.astype(object).to_dict("records"), strict=True)
        ]
        mark = re.sub(r"[^-_0-9a-z]+", "-", mark.lower()).lstrip("-_0123456789")
        return cls(title, [frame.index.name or "", *map(str, frame.columns)], rows[quiet:], rows[:quiet], note, mark)

    def all_rows(self) -> Iterator[list[Value]]:
        """All rows, the quiet ones first."""
        yield from self.quiet
        yield from self.rows


@dataclass(frozen=True)
class Figure:
    """A picture; the document is in the folder in which ``<file>.png`` and ``<file>.svg`` are.

    Attributes:
        draw: writes the two files; it gets their path without the suffix.
    """

    file: str
    title: str
    caption: str
    draw: Callable[[Path], object] | None = None


@dataclass(frozen=True)
class Heading:
    """The heading of a section."""

    text: str


@dataclass
class Document:
    """A title and blocks in order: headings, paragraphs (strings), tables and figures."""

    title: str
    blocks: list[Heading | str | Table | Figure] = field(default_factory=list)

    def tables(self) -> list[Table]:
        """The tables of the document."""
        return [block for block in self.blocks if isinstance(block, Table)]


def write_document(document: Document, folder: Path, name: str, kinds: Iterable[str] = ("md", "html")) -> Path:
    """Draw the figures of a document and write its forms.

    Args:
        kinds: ``md``, ``html`` and ``tex``.

    Returns:
        The path of the page, ``<folder>/<name>.html``.

    Raises:
        OutputError: a file cannot be written.
    """
    make_folder(folder)
    blocks = [_drawn(block, folder) if isinstance(block, Figure) else block for block in document.blocks]
    complete = Document(document.title, blocks)
    forms: dict[str, Callable[[Document], str]]
    forms = {"md": to_markdown, "tex": to_latex, "html": partial(to_html, folder=folder)}
    for kind in kinds:
        write_text(folder / f"{name}.{kind}", forms[kind](complete))
    return folder / f"{name}.html"


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV without its index, unrounded; texts that look like formulas to a spreadsheet are marked."""
    columns = {name: pd.Series(map(in_spreadsheet, column), dtype=object) for name, column in frame.items()}
    return pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")


def _drawn(figure: Figure, folder: Path) -> Figure | str:
    """Write the files of a figure; returns it, or a sentence about why it is missing."""
    try:
        with explained():
            if figure.draw:
                figure.draw(folder / figure.file)
    except OutputError:
        raise  # a full disk also stops the report itself
    except Exception as error:  # a report is useful without one of its figures
        LOG.warning("the figure %s cannot be drawn (%s: %s)", figure.title, type(error).__name__, error)
        return (
            f"The figure {figure.title} cannot be drawn ({type(error).__name__}: {error}); the tables have its numbers."
        )
    return figure


def to_markdown(document: Document) -> str:
    """The document in GitHub's Markdown; figures are linked, and the first table of each mark can be included."""
    lines, marked = [f"# {_words(document.title)}", ""], {""}
    for block in document.blocks:
        if isinstance(block, Heading):
            lines += [f"## {_words(block.text)}", ""]
        elif isinstance(block, Table):
            mark = "" if block.mark in marked else block.mark
            lines += _markdown_table(block, mark)
            marked.add(mark)
        elif isinstance(block, Figure):
            lines += [f"![{_words(block.title)}]({block.file}.png)", "", _words(block.caption), ""]
        else:
            lines += [_words(block), ""]
    return "\n".join(lines)


def to_latex(document: Document) -> str:
    """The tables in LaTeX, for a paper that uses ``booktabs``."""
    head = f"% {printable(document.title)}. Needs \\usepackage{{booktabs}}.\n"
    return head + "\n".join(_latex_table(table) for table in document.tables())


def to_html(document: Document, folder: Path) -> str:
    """The document as one self-contained page with sortable tables; pictures are read from ``folder``."""
    environment = Environment(
        loader=PackageLoader("recbole_dgrm", "reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters["embedded"] = lambda figure: _embedded(folder / f"{figure.file}.svg")
    environment.tests |= {
        kind.__name__.lower(): lambda block, kind=kind: isinstance(block, kind) for kind in (Heading, Table, Figure)
    }
    return environment.get_template("document.html").render(document=document)


def _markdown_table(table: Table, mark: str) -> list[str]:
    lines = [f"**{_words(table.title)}**", ""] if table.title else []
    lines += [f"<!-- --8<-- [start:{mark}] -->", ""] if mark else []
    lines.append("| " + " | ".join(_pipes(name) for name in table.columns) + " |")
    lines.append("|---|" + "---:|" * (len(table.columns) - 1))
    lines += ["| " + " | ".join(_markdown_value(value) for value in row) + " |" for row in table.all_rows()]
    lines += ["", *([_words(table.note), ""] if table.note else [])]
    return [*lines, *([f"<!-- --8<-- [end:{mark}] -->", ""] if mark else [])]


def _markdown_value(value: Value) -> str:
    text = _pipes(value.text)
    text = {"best": f"**{text}**", "level": f"<u>{text}</u>"}.get(value.emphasis, text)
    return f"{text} {value.mark}".rstrip()


def _pipes(text: str) -> str:
    return _words(text).replace("|", "\\|")


def _words(text: str) -> str:
    """Markdown that shows ``text`` letter by letter on one line."""
    return " ".join(MARKDOWN.sub(r"\\\g<0>", printable(text)).replace("<", "&lt;").split())


def _latex_table(table: Table) -> str:
    def words(text: str) -> str:
        return printable(text).translate(LATEX)

    def value(cell: Value) -> str:
        text = words(cell.text)
        text = {"best": rf"\textbf{{{text}}}", "level": rf"\underline{{{text}}}"}.get(cell.emphasis, text)
        return text + words(cell.mark)

    def body(rows: Iterable[list[Value]]) -> list[str]:
        return [" & ".join(value(cell) for cell in row) + r" \\" for row in rows]

    lines = [r"\begin{table}", r"\centering", rf"\caption{{{words(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule"]
    lines += [" & ".join(words(name) for name in table.columns) + r" \\", r"\midrule"]
    lines += body(table.quiet) + ([r"\midrule"] if table.quiet else []) + body(table.rows)
    note = [rf"\par\smallskip\footnotesize {words(table.note)}"] if table.note else []
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *note, r"\end{table}", ""])


def _embedded(path: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
