"""One door: the same ratings in any file or DataFrame give the same table, or the same sentence."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import warnings
import zipfile
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from recbole_dgrm.data.ratings import read_ratings
from recbole_dgrm.errors import DataError
from recbole_dgrm.runs.trained_run import TrainedRun

pl, pa, parquet = map(pytest.importorskip, ("polars", "pyarrow", "pyarrow.parquet"))
TEXTS = ["a", " b ", "ä,ö", 'say "x"', '12" disk', "007", "1.0", "#", "-", "a|b", "x;y", "True", "0x1", "a\u2028b"]
BAD_TEXTS = ["NA", "nan", "", "a\tb", "a\nb"]
PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def random_table(rng) -> tuple[dict[str, list], dict[str, str]]:
    """Columns of plain values, and of each the type that a DataFrame of pandas shall have."""
    n = int(rng.integers(2, 9))
    draw = lambda values: [values[place] for place in rng.integers(0, len(values), n)]  # noqa: E731
    ids = {
        "int": [1, 2, 3, 2**40],
        "Int64": [1, 2, 3],
        "category": [1, 2, 3],
        "float": [1.0, 2.0, 30.0],
        "decimal": [Decimal(1), Decimal("2.0")],
        "str": TEXTS,
    }
    kinds = [str(rng.choice(list(ids))) for _ in range(2)]
    ratings = [[1, 2, 5], [0.5, 1.5, 5.0], [0.1, 0.30000000000000004], [Decimal("1.5"), Decimal(2)]]
    table = {"user": draw(ids[kinds[0]]), "item": draw(ids[kinds[1]]), "rating": draw(ratings[rng.integers(4)])}
    types = dict(zip(table, [*kinds, "object"], strict=True))
    times = [[100, 200], [20200102, 19991231], ["2020-01-02", "0001-01-01", "9999-12-31"], [datetime(2020, 1, 2, 3)]]
    if rng.random() < 0.6:
        table["timestamp"], types["timestamp"] = draw(times[rng.integers(4)]), "object"
    if rng.random() < 0.4:  # something is wrong with a row
        row, column = int(rng.integers(n)), str(rng.choice(list(table)))
        if column in ("user", "item"):
            table[column], types[column] = list(map(str, table[column])), "str"
        if column == "rating":
            table[column] = list(map(float, table[column]))
        wrong = {"rating": [None, float("nan"), float("inf"), 1e12], "timestamp": [None]}
        table[column][row] = wrong.get(column, [None, *BAD_TEXTS])[rng.integers(len(wrong.get(column, range(6))))]
    elif rng.random() < 0.2:
        column = "rating" if rng.random() < 0.5 or "timestamp" not in table else "timestamp"
        texts = {"rating": ["4,5", "good", "True", "inf"], "timestamp": ["yesterday", "2020-13-01"]}[column]
        table[column] = [str(value) for value in table[column]]
        table[column][int(rng.integers(n))] = texts[rng.integers(len(texts))]
    extra = {"title": draw(["t", "u v"]), "genres": [["x"]] * n}
    table |= {name: cells for name, cells in extra.items() if rng.random() < 0.5}
    order = rng.permutation(list(table))
    table = {str(name): table[name] for name in order}
    return {("movieId" if name == "item" else name): cells for name, cells in table.items()}, types


def as_pandas(table, types) -> pd.DataFrame:
    columns = {}
    for name, cells in table.items():
        kind = types.get("item" if name == "movieId" else name, "object")
        plain = {"decimal": "object", "str": "object"}.get(kind, kind)
        columns[name] = pd.Series(cells, dtype=plain, index=np.arange(len(cells)) % 2)  # a repeated index
    return pd.DataFrame({name: column.array for name, column in columns.items()})


def text_of(value) -> str:
    if value is None:
        return ""
    if isinstance(value, (float, Decimal)) and value == value and abs(value) != float("inf") and value % 1 == 0:
        return str(int(value))
    return str(value)


def files(folder, table):
    """The table in every format that can hold it, as a path and how it is read."""
    flat = {name: list(map(text_of, cells)) for name, cells in table.items() if name != "genres"}
    rows = list(zip(*flat.values(), strict=True))
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([list(flat), *rows])
    content = {"a.csv": buffer.getvalue().encode()}
    content |= {f"a.csv{end}": pack(content["a.csv"]) for end, pack in PACK.items()}
    if not any(re.search(r"[\t\n]", cell) for row in rows for cell in row):
        lines = ["\t".join(row) for row in rows]
        kinds = {"user": "user_id:token", "movieId": "item_id:token", "rating": "rating:float"}
        typed = [kinds.get(name, f"{name}:{'float' if name == 'timestamp' else 'token'}") for name in flat]
        content |= {"a.tsv": "\n".join(["\t".join(flat), *lines]).encode()}
        content |= {"a.inter": "\n".join(["\t".join(typed), *lines]).encode()}
    plain = [
        {name: float(value) if isinstance(value, Decimal) else value for name, value in zip(table, row, strict=True)}
        for row in zip(*table.values(), strict=True)
    ]
    content["a.jsonl"] = "\n".join(json.dumps(row, default=str) for row in plain).encode()
    content["a.json"] = json.dumps(plain, default=str, indent=1).encode()
    content["a.jsonl.xz"] = lzma.compress(content["a.jsonl"])
    for name, data in content.items():
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("deep/a.json", content["a.json"])
    return [folder / name for name in (*content, "a.zip")]


def frames(folder, table, types):
    frame = as_pandas(table, types)
    yield frame
    yield frame.set_axis(["same"] * len(frame))
    other = pl.DataFrame({name: pl.Series(cells, strict=False) for name, cells in table.items()})
    yield from (other, other.lazy())
    arrow = pa.table({name: pa.array(cells) for name, cells in table.items()})
    yield from (arrow, arrow.to_pandas(types_mapper=pd.ArrowDtype))
    parquet.write_table(arrow, folder / "a.parquet")
    yield folder / "a.parquet"


class NewUsers(TrainedRun):
    """Shows what ``with_ratings`` has read."""

    def __init__(self):
        self.model = SimpleNamespace(takes_new_users=True, implicit=True)

    def _known(self, ratings):
        raise Seen(ratings)


class Seen(Exception):
    pass


def result(source, read=read_ratings):
    """The ratings as plain rows, or the sentence without the names of source and places."""
    try:
        table = read(source).table
    except Seen as seen:
        (table,) = seen.args
    except DataError as error:
        sentence = str(error).replace(str(source), "SOURCE").replace("the DataFrame", "SOURCE")
        return re.sub(r"(line|row) \d+", "PLACE", sentence).replace("predictions", "ratings")
    return table.astype({"user_id": str, "item_id": str}).to_numpy().tolist()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_ratings_are_the_same_or_refused_with_the_same_sentence_at_every_door(tmp_path, seed):
    refused = 0
    for number in range(10):
        rng = np.random.default_rng([seed, number])
        table, types = random_table(rng)
        sources = [*files(tmp_path, table), *frames(tmp_path, table, types)]
        found = {str(source)[-300:]: result(source) for source in sources}
        found |= {f"with_ratings {type(source)}": result(source, NewUsers().with_ratings) for source in sources[-7:]}
        first = next(iter(found.values()))
        refused += isinstance(first, str)
        for name, other in found.items():
            assert other == first, name
        if "timestamp" not in table:
            frame = as_pandas(table, types).rename(columns={"rating": "prediction"})
            judged = result(frame, lambda source: read_ratings(source, value="prediction"))
            assert judged == first or "out of range" in first or judged == first.split(": of a file")[0]
    assert 0 < refused < 10


def test_two_of_one_id_are_one_whatever_their_types(tmp_path):
    columns = {"item": ["x"] * 6, "rating": [1.0, 2, 3, 4, 5, 1]}
    users = [1, "1", 1.0, np.int32(1), Decimal("1.0"), np.float32(1)]
    found = read_ratings(pd.DataFrame({"user": pd.Series(users, dtype=object), **columns}))
    assert found.table["user_id"].tolist() == ["1"] * 6
    assert "5 rows repeat a user-item pair, 5 of them" not in found.sentence()
    assert "5 rows repeat a user-item pair, 4 of them with another rating" in found.sentence()


FIRST, LAST = -62135596800, 253402214400  # 0001-01-01 and 9999-12-31
DATES = {
    "text": ["0001-01-01", "9999-12-31T00:00:00Z"],
    "date": [date(1, 1, 1), date(9999, 12, 31)],
    "datetime": [datetime(1, 1, 1), datetime(9999, 12, 31, tzinfo=UTC)],
    "zone": [datetime(1, 1, 1, 14, tzinfo=timezone(timedelta(hours=14))), datetime(9999, 12, 31)],
    "s": np.array(["0001-01-01", "9999-12-31"], "datetime64[s]"),
    "us": np.array(["0001-01-01", "9999-12-31"], "datetime64[us]"),
    "period": pd.PeriodIndex(["0001-01-01", "9999-12-31"], freq="D"),
    "arrow": pd.array([date(1, 1, 1), date(9999, 12, 31)], dtype=pd.ArrowDtype(pa.date32())),
    "category": pd.Categorical(["0001-01-01", "9999-12-31"]),
    "polars": pl.Series([date(1, 1, 1), date(9999, 12, 31)]),
    "arrow s": pa.array([datetime(1, 1, 1), datetime(9999, 12, 31)], pa.timestamp("s", tz="UTC")),
}


@pytest.mark.parametrize("kind", DATES)
def test_dates_of_the_years_1_and_9999_of_any_type_are_times(kind):
    build = {"polars": pl.DataFrame, "arrow s": pa.table}.get(kind, pd.DataFrame)
    frame = build({"user": ["a", "b"], "item": ["x", "y"], "rating": [1, 2], "time": DATES[kind]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_ratings(frame).table["timestamp"].tolist() == [FIRST, LAST]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("rating", [True, False], "2 ratings are not numbers, the first in row 1: 'True'"),
        ("rating", [1, True], "1 ratings are not numbers, the first in row 2: 'True'"),
        ("rating", [1j, 2], "2 ratings are not numbers"),
        ("rating", [None, 1], "1 ratings are missing, the first in row 1"),
        ("rating", [1, 2e9], "1 ratings are out of range; allowed: .*, the first in row 2"),
        ("rating", pd.to_timedelta([1, 2], unit="s"), "2 ratings are not numbers"),
        ("rating", pd.Series([10**400, 1], dtype=object), "1 ratings are not numbers"),
        ("user", pd.Series(["\ud800", "b"], dtype=object), "have a tab, a line break or half a surrogate pair"),
        ("user", [1.5, 2], "neither texts nor whole numbers, the first in row 1: '1.5'"),
        ("user", [(1, 2), (3, 4)], "2 values of user_id are neither texts"),
        ("user", pd.array([1, None], "Int64"), "1 rows have no user or item, the first in row 2"),
        ("time", ["10000-01-01", "2020-01-01"], "1 timestamps are neither a number nor an ISO date"),
        (
            "time",
            pd.to_datetime(["2020-01-01", None]),
            r"1 timestamps are missing, .* row 2; give each rating a time, .* \(--timestamp=",
        ),
    ],
)
def test_values_that_are_none_are_refused_with_their_row(column, values, said):
    frame = pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "rating": [1, 2], "time": [1, 2], column: values})
    with pytest.raises(DataError, match=said):
        read_ratings(frame)


def test_of_two_columns_of_one_name_the_wanted_ones_are_refused():
    frame = pd.DataFrame([["a", "x", 1, 2]], columns=["user", "item", "rating", "rating"])
    for given in (frame, pa.table([["a"], ["x"], [1], [2]], names=list(frame))):
        with pytest.raises(DataError, match="has 2 columns 'rating'; rename all but one of them"):
            read_ratings(given)
    assert len(read_ratings(frame.set_axis(["user", "item", "rating", "z"], axis=1).assign(y=1)).table) == 1
