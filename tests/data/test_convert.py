"""Every format and a given split: the same checks, and what they say."""

import pandas as pd
import pytest
from helpers import random_ratings

from recbole_dgrm.cli import main
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data import dataset
from recbole_dgrm.data.convert import WHOLE, convert
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.data.text_tables import Reading
from recbole_dgrm.errors import DataError, OptionError, OutputError


def write(path, rows):
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


ROWS = [
    {"user": "ann", "item": 7, "rating": 5, "time": 100},
    {"user": "bob", "item": 7, "rating": 1, "time": 200},
    {"user": "ann", "item": 8, "rating": 2.5, "time": 300},
]


def test_what_is_converted_is_an_atomic_file_with_its_scale(tmp_path):
    (path,) = convert({WHOLE: write(tmp_path / "a.csv", ROWS)}, tmp_path, "mine").files
    table = pd.read_csv(path, sep="\t", dtype=str)
    assert list(table) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    assert table.to_numpy().tolist()[2] == ["ann", "8", "2.5", "300.0"]
    assert read_yaml(tmp_path / "mine" / "mine.yaml") == {"rating_scale": [1.0, 5.0]}  # 1, 2.5 and 5: no step


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"user": "a", "item": "b", "rating": 1}\n{"user": \n', "line 2 is not valid JSON"),
        ('[{"user": "a", "item": "b", "rating": 1}, 7]', "row 2 is not a JSON object; one object per rating"),
        (
            '\n{"user": {"id": 1}, "item": "b", "rating": 1}\n',
            "1 values of user_id are neither .*, the first in line 2",
        ),
        ('{"user": "a", "item": "b", "rating": [1]}\n', r"1 ratings are not numbers, the first in line 1: '\[1\]'"),
        ('{"user": "a", "rating": 1}\n', "has no column 'item_id'; it has user, rating: name it .--item=COLUMN"),
        ("", "is empty"),
        ('[{"user": "a", "item": "b", "rating": 1},\n{"user": "a", "item": "b"}]', "1 ratings are missing.* in row 2"),
        ("[" * 100_000, "line 1 is not valid JSON"),
        ("1" * 5_000, "line 1 is not valid JSON"),
    ],
)
def test_bad_json_lines_are_named(tmp_path, text, said):
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(DataError, match=said):
        convert({WHOLE: tmp_path / "bad.jsonl"}, tmp_path, "mine")


@pytest.mark.parametrize("file", ["bad.csv", "bad.jsonl.gz", "bad.parquet", "bad.zip"])
def test_bytes_that_are_no_table_are_an_error(tmp_path, file):
    (tmp_path / file).write_bytes(b"\x1f\x8b\x00\xff\xfe" * 9)
    with pytest.raises(DataError, match=f"{file}.*(cannot be read as|is not valid JSON)"):
        convert({WHOLE: tmp_path / file}, tmp_path, "mine")


def test_ids_stay_as_they_are_written(tmp_path):
    (tmp_path / "a.csv").write_text('user,item,rating\n007," a,b ",1\n1.0,"say ""x""",2\n')
    (path,) = convert({WHOLE: tmp_path / "a.csv"}, tmp_path, "mine").files
    assert path.read_text().splitlines()[1:] == ["007\t a,b \t1.0", '1.0\tsay "x"\t2.0']
    config = load_config(config_dict={"model": "MF", "dataset": "mine", "data_path": str(tmp_path)})
    assert set(dataset.RatingDataset(config).field2id_token["item_id"]) == {"[PAD]", " a,b ", 'say "x"'}


ROW = ["7,8,5,100", "7,9,1,200", "6,8,2,300"]


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        ("\n".join(ROW), None, "names no columns; they are read as user, item, rating, timestamp"),
        ("\n".join(row[:5] for row in ROW), None, "names no columns; they are read as user, item, rating;"),
        ("\n".join(ROW).replace(",", "::"), None, "names no columns"),
        ("\n".join(ROW).replace(",", " "), None, "names no columns"),
        ("\n".join(["0,1,2,3", *ROW]), None, "names no columns; they are read as user, item"),
        ("\n".join(ROW), ("user", "item", "rating", "_"), ""),
    ],
)
def test_a_file_without_a_header_loses_no_row(tmp_path, caplog, text, columns, said):
    (tmp_path / "a.csv").write_text(text)
    reading = Reading(columns=columns or ())
    (path,) = convert({WHOLE: tmp_path / "a.csv"}, tmp_path, "mine", reading).files
    found = pd.read_csv(path, sep="\t").iloc[:, :3].to_numpy().tolist()
    assert found == [[7, 8, 5], [7, 9, 1], [6, 8, 2]]
    assert said in caplog.text


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        (
            "A1,U1,5.0,887889712\nA1,U2,4.0,887889713\n",
            (),
            r"names no columns: 'A1 \| U1 .* --columns=item,user,rating",
        ),
        ("1,2,887889712,5\n1,3,887889713,4\n", (), "names no columns"),
        ("1,2,5,1,7\n1,3,4,1,7\n", (), "--columns=user,item,rating,timestamp,_"),
        ("1,2,5\n", ("user", "item"), "line 1 has 3 columns, and --columns names 2"),
        (
            "user,item,rating\n1,2,5\n",
            ("user", "item", "rating"),
            "1 ratings are not numbers, the first in line 1: 'rating'",
        ),
        ("who,what,much\na,b,1\n", (), "has no column 'user_id'; it has who, what, much"),
    ],
)
def test_columns_that_nobody_can_tell_are_asked_for(tmp_path, text, columns, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        convert({WHOLE: tmp_path / "a.csv"}, tmp_path / "out", "mine", Reading(columns=columns))


HEADERS = """
User-ID;ISBN;Book-Rating
user_id;book_id;rating
user_id;business_id;stars
reviewerID;asin;overall
userId;movieId;rating
USER_ID;Item ID;Rating
"""


def test_usual_names_are_known(tmp_path):
    for number, header in enumerate(HEADERS.split("\n")[1:-1]):
        (tmp_path / "a.csv").write_text(f"{header}\na;x;1\nb;x;2\n")
        user, item, rating = header.split(";")
        expected = f"columns: user_id from {user!r}, item_id from {item!r}, rating from {rating!r}"
        assert expected in convert({WHOLE: tmp_path / "a.csv"}, tmp_path, f"set{number}").lines


@pytest.mark.parametrize(("code", "written"), [("99.0", "99"), ("NR", "NR"), ("", "")])
def test_ratings_that_mean_not_rated_are_left_out_and_counted(tmp_path, code, written):
    (tmp_path / "a.csv").write_text(f"user,item,rating\na,x,1\na,y,{written}\nb,x,{written}\nb,y,2\n")
    done = convert({WHOLE: tmp_path / "a.csv"}, tmp_path, "mine", Reading(missing=(code,)))
    assert "2 ratings of 2 users and 2 items; 2 rows left out" in done.lines[0]
    assert len(pd.read_csv(done.files[0], sep="\t")) == 2
    with pytest.raises(DataError, match=r"has no ratings except those that --missing=.*1,2.* leaves out"):
        convert({WHOLE: tmp_path / "a.csv"}, tmp_path, "other", Reading(missing=(code, "1", "2")))


def test_what_was_written_is_said(tmp_path, capsys):
    rows = [*ROWS, {**ROWS[0], "rating": 1}, ROWS[1]]
    write(tmp_path / "a.csv", rows)
    assert main.main(["convert", str(tmp_path / "a.csv"), f"--data_path={tmp_path}"]) == 0
    out = capsys.readouterr().out
    for said in (
        "a.inter: 5 ratings of 2 users and 2 items; 2 rows repeat a user-item pair, 1 of them with another rating",
        "columns: user_id from 'user', item_id from 'item', rating from 'rating', timestamp from 'time'",
        "rating_scale is taken from the data: [1.0, 5.0]",
        "the levels of the ratings are taken from the data: 1, 2.5, 5",
    ):
        assert said in out.replace("\n", " ")


def test_a_broken_timestamp_can_be_left_out(tmp_path):
    source = write(tmp_path / "a.csv", [{**row, "time": "yesterday"} for row in ROWS])
    with pytest.raises(DataError, match="3 timestamps are neither"):
        convert({WHOLE: source}, tmp_path, "mine")
    (path,) = convert({WHOLE: source}, tmp_path, "mine", Reading({"timestamp": ""})).files
    assert "timestamp" not in path.read_text()


def test_a_name_that_leads_elsewhere_and_a_folder_that_cannot_be_made_are_refused(tmp_path):
    source = write(tmp_path / "a.csv", ROWS)
    with pytest.raises(OptionError, match="is not a plain name"):
        convert({WHOLE: source}, tmp_path / "out", "../x")
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match=r"a\.csv/mine: Not a directory; something else has that name; move it away"):
        convert({WHOLE: source}, source, "mine")


@pytest.fixture
def parts(tmp_path):
    """Files of a split, in three formats."""
    table = random_ratings().sample(frac=1, random_state=0)
    table.iloc[:250].to_csv(tmp_path / "a.csv", index=False)
    table.iloc[250:300].to_json(tmp_path / "b.jsonl", orient="records", lines=True)
    table.iloc[300:].to_parquet(tmp_path / "c.parquet")
    return {"train": tmp_path / "a.csv", "valid": tmp_path / "b.jsonl", "test": tmp_path / "c.parquet"}


def test_a_split_that_is_given_is_kept(parts, tmp_path, capsys):
    options = [f"--{part}={path}" for part, path in parts.items()]
    assert main.main(["convert", *options, "--name=mine", f"--data_path={tmp_path}"]) == 0
    assert read_yaml(tmp_path / "mine" / "mine.yaml")["benchmark_filename"] == ["train", "valid", "test"]
    assert f"--dataset=mine --data_path={tmp_path}" in capsys.readouterr().out.replace("\n", " ")
    config = load_config(config_dict={"model": "MF", "dataset": "mine", "data_path": str(tmp_path)})
    splits = build_splits(config)
    total = len(random_ratings())
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (250, 50, total - 300)
    assert splits.train.user_num == 31  # ids of all formats are the same text


def test_a_bad_part_leaves_nothing(parts, tmp_path):
    parts["test"].with_suffix(".csv").write_text("user_id,item_id,rating\n1,2,x\n")
    with pytest.raises(DataError, match=r"c\.csv: 1 ratings are not numbers, the first in line 2"):
        convert({**parts, "test": parts["test"].with_suffix(".csv")}, tmp_path / "out", "mine")
    parts["test"].with_suffix(".csv").write_text("user_id,item_id,rating,timestamp\n1,2,3,4\n")
    with pytest.raises(DataError, match="some parts have timestamps and others have none"):
        convert({**parts, "test": parts["test"].with_suffix(".csv")}, tmp_path / "out", "mine")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [[], ["a", "--train=b"], ["--train=a", "--name=x"], ["--test=a", "--name=x"], ["--train=a", "--test=b"]]
)
def test_half_a_split_is_refused(options, capsys):
    assert main.main(["convert", *options]) == 2
    assert "--train" in capsys.readouterr().err


def test_files_that_are_no_tables_of_text_are_named(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"user,item,rating")
    with pytest.raises(DataError, match=r"a\.xlsx has a format .*save it as CSV"):
        convert({WHOLE: tmp_path / "a.xlsx"}, tmp_path, "mine")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"pip install 'recbole-dgrm\[parquet\]'"):
        convert({WHOLE: tmp_path / "a.parquet"}, tmp_path, "mine")
