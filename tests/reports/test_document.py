"""Documents in Markdown, LaTeX and HTML: what is written, what is escaped, and that a page needs nothing else."""

import base64
import errno
import math
import re
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_dgrm.errors import OutputError
from recbole_dgrm.reports.document import (
    Document,
    Figure,
    Heading,
    Table,
    Value,
    to_html,
    to_latex,
    to_markdown,
    write_document,
)

SCRIPT = "<script>alert(1)</script>"
PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg"><text>\xc3\xbc &amp; more</text></svg>'


def small_table(**changed) -> Table:
    rows = [
        [Value("DGRM"), Value("0.750 ± 0.010", 0.75, "best", "▲"), Value("12", 12)],
        [Value("MF"), Value("0.500", 0.5, "level"), Value("–")],
        [Value("NCF"), Value("0.250", 0.25, mark="▼"), Value("7", 7)],
    ]
    given = {"title": "Results", "columns": ["", "NDCG@5 ↑", "seconds"], "rows": rows}
    return Table(**{**given, **changed})


QUIET = [[Value("random | order"), Value("0.125", 0.125), Value("")]]


def everything() -> list:
    figure = Figure("figures/a", "Accuracy", "What it shows.")
    one = [Heading("One"), "A paragraph.", small_table(quiet=QUIET, note="A note."), figure]
    return [*one, Heading("Two"), small_table(title="", rows=[[Value("[8]*"), Value("a\n<b>"), Value("")]]), "The end."]


def lines_with(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


MARKDOWN = """# All of it

## One

A paragraph.

**Results**

|  | NDCG@5 ↑ | seconds |
|---|---:|---:|
| random \\| order | 0.125 |  |
| DGRM | **0.750 ± 0.010** ▲ | 12 |
| MF | <u>0.500</u> | – |
| NCF | 0.250 ▼ | 7 |

A note.

![Accuracy](figures/a.png)

What it shows.

## Two

|  | NDCG@5 ↑ | seconds |
|---|---:|---:|
| [8]* | a &lt;b> |  |

The end.
"""


def test_markdown_has_the_blocks_in_order_with_marks_and_escapes():
    assert to_markdown(Document("All of it", everything())) == MARKDOWN


def test_a_frame_is_a_table_of_numbers_texts_and_values():
    frame = pd.DataFrame(
        {"n": [1200, 3, None], "x": [0.5, Value("0.2 ± 0.1", 0.2, mark="▲"), "a"]}, ["one", "two", "three"]
    )
    table = Table.of_frame("Frame", frame, {"n": ",.0f", "x": ".2f"}, quiet=1)
    assert table.columns == ["", "n", "x"]
    assert table.quiet == [[Value("one"), Value("1,200", 1200), Value("0.50", 0.5)]]
    assert table.rows == [
        [Value("two"), Value("3", 3), Value("0.2 ± 0.1", 0.2, mark="▲")],
        [Value("three"), Value("–"), Value("a")],
    ]


def test_pages_can_include_the_first_table_of_a_mark_and_its_note():
    tables = [Table.of_frame("T", pd.DataFrame({"x": [n]}), note="N.", mark="2 Data/é-Rated_5") for n in (1, 2)]
    document = Document("t", tables)
    lines = ["**T**", "<!-- --8<-- [start:data--rated_5] -->", "|  | x |\n|---|---:|\n| 0 | 1 |", "N."]
    assert "\n\n".join([*lines, "<!-- --8<-- [end:data--rated_5] -->", "**T**", "|  | x |"]) in to_markdown(document)
    assert to_markdown(document).count("[start:") == 1
    assert "--8<--" not in to_latex(document)


def test_a_document_is_written_with_its_figures_or_a_sentence_where_one_cannot_be_drawn(tmp_path, caplog):
    def draw(path):
        path.parent.mkdir()
        path.with_name(f"{path.name}.svg").write_bytes(PICTURE)

    def broken(path):
        raise ZeroDivisionError("no room")

    def full(path):
        raise OSError(errno.ENOSPC, "full", str(path))

    blocks = [Figure("figures/a", "Accuracy", "c", draw), Figure("figures/b", "Bent", "c", broken)]
    page = write_document(Document("t", blocks), tmp_path, "report")
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.html", "figures"}
    assert base64.b64encode(PICTURE).decode() in page.read_text()
    assert (
        "The figure Bent cannot be drawn (ZeroDivisionError: no room); the tables have its numbers." in page.read_text()
    )
    assert "cannot be drawn" in caplog.text
    with pytest.raises(OutputError, match="figures"):
        write_document(Document("t", [Figure("figures/c", "C", "c", full)]), tmp_path, "report")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.text("ab| *<&", max_size=6).map(Value), min_size=3, max_size=3), max_size=4))
def test_every_line_of_a_markdown_table_has_as_many_cells(rows):
    lines = lines_with(to_markdown(Document("t", [small_table(rows=rows)])), "|")
    assert len(lines) == 2 + len(rows)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}


def test_latex_escapes_special_characters():
    special = {"R&D": r"R\&D", "95 %": r"95 \%", "top_k": r"top\_k", "#1": r"\#1", "$5": r"\$5", "{a}": r"\{a\}"}
    special |= {"a~b": r"a\textasciitilde{}b", "x^2": r"x\textasciicircum{}2", r"a\b": r"a\textbackslash{}b"}
    special |= {"NDCG@5 ↑": r"NDCG@5 $\uparrow$", "RMSE ↓": r"RMSE $\downarrow$", "0.5 ± 0.1": r"0.5 $\pm$ 0.1"}
    special |= {"−1": "$-$1", "2–3": "2--3", "[8, 4]* < ▲": r"{[}8, 4]{*} $<$ $^{+}$"}
    special |= {r"\&%_#~{": r"\textbackslash{}\&\%\_\#\textasciitilde{}\{"}
    rows = [[Value("x"), Value(text), Value("y")] for text in special]
    lines = lines_with(to_latex(Document("t", [small_table(rows=rows)])), "x & ")
    assert lines == [rf"x & {escaped} & y \\" for escaped in special.values()]


@pytest.mark.parametrize("quiet", [[], QUIET])
def test_latex_has_the_rules_of_booktabs(quiet):
    lines = to_latex(Document("t", [small_table(quiet=quiet)])).splitlines()
    body = lines[lines.index(r"\toprule") : lines.index(r"\bottomrule") + 1]
    between = [r"random $|$ order & 0.125 &  \\", r"\midrule"] if quiet else []
    head = [r"\toprule", r" & NDCG@5 $\uparrow$ & seconds \\", r"\midrule"]
    first, second = r"DGRM & \textbf{0.750 $\pm$ 0.010}$^{+}$ & 12 \\", r"MF & \underline{0.500} & -- \\"
    assert body == [*head, *between, first, second, r"NCF & 0.250$^{-}$ & 7 \\", r"\bottomrule"]


@pytest.fixture
def page(tmp_path):
    """``page(*blocks)``: the page of a document as XML, and its text; fails where a tag is not closed in turn."""

    def make(*blocks, title: str = "t") -> tuple[Element, str]:
        (tmp_path / "figures").mkdir(exist_ok=True)
        (tmp_path / "figures" / "a.svg").write_bytes(PICTURE)
        text = to_html(Document(title, list(blocks)), tmp_path)
        xml = re.sub(r"<(script|style)>(.*?)</\1>", r"<\1><![CDATA[\2]]></\1>", text.split("\n", 1)[1], flags=re.S)
        return fromstring(re.sub(r"<((?:meta|img|br|link|input|hr)\b[^>]*)>", r"<\1/>", xml)), text

    return make


def words_in(page: Element, tag: str) -> list[str]:
    return ["".join(element.itertext()) for element in page.iter(tag)]


def test_html_holds_all_and_needs_nothing_but_itself(page):
    parsed, text = page(*everything())
    assert text.startswith("<!doctype html>")
    assert not [*parsed.iter("link"), *(script for script in parsed.iter("script") if script.attrib)]
    attributes = [pair for element in parsed.iter() for pair in element.items()]
    links = [value for key, value in attributes if key in ("src", "href", "srcset", "data")]
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    assert not re.search(r"https?://|url\(|@import|fetch\(|import\(", text)
    (image,) = parsed.iter("img")
    picture = f"data:image/svg+xml;base64,{base64.b64encode(PICTURE).decode()}"
    assert image.attrib == {"src": picture, "alt": "Accuracy"}
    assert words_in(parsed, "figcaption") == ["What it shows."]
    assert words_in(parsed, "caption") == ["Results", ""]
    assert words_in(parsed, "th") == ["", "NDCG@5 ↑", "seconds"] * 2
    bodies = [*parsed.iter("tbody")]
    assert [(body.get("class"), len(body)) for body in bodies] == [("quiet", 1), ("models", 3), ("models", 1)]
    rows = [["DGRM", "0.750 ± 0.010 ▲", "12"], ["MF", "0.500", "–"], ["NCF", "0.250 ▼", "7"]]
    assert [words_in(row, "td") for row in bodies[1]] == rows
    assert [[cell.get("class") for cell in row] for row in bodies[1]] == [
        ["", "best", ""],
        ["", "level", ""],
        [""] * 3,
    ]


def test_html_escapes_everything(page):
    """Wherever words can stand; the one script is the page's own, and no attribute is broken out of."""
    words = f"{SCRIPT} \"quoted\" 'single' & <b>"
    value = Value(words, 1.0, mark=words)
    table = Table(words, ["", words], [[value, value]], [[value, value]], words)
    parsed, text = page(Heading(words), Heading("x"), words, table, Figure("figures/a", words, words), title=words)
    assert "alert(1)" in text
    assert not [tag for tag in (SCRIPT, "<b>") if tag in text]
    assert ["alert" in script for script in words_in(parsed, "script")] == [False]
    assert [words_in(parsed, tag)[0] for tag in ("title", "h1", "caption", "figcaption", "a")] == [words] * 5
    found = [words_in(parsed, tag) for tag in ("h2", "p", "th", "td")]
    assert found == [[words, "x"], [words, words], ["", words], [f"{words} {words}"] * 4]
    assert (parsed.find(".//img").get("alt"), parsed.find(".//div").get("aria-label")) == (words, words)
    assert not any(name.startswith("on") for element in parsed.iter() for name in element.attrib)


def test_html_cells_have_what_the_column_is_sorted_by_and_long_words_wrap(page):
    row = [
        Value("zero", 0),
        Value("negative", -2.5),
        Value("x" * 40, np.float64(0.1)),
        Value("x" * 41, math.nan, "best"),
    ]
    cells = [*page(Table("t", list("abcd"), [row]))[0].iter("td")]
    assert [float(cell.get("data-order", "nan")) for cell in cells] == pytest.approx(
        [0, -2.5, 0.1, math.nan], nan_ok=True
    )
    assert [cell.get("class").split() for cell in cells] == [[], [], [], ["best", "words"]]


def test_html_headings_are_linked_from_the_top(page):
    parsed, text = page("Before.", Heading("One"), small_table(), Heading("Two"), Heading("One"))
    targets = [heading.get("id") for heading in parsed.iter("h2")]
    assert len(set(targets)) == 3
    assert [link.get("href") for link in parsed.iter("a")] == [f"#{target}" for target in targets]
    assert words_in(parsed, "a") == words_in(parsed, "h2") == ["One", "Two", "One"]
    assert text.index("<nav") < text.index("Before.")
