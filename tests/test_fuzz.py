"""Arbitrary ratings and values: they work, or are refused with a sentence; nothing else is raised."""

import json
import string
from contextlib import suppress
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.values import parse_value
from recbole_dgrm.data.convert import WHOLE, convert
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import UserError

few = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
HEADER = "user_id:token\titem_id:token\trating:float"
CELLS = st.sampled_from(
    ["", "1", "2", "u", "nan", "NA", "inf", "-1e308", "1e999", "5", '"', "'", "\0", " ", "é", "9" * 400]
)
CELLS |= st.text(max_size=5)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def read(folder, **overrides) -> None:
    """Build the data set ``folder/mine``; what is wrong with it must be a sentence."""
    keys = {"model": "MF", "dataset": "mine", "data_path": str(folder), **overrides}
    with suppress(UserError):
        build_splits(deepcopy(load_config(config_dict=keys)))


@pytest.fixture
def folder(tmp_path):
    """A ``data_path`` with the folder of a data set called mine."""
    (tmp_path / "mine").mkdir()
    return tmp_path


@few
@given(st.lists(st.text("user_idtemrating:floatk\t \n", max_size=20), max_size=4), ROWS)
@example([], [["1", "2", "3", "9"]] * 9)
@example([], [["1", "2", "-1e308"], ["1", "3", "1e308"]])
@example([], [["1", "2", "3"], ["1", '"']])
@example(["user_id:token\tuser_id:token", "1\t2"], [])
def test_any_rows_below_any_header(folder, words, rows):
    text = "\n".join(["\t".join([HEADER, *words]), *("\t".join(row) for row in rows)])
    (folder / "mine" / "mine.inter").write_text(text, encoding="utf-8", errors="surrogatepass")
    read(folder)


FILES = ["a.csv", "a.json", "a.parquet", "a.csv.gz", "a.jsonl.gz", "a.zip", "a.xz", "a.tar"]
JSON_ROW = st.fixed_dictionaries({}, optional=dict.fromkeys(["user", "item", "rating", "time"], VALUES))
CSV = st.tuples(ROWS, st.sampled_from(list(",;\t|"))).map(
    lambda drawn: "\n".join(drawn[1].join(row) for row in [["user", "item", "rating", "time"], *drawn[0]]).encode(
        "utf-8", "surrogatepass"
    )
)


@few
@given(
    st.tuples(st.sampled_from(FILES), st.binary(max_size=80))
    | st.tuples(st.just("a.csv"), CSV)
    | st.tuples(
        st.just("a.jsonl"), st.lists(JSON_ROW, max_size=6).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
    )
)
@example(("a.jsonl", b'{"user": 1e300, "item": 1180591620717411303424, "rating": 1e400}'))
def test_any_file_through_convert(folder, file):
    """What is refused leaves nothing; what converts can be read, or is too little for a split, and that is said."""
    name, content = file
    for old in (folder / "mine").glob("*"):
        old.unlink()
    (folder / name).write_bytes(content)
    try:
        convert({WHOLE: folder / name}, folder, "mine")
    except UserError:
        assert not list((folder / "mine").glob("*"))
    else:
        read(folder)


@few
@given(st.text(max_size=30) | st.text(string.punctuation + "0123456789truenlxo \n", max_size=12))
@example("!!bool x")
@example("2001-99-99")
@example("{[1]: 2}")
@example("1e999999999")
def test_any_value_on_the_command_line(text):
    with suppress(UserError):
        load_config(config_dict={"model": "MF", "dataset": "ml-100k"}, command_line={"topk": parse_value(text)})
