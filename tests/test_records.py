"""What a run leaves on disk comes back as it was written, and what is no record is refused by name."""

from dataclasses import asdict

import numpy as np
import pytest
from reports_helpers import NDCG, draw, tokens, write_run

from recbole_dgrm.errors import DataError
from recbole_dgrm.identity import config_hash
from recbole_dgrm.records import RunRecord, new_record, read_run
from recbole_dgrm.reports.statistics import summarise
from recbole_dgrm.system.files import write_json


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"model": "MF"',
        b"[]",
        b'{"model": "MF"}',
        b'{"model": "\xff"}',
        b'{"colour": "red"}',
    ],
)
def test_a_broken_record_is_refused_by_name(tmp_path, content):
    write_run(tmp_path, "MF")
    file = tmp_path / "broken" / "record.json"
    file.parent.mkdir()
    file.write_bytes(content)
    for read in (lambda: read_run(file.parent), lambda: summarise(tmp_path)):
        with pytest.raises(DataError, match="is not the record of a run") as error:
            read()
        assert str(file) in str(error.value)


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = new_record({"model": "MF", "dataset": "board", "protocol": "rated", "seed": 3, "hidden": (8, 4)})
    write_json(tmp_path / "record.json", asdict(record))
    saved = read_run(tmp_path)
    assert RunRecord(**saved.record) == record
    assert (saved.record["label"], saved.record["status"], saved.finished) == ("MF", "running", False)
    assert saved.record["hash"] == config_hash(record.config)


def test_the_hash_is_of_what_determines_a_result():
    given = {"model": "MF", "seed": 1, "hidden": (8, 4), "output_dir": "a", "data_path": "b", "checkpoint_interval": 5}
    same = {"hidden": [8, 4], "seed": 1, "model": "MF", "data_path": "c"}
    assert config_hash(given) == config_hash(same)
    for changed in ({"seed": 2}, {"hidden": [4, 8]}, {"model": "NCF"}, {"more": None}):
        assert config_hash({**given, **changed}) != config_hash(given)


def test_a_run_of_0_2_0_keeps_its_hash_without_the_keys_that_are_gone():
    given = {"model": "BMF", "seed": 1}
    gone = {"compile": False, "precision": "float32", "side_features": [], "time_effects": False}
    assert config_hash(given) == config_hash(given | gone)
    assert config_hash(given) != config_hash(given | {"compile": True})


def test_vectors_come_back_as_they_were_written(tmp_path):
    path = write_run(tmp_path, "MF", vectors={NDCG: draw("MF", 1)}, users=[*tokens(29), "ü 日"])
    vectors = read_run(path).per_user()
    assert vectors.keys() == {"user", NDCG}
    assert vectors["user"].tolist() == [*tokens(29), "ü 日"]
    np.testing.assert_array_equal(vectors[NDCG], draw("MF", 1))
    assert sorted(file.name for file in path.iterdir()) == ["per_user.npz", "record.json"]
