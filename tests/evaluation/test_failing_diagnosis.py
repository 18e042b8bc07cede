"""A diagnosis that fails loses nothing else."""

import json

import pytest

from recbole_dgrm.evaluation import collapse, diagnosis, references
from recbole_dgrm.records import RunDirectory
from recbole_dgrm.runs.experiment import run_one


@pytest.mark.parametrize("where", ["examine", "measure"])
def test_what_fails_after_the_test_does_not_lose_it(make_config, monkeypatch, where):
    def broken(*_):
        raise ZeroDivisionError("no room")

    monkeypatch.setattr(diagnosis if where == "examine" else references, where, broken)
    record, path = run_one(make_config("MF", valid_metric="RMSE"))
    saved = json.loads((path / "record.json").read_text())
    assert (record.status, saved["status"]) == ("finished", "finished")
    assert saved["test"]
    assert "failed: ZeroDivisionError: no room" in saved["error"]
    assert saved["traceback"].startswith("Traceback")
    assert bool(saved["reference"]) == (where == "examine")
    assert not saved["diagnosis"]


def test_a_look_that_fails_stops_no_training(make_config, monkeypatch, caplog):
    real, calls = diagnosis.inspect, []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError("no room")
        return real(*arguments)

    monkeypatch.setattr(diagnosis, "inspect", broken)
    record, path = run_one(make_config("MF", epochs=4, diagnose_every=1, refit=False))
    assert record.status == "finished"
    assert collapse.of_record({"diagnosis": record.diagnosis})
    assert sum("continues without diagnosis" in entry.message for entry in caplog.records) == 1
    lines = RunDirectory(path, {}).epochs()
    assert [line.get("diagnosis_error") for line in lines] == [None, "ZeroDivisionError: no room", None, None]
