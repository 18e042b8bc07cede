"""Text tables: no row is shifted, lost or swallowed without a word."""

import bz2
import gzip
import lzma
import re
import warnings
import zipfile

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_dgrm.data import tables
from recbole_dgrm.data.ratings import read_ratings
from recbole_dgrm.data.tables import read_file
from recbole_dgrm.data.text_tables import Reading, guess_separator, read_text
from recbole_dgrm.errors import DataError

FIELDS = {0: "user", 1: "item", 2: "rating"}
repeatable = settings(max_examples=60, deadline=None, derandomize=True)


def read(path, separator=None, fields=FIELDS, names=(), numbers=(), encoding="utf-8"):
    """The columns at these places of a file."""
    choose = lambda found: {field: found[place] for place, field in fields.items()}  # noqa: E731
    return read_file(path, Reading({}, separator, encoding, names), choose, numbers)


@pytest.fixture
def table(tmp_path):
    """``table(text, separator)``: a text as a table."""

    def make(text: str | bytes, separator: str | None = None, **options) -> pd.DataFrame:
        (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(tmp_path / "a.csv", separator, **options)

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
def test_between_tabs_a_lone_quotation_mark_is_a_character(table, first, last):
    for separator in ("\t", "::"):
        found = table(swallowing(separator, first, last))
        assert len(found) == 40
        assert [rows(found)[5], rows(found)[30]] == [first.split(","), last.split(",")]


@pytest.mark.parametrize(("first", "last"), LONE)
def test_between_commas_a_lone_quotation_mark_is_refused_with_its_line(table, first, last):
    for separator in (",", ";", "|"):
        with pytest.raises(DataError, match=r"a\.csv: a quotation mark in line 7 "):
            table(swallowing(separator, first, last))


def test_a_lone_quotation_mark_in_a_column_that_nobody_reads_is_refused_too(table):
    text = 'user,item,rating,review\na,b,1,"lone\nc,d,2,x\ne,f,3,lone"\ng,h,4,y\n'
    with pytest.raises(DataError, match="line 2 makes one cell of several lines, and line 3 among them is a row"):
        table(text)


def test_text_over_several_lines_is_no_row(table):
    text = 'user,item,rating,review\na,b,1,"good,\nbetter, ""best"",\nend"\nc,d,2,x\n'
    assert rows(table(text)) == [["a", "b", "1"], ["c", "d", "2"]]
    first = 'review,user,item,rating\n"good\nend",a,b,1\nx,c,d,2\n'
    assert rows(table(first, fields={1: "u", 3: "rating"})) == [["a", "1"], ["c", "2"]]


def test_a_column_of_a_tab_separated_file_whose_cells_all_are_quoted_loses_the_quotes(table):
    found = table('"user"\t"item"\trating\n"a"\t"b ""c"""\t1\n"d"\t"e\t2\n')
    assert rows(found) == [["a", '"b ""c"""', "1"], ["d", '"e', "2"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("u,i,r\n0,a,b,1\n1,a,c,2\n", "line 2 has 4 fields, but line 1 has 3: '0 | a | b | 1'; .* row numbers of R"),
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
        table(text)


@pytest.mark.parametrize("text", ["u,i,r\na,b,1,,\nc,d,2\n", "u,i,r,,\na,b,1\nc,d,2,\n", 'u,i,r\n"a",b,1,\nc,d,2\n'])
def test_empty_fields_at_the_end_are_no_harm(table, text):
    assert rows(table(text)) == [["a", "b", "1"], ["c", "d", "2"]]


def test_blank_lines_count_as_lines(table):
    text = "u,i,r\n" + "".join(f"user{number},i,{number}\n\n" for number in range(50))
    assert table(text).index.tolist() == list(range(2, 102, 2))
    with pytest.raises(DataError, match="line 100 has 4 fields"):
        table(text.replace("user49,", "user49,,"))


def test_ids_are_read_byte_for_byte_and_numbers_exactly(table):
    found = table(" u ,i,r\n a , b,0.1\n007,1e3,0.30000000000000004\n", numbers=["rating"])
    assert rows(found) == [[" a ", " b", 0.1], ["007", "1e3", 0.30000000000000004]]
    assert rows(table("u,i,r\na,b,1_0\n", numbers=["rating"])) == [["a", "b", "1_0"]]  # no number: a text


@repeatable
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_come_back_as_they_were_written(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("numbers") / "a.tsv"
    path.write_text("".join(f"{value!r}\tx\n" for value in values))
    found = read(path, fields={0: "number"}, names=("number", "x"), numbers=["number"])
    assert found["number"].tolist() == values


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a,b,c\n1,2,3\n", ","),
        ("a\tb,c,d,e\tf\n1\tx\t3\n", "\t"),
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
    assert rows(table(" 1 2   3 \n4  5 6\n", names=("a", "b", "c"))) == expected
    assert rows(table("1<>2<>3\n4<>5<>6", "<>", names=("a", "b", "c"))) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_encodings_that_are_said(table, encoding):
    text = "üser,item,rating\nzoë,b,1\n"
    found = table(text.encode(encoding), encoding="utf-8" if encoding == "utf-8-sig" else encoding)
    assert rows(found) == [["zoë", "b", "1"]]


@pytest.mark.parametrize(
    ("data", "encoding", "said"),
    [
        ("ü,1\n".encode("latin-1"), "utf-8", "byte 0xfc.* name its encoding: --encoding=latin-1"),
        (b"a,1\n", "klingon", "unknown encoding: klingon"),
        ("a,1\n".encode("utf-16-le"), "utf-8", "NUL bytes, as UTF-16 does.*--encoding=.*utf-16"),
        (b"\n \n", "utf-8", "is empty"),
    ],
)
def test_bytes_that_are_no_text_say_what_to_do(table, data, encoding, said):
    with pytest.raises(DataError, match=said):
        table(data, encoding=encoding)


def test_an_archive_has_one_member(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "u,i,r\r\na,b,1\rc,d,2")
    assert rows(read(tmp_path / "a.zip")) == [["a", "b", "1"], ["c", "d", "2"]]
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("b.csv", "")
    with pytest.raises(DataError, match="has 2 files; unpack it"):
        read(tmp_path / "a.zip")


@pytest.mark.parametrize("ending", ["csv.gz", "csv.bz2", "jsonl.xz", "csv.zip"])
def test_a_file_that_unpacks_to_far_more_than_ratings_do_is_refused_before_it_fills_the_memory(
    tmp_path, monkeypatch, ending
):
    monkeypatch.setattr(tables, "FREE", 1000)
    path, text = tmp_path / f"a.{ending}", b"u,i,r\n" + b"1,1,5\n" * 100_000
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.csv", text)
    else:
        path.write_bytes({".gz": gzip, ".bz2": bz2, ".xz": lzma}[path.suffix].compress(text))
    with pytest.raises(DataError, match=r"unpacks to more than [\d,]+ bytes, as ratings never do"):
        read(path)
    monkeypatch.setattr(tables, "RATIO", 100_000)
    assert ending == "jsonl.xz" or len(read(path)) == 100_000


def test_parquet_that_unpacks_to_far_more_than_ratings_do_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(tables, "FREE", 1000)
    pd.DataFrame({"user": [1] * 1_000_000, "item": 1, "rating": 1}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="unpacks to 3,000,000 values"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("text", ["sep=;\nu;i;r\na;b;2\n", "SEP=,\r\n\r\nu,i,r\r\na,b,2\r\n"])
def test_the_line_that_excel_writes_above_a_header_names_the_separator(table, text):
    assert rows(table(text)) == [["a", "b", "2"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 10 20 30\n2 5 7\n3 1 2 3 4 5\n4 5\n", "lists the items of a user, these rows are not triples.*explode"),
        (f"user,{','.join(map(str, range(20)))}\n1{',3' * 20}\n", "an item, these rows are not triples.*melt"),
        ("user,Heat,Alien,Jaws,Big\n1,5,,3,\n", "has no column 'item_id'.*if each column is an item, .*melt"),
    ],
)
def test_what_is_no_table_of_triples_says_how_to_make_one(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_ratings(tmp_path / "a.csv")


def test_a_word_with_a_quotation_mark_in_it_needs_no_quotes(table):
    assert rows(table('u,i,r\na"b,"c, ""d""",1\n')) == [['a"b', 'c, "d"', "1"]]
    assert rows(table('u,i,r\n"a",b,1\nc 12",d,1\n')) == [["a", "b", "1"], ['c 12"', "d", "1"]]


def test_cells_of_several_lines_keep_the_numbers_of_lines(table):
    text = "u,i,r,review\n" + "".join(f'u{row},i,{row},"one\ntwo\nthree"\n' for row in range(20))
    found = table(text)
    assert found.index.tolist() == list(range(2, 62, 3))
    assert found["rating"].tolist() == list(map(str, range(20)))


def test_reading_warns_of_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,rating\na,b,1\nc,d,x\n")
    (tmp_path / "a.jsonl").write_text('{"user":1,"item":2,"rating":3}')
    frame = pd.DataFrame({"user": ["a"], "item": [1], "rating": [2.5]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_ratings(frame).table) == len(read_ratings(tmp_path / "a.jsonl").table) == 1
        with pytest.raises(DataError, match="1 ratings are not numbers, the first in line 3: 'x'"):
            read_ratings(tmp_path / "a.csv")


@repeatable
@given(st.text(st.sampled_from('ab,"\n\t1'), min_size=1, max_size=40).filter(str.strip))
def test_arbitrary_lines_between_tabs_are_read_one_by_one_or_refused(text):
    content = text.lstrip("\n")
    first = re.match(r"\n*[^\n]*\n?", text)[0]
    blocks = (block.encode() for block in [first, *text[len(first) :].splitlines(keepends=True)])
    try:
        columns = tuple(map(str, range(1 + content.split("\n")[0].count("\t"))))
        found = read_text(
            "a.txt", blocks, Reading(separator="\t", columns=columns), lambda names: {"first": names[0]}, ()
        )
    except DataError:
        return
    lines = {number: line.split("\t") for number, line in enumerate(text.split("\n"), 1) if line}
    assert found.index.tolist() == list(lines)
    for number, cell in found["first"].items():
        assert (cell if isinstance(cell, str) else "") in (lines[number][0], lines[number][0][1:-1].replace('""', '"'))
