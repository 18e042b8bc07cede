"""Tables are read block by block, and the size of the blocks changes nothing."""

import pandas as pd
import pytest

from recbole_dgrm.data import tables
from recbole_dgrm.data.ratings import read_ratings
from recbole_dgrm.errors import DataError

ROWS = [f'u{number % 7},"i ""{number % 5}""",{1 + number % 3},{number}' for number in range(40)]
MANY = {
    "plain.csv": "user,item,rating,time\n" + "\n".join(ROWS).replace('"', ""),
    "blank lines.csv": "user,item,rating,time\r\n" + "\r\n\r\n".join(ROWS),
    "a mark within a cell.csv": "user,item,rating,time\n" + "\n".join([*ROWS, 'a"b,c,1,2', *ROWS]),
    "cells of two lines.csv": "user,item,rating,time\n" + "\n".join(ROWS).replace(",i", ",\ni").replace(',"i', ',"\ni'),
    "quoted.tsv": "user\titem\trating\n" + "".join(f'"u{number}"\t"i"\t{number % 4}\n' for number in range(40)),
    "dates.csv": "user,item,rating,time\n" + "".join(f"u{n},i,{n % 4},2020-01-{n % 9 + 1:02}\n" for n in range(40)),
    "no number.csv": "user,item,rating,time\n" + "\n".join([*ROWS, "a,b,good,7", "a,b,,7"]),
    "too long.csv": "user,item,rating,time\n" + "\n".join([*ROWS, "a,b,1,7,8"]),
    "lone mark.csv": "user,item,rating,time\n" + "\n".join([*ROWS, 'a,"b,1,7', *ROWS]),
    "a.jsonl": "".join(f'{{"user": {n % 7}, "item": "i{n % 5}", "rating": {n % 3}}}\n\n' for n in range(40)),
    "later columns.jsonl": '{"user": 1, "item": 2, "score": 3}\n' * 20 + '{"user": "b", "item": 2, "rating": 4}\n' * 20,
    "ids of two types.jsonl": '{"user": 1, "item": 2, "rating": 3}\n' * 9
    + '{"user": "1", "item": "b", "rating": 4}\n' * 9,
    "no json.jsonl": '{"user": 1, "item": 2, "rating": 3}\n' * 20 + "{,}\n",
    "a.json": "[" + ",\n".join(f'{{"user": {n % 7}, "item": "i{n % 5}", "rating": {n % 3}}}' for n in range(40)) + "]",
}


@pytest.mark.parametrize("name", MANY)
def test_the_size_of_blocks_changes_nothing(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(MANY[name].encode())

    def result() -> pd.DataFrame | str:
        try:
            return read_ratings(tmp_path / name).table.astype({"user_id": object, "item_id": object})
        except DataError as error:
            return str(error)

    whole = result()
    wrong = ("no number", "too long", "lone mark", "no json", "later columns", "cells of two lines")  # of an id
    assert isinstance(whole, str) == (name.split(".")[0] in wrong)
    for block in (30, 100, 1000):
        monkeypatch.setattr(tables, "BLOCK", block)
        found = result()
        if isinstance(whole, str):
            assert found == whole
        else:
            pd.testing.assert_frame_equal(found, whole)
