"""A document of paragraphs, tables and figures, and its Markdown, HTML and LaTeX forms.

The HTML form is one file: style, script and figures are inside, nothing is fetched.
"""

import base64
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from recbole_dgrm.system.texts import printable

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
    """The content of one place in a table.

    Attributes:
        order: the number that the column is sorted by; NaN sorts last.
        emphasis: ``best`` (bold), ``second`` (underlined) or nothing.
        mark: a sign that follows the text.
    """

    text: str
    order: float = math.nan
    emphasis: str = ""
    mark: str = ""


@dataclass
class Table:
    """A table; the first value of each row is its name. ``quiet`` rows are shown in grey and stay on top."""

    title: str
    columns: list[str]
    rows: list[list[Value]]
    quiet: list[list[Value]] = field(default_factory=list)
    note: str = ""

    def all_rows(self) -> Iterator[list[Value]]:
        """All rows, the quiet ones first."""
        yield from self.quiet
        yield from self.rows


@dataclass(frozen=True)
class Figure:
    """A picture; its files ``<file>.png`` and ``<file>.svg`` are beside the document."""

    file: str
    title: str
    caption: str


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


def to_markdown(document: Document) -> str:
    """The document in GitHub's Markdown; figures are linked."""
    lines = [f"# {_words(document.title)}", ""]
    for block in document.blocks:
        if isinstance(block, Heading):
            lines += [f"## {_words(block.text)}", ""]
        elif isinstance(block, Table):
            lines += _markdown_table(block)
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


def _markdown_table(table: Table) -> list[str]:
    lines = [f"**{_words(table.title)}**", ""] if table.title else []
    lines.append("| " + " | ".join(_pipes(name) for name in table.columns) + " |")
    lines.append("|---|" + "---:|" * (len(table.columns) - 1))
    lines += ["| " + " | ".join(_markdown_value(value) for value in row) + " |" for row in table.all_rows()]
    return [*lines, "", *([_words(table.note), ""] if table.note else [])]


def _markdown_value(value: Value) -> str:
    text = _pipes(value.text)
    text = {"best": f"**{text}**", "second": f"<u>{text}</u>"}.get(value.emphasis, text)
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
        text = {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}"}.get(cell.emphasis, text)
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
