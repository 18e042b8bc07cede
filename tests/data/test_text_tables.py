"""Text tables: no row is shifted, lost or swallowed without a word."""

import bz2
import gzip
import lzma
import zipfile

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_dgrm.data import text_tables
from recbole_dgrm.data.text_tables import TextTable, guess_separator
from recbole_dgrm.errors import DataError

FIELDS = {0: "user", 1: "item", 2: "rating"}
repeatable = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture
def table(tmp_path):
    """``table(text, separator)``: a text as a table."""

    def make(text: str | bytes, separator: str | None = None, name: str = "a.csv", **where) -> TextTable:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return TextTable.open(tmp_path / name, separator, **where)

    return make


def rows(found: pd.DataFrame) -> list[list]:
    return found.astype(object).where(found.notna(), None).to_numpy().tolist()


def swallowing(separator: str, first: str, last: str) -> str:
    """Forty rows, the 5th and the 30th of them with a quotation mark."""
    lines = [f"u{number}{separator}i{number}{separator}{1 + number % 5}" for number in range(40)]
    lines[5], lines[30] = first.replace(",", separator), last.replace(",", separator)
    return "\n".join([separator.join(["user", "item", "rating"]), *lines]) + "\n"


LONE = [('u5,"i5,3', 'u30,"i30,4'), ('u5,"i5,3', 'u30,i30",4'), ('"u5,i5,3', 'u30",i30,4'), ('u5,"i5,3', "u30,i30,4")]


@pytest.mark.parametrize(("first", "last"), LONE)
@pytest.mark.parametrize("separator", ["\t", "::"])
def test_between_tabs_a_lone_quotation_mark_is_a_character(table, separator, first, last):
    found = table(swallowing(separator, first, last)).read(FIELDS)
    assert len(found) == 40
    assert rows(found)[5] == first.split(",")
    assert rows(found)[30] == last.split(",")


@pytest.mark.parametrize(("first", "last"), LONE)
@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_between_commas_a_lone_quotation_mark_is_refused_with_its_line(table, separator, first, last):
    with pytest.raises(DataError, match=r"a\.csv: a quotation mark in line 7 "):
        table(swallowing(separator, first, last)).read(FIELDS, rating=2)


def test_a_lone_quotation_mark_in_a_column_that_nobody_reads_is_refused_too(table):
    text = 'user,item,rating,review\na,b,1,"lone\nc,d,2,x\ne,f,3,lone"\ng,h,4,y\n'
    with pytest.raises(DataError, match="line 2 makes one cell of the lines 2 to 4"):
        table(text).read(FIELDS, rating=2)


def test_text_over_several_lines_is_no_row(table):
    text = 'user,item,rating,review\na,b,1,"good,\nbetter, ""best"",\nend"\nc,d,2,x\n'
    assert rows(table(text).read(FIELDS, rating=2)) == [["a", "b", "1"], ["c", "d", "2"]]
    first = 'review,user,item,rating\n"good\nend",a,b,1\nx,c,d,2\n'
    assert rows(table(first).read({1: "u", 3: "r"}, rating=3)) == [["a", "1"], ["c", "2"]]


def test_a_column_of_a_tab_separated_file_whose_cells_all_are_quoted_loses_the_quotes(table):
    found = table('"user"\t"item"\trating\n"a"\t"b ""c"""\t1\n"d"\t"e\t2\n').read(FIELDS)
    assert rows(found) == [["a", '"b ""c"""', "1"], ["d", '"e', "2"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("u,i,r\n0,a,b,1\n1,a,c,2\n", "line 2 has 4 fields, but line 1 has 3: '0 | a | b | 1'; .* R writes"),
        ("u,i,r\na,b,2\na,c,2,5\n", "line 3 has 4 fields, .*decimal comma"),
        ("u,i,r\na,b\n", "line 2 has 2 fields, but line 1 has 3"),
        ("u,i,r\n\na,b,1\n,\n", "line 4 has 2 fields"),
        ('u,i,r\n"a",b,1,2,3\n', "line 2 has 5 fields"),
        ('u,i,r\n"a"x,b,1\n', "a quotation mark in line 2 does not quote a cell"),
        ("1 2 3\n1 2 3 4\n", "line 2 has 4 fields"),
    ],
)
def test_rows_with_another_number_of_fields_are_refused(table, text, said):
    with pytest.raises(DataError, match=said.replace("|", r"\|")):
        table(text).read(FIELDS)


@pytest.mark.parametrize("text", ["u,i,r\na,b,1,,\nc,d,2\n", "u,i,r,,\na,b,1\nc,d,2,\n", 'u,i,r\n"a",b,1,\nc,d,2\n'])
def test_empty_fields_at_the_end_are_no_harm(table, text):
    assert rows(table(text).read(FIELDS)) == [["a", "b", "1"], ["c", "d", "2"]]


def test_columns_between_which_there_are_others(table):
    text = "u,a,i,b,c\nx,1,y,2,3\nz,4,w,5,6\n"
    assert rows(table(text).read({0: "u", 2: "i"})) == [["x", "y"], ["z", "w"]]
    assert rows(table(text).read({2: "i"})) == [["y"], ["w"]]


def test_the_check_goes_over_blocks(table, monkeypatch):
    monkeypatch.setattr(text_tables, "BLOCK", 16)
    text = "u,i,r\n" + "".join(f"user{number},i,{number}\n\n" for number in range(50))
    found = table(text).read(FIELDS)
    assert found.index.tolist() == list(range(2, 102, 2))
    with pytest.raises(DataError, match="line 100 has 4 fields"):
        table(text.replace("user49,", "user49,,")).read(FIELDS)


def test_ids_are_read_byte_for_byte_and_numbers_exactly(table):
    found = table(" u ,i,r\n a , b,0.1\n007,1e3,0.30000000000000004\n").read(FIELDS, numbers=frozenset(["rating"]))
    assert rows(found) == [[" a ", " b", 0.1], ["007", "1e3", 0.30000000000000004]]
    with pytest.raises(ValueError, match="float"):
        table("u,i,r\na,b,1_0\n").read(FIELDS, numbers=frozenset(["rating"]))


@repeatable
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_come_back_as_they_were_written(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("numbers") / "a.tsv"
    path.write_text("".join(f"{value!r}\tx\n" for value in values))
    found = TextTable.open(path).read({0: "number"}, has_header=False, numbers=frozenset(["number"]))
    assert found["number"].tolist() == values


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a,b,c\n1,2,3\n", ","),
        ("a\tb,c,d,e\tf\n1\tx\t3\n", "\t"),
        ("a;b;1,5\n", ";"),
        ("a|b|c\n", "|"),
        ("1::2::3\n4::5::6\n", "::"),
        ("1 2  3\n", r"\s+"),
        ("user;item;rating\n1;2,5;3\n1;2;3\n", ";"),
    ],
)
def test_the_separator_is_that_which_all_lines_have(text, separator):
    assert guess_separator(text.encode()) == separator


def test_blanks_and_longer_separators(table):
    expected = [["1", "2", "3"], ["4", "5", "6"]]
    assert rows(table(" 1 2   3 \n4  5 6\n").read(FIELDS, has_header=False)) == expected
    assert rows(table("1<>2<>3\n4<>5<>6", "<>").read(FIELDS, has_header=False)) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_encodings_that_are_said(table, encoding):
    text = "üser,item,rating\nzoë,b,1\n"
    found = table(text.encode(encoding), encoding="utf-8" if encoding == "utf-8-sig" else encoding)
    assert found.first[0] == "üser"
    assert rows(found.read(FIELDS)) == [["zoë", "b", "1"]]


@pytest.mark.parametrize(
    ("data", "encoding", "said"),
    [
        ("ü,1\n".encode("latin-1"), "utf-8", "byte 0xfc.* say which encoding it has: --encoding=latin-1"),
        (b"a,1\n", "klingon", "unknown encoding: klingon"),
        ("a,1\n".encode("utf-16-le"), "utf-8", "NUL bytes; say --encoding=utf-16"),
        (b"\n \n", "utf-8", "is empty"),
    ],
)
def test_bytes_that_are_no_text_say_what_to_do(table, data, encoding, said):
    with pytest.raises(DataError, match=said):
        table(data, encoding=encoding)


def test_compressed_files(tmp_path):
    text = b"u,i,r\r\na,b,1\rc,d,2"
    for ending, opener in [("gz", gzip.open), ("bz2", bz2.open), ("xz", lzma.open)]:
        with opener(tmp_path / f"a.csv.{ending}", "wb") as file:
            file.write(text)
        found = TextTable.open(tmp_path / f"a.csv.{ending}").read(FIELDS)
        assert rows(found) == [["a", "b", "1"], ["c", "d", "2"]]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", text)
    assert len(TextTable.open(tmp_path / "a.zip").read(FIELDS)) == 2
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("b.csv", text)
    with pytest.raises(DataError, match="holds 2 files; unpack it"):
        TextTable.open(tmp_path / "a.zip")


@repeatable
@given(st.text(st.sampled_from('ab,"\n\t1'), min_size=1, max_size=40))
def test_arbitrary_lines_between_tabs_are_read_one_by_one_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text(text)
    try:
        found = TextTable.open(path, "\t").read({0: "first"}, has_header=False)
    except DataError:
        return
    lines = {number: line.split("\t") for number, line in enumerate(text.split("\n"), 1) if line}
    assert found.index.tolist() == list(lines)
    for number, cell in found["first"].items():
        assert (cell if isinstance(cell, str) else "") in (lines[number][0], lines[number][0][1:-1].replace('""', '"'))
