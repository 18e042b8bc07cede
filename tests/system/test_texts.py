"""Names that others chose, in everything that is written: letter by letter, and nothing happens."""

import csv
import io

import pandas as pd
import pytest
from reports_helpers import NDCG, RATED, draw, put, write_plan

from recbole_dgrm.cli import display, main
from recbole_dgrm.reports.benchmark_report import report, write_report
from recbole_dgrm.reports.document import Document, Heading, Table, Value, to_latex, to_markdown
from recbole_dgrm.system.texts import in_figure, in_file_name, in_spreadsheet, listed, printable

NASTY = [r"A $\foo$", "[/b]", "=cmd|' /C calc'!A0", "\x1b[31mred\x1b[0m\x07", "_hidden", "a|b\\|c"]
NASTY += ["<script>alert(1)</script>", "`x` [a](javascript:1)", "x" * 300, "多い 😀", "line\nbreak\tand\u202eback"]
NASTY += ["-1+1", "@SUM(A1)", "$", "\ud800"]


def test_what_cannot_be_printed_is_an_escape():
    for text in ("DGRM, t = 5", "نمی\u200cخواهم", "ü 日 😀"):
        assert printable(text) == text
    for text in ("\x1b[31mred", "a\u202eb\u2066c", "a\x00\x9b", "\ud800"):
        assert printable(text) == text.encode("unicode_escape").decode()
    assert printable("a\nb\tc\r") == "a b c "


def test_file_names_and_lists_of_names_are_unambiguous():
    names = {"DGRM + scaled": "DGRM-+-scaled", "a/../b:c|d": "a-..-b-c-d", "多い": "多い", "": ""}
    assert {text: in_file_name(text) for text in names} == names
    assert (listed(["MF", "BMF"]), listed(["MF", "BMF, tuned"])) == ("MF, BMF", "MF; BMF, tuned")


def test_no_text_is_a_formula_and_numbers_and_plain_text_stay():
    for text in ("=1", "+1", "-1", "@x", "\t=1", "\r=1", "  =1", "＝1"):
        assert in_spreadsheet(text).startswith("'")
    for value in ("DGRM", "a=b", "", 0.5, -1, float("nan"), None, True):
        assert in_spreadsheet(value) is value


def test_figures_have_no_mathematics_and_no_hidden_names():
    for shown in map(in_figure, NASTY):
        assert shown.count("$") == shown.count(r"\$")
        assert not shown.startswith("_")
        assert len(shown) <= 80


@pytest.fixture
def folder(tmp_path):
    for index, label in enumerate(NASTY[:-1]):
        vectors = {NDCG: draw("x", 1) * 0.5 + index / 100}
        config = {**RATED, "model": f"M{index}", "dataset": r"set $\x$ [b]"}
        put(tmp_path, label, config=config, vectors=vectors, name=f"run{index}")
    put(tmp_path, "failed", config={**RATED, "dataset": NASTY[0]}, name="failed", status="failed", error=NASTY[3])
    write_plan(tmp_path, baseline=NASTY[0])
    return tmp_path


def test_a_report_of_nasty_names_is_whole_and_harmless(folder, caplog):
    write_report(folder, folder)
    assert "cannot be drawn" not in caplog.text
    for kind in ("md", "html", "tex", "csv"):
        text = (folder / f"report.{kind}").read_text()
        assert not set(text) & set("\x1b\x07\u202e\t\r")
        assert r"\foo" in text or r"\textbackslash{}foo" in text
        assert "<script>alert" not in text or kind in ("csv", "tex")
    rows = list(csv.DictReader(io.StringIO((folder / "report.csv").read_text())))
    models = {row["model"] for row in rows}
    assert {"'=cmd|' /C calc'!A0", "'-1+1", "'@SUM(A1)", "[/b]"} <= models
    assert not any(row[key][:1] in "=+@\t" for row in rows for key in ("model", "baseline", "dataset") if row[key])
    assert any(row["difference"].startswith("-") or float(row["difference"] or 0) > 0 for row in rows)
    assert len(list((folder / "figures").iterdir())) == 2


def test_the_terminal_prints_nasty_names_letter_by_letter(folder, monkeypatch):
    monkeypatch.setattr("sys.stdout", out := io.StringIO())
    console = main.Terminal(markup=False, emoji=False, width=200)
    console.print(display.frame_table(report(folder).shown().reset_index(), "results"))
    rows = pd.DataFrame({"rank": [1], "item": ["\x1b[31m:smile:[/i]"], "score": [0.5]})
    console.print(display.frame_table(rows, "user [/b]\x1b"))
    console.print(f"report: {NASTY[3]}\nof [b]{NASTY[1]}", soft_wrap=True)
    text = out.getvalue()
    assert not set(text) & set("\x1b\x07\u202e")
    for words in (r"A $\foo$", "[/b]", r"\x1b[31mred", r"user [/b]\x1b", r"\x1b[31m:smile:[/i]", "of [b][/b]"):
        assert words in text


def test_errors_and_notes_are_printed_letter_by_letter(folder, capsys):
    assert main.main(["report", str(folder), "--baseline=[/b]\x1b]0;x\x07"]) == 2
    printed = capsys.readouterr()
    assert not set(printed.out + printed.err) & set("\x1b\x07")
    assert "has no finished run" in printed.err


def test_markdown_shows_names_letter_by_letter():
    """GitHub reads dollars as formulas and backquotes as code, and two backslashes and a bar end a cell."""
    table = Table("$t$", ["", "a`b"], [[Value("a\\|b"), Value("[x](y)")]], note="50 $")
    text = to_markdown(Document("A $x$", [Heading("`h`"), "p $q$ <b>", table]))
    for words in (r"# A \$x\$", r"## \`h\`", r"p \$q\$ &lt;b>", r"**\$t\$**", r"|  | a\`b |", r"| a\\\|b | [x]\(y) |"):
        assert words in text
    assert text.endswith("50 \\$\n")


def test_a_title_does_not_leave_the_comment_of_a_tex_file():
    text = to_latex(Document("a\n\\input{/etc/passwd}", [Table("t", ["a"], [[Value("x")]], note="50 % †")]))
    assert text.splitlines()[0].startswith("% a \\input{/etc/passwd}. Needs")
    assert r"\footnotesize 50 \% $^{\dagger}$" in text
