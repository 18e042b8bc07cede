"""Runs that are stopped or killed go on to the same end, and what cannot go on is refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers import interrupted, lines_of, random_ratings, record_of, wait_for, write_ratings

from recbole_dgrm.errors import CheckpointError
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.system.files import write_json
from recbole_dgrm.training import checkpoints
from recbole_dgrm.training.checkpoints import read_checkpoint


def test_a_run_killed_in_either_stage_resumes_to_the_same_end(make_config, monkeypatch, tmp_path):
    class Killed(BaseException):
        pass

    whole, unbroken = run_one(make_config(epochs=3))
    write = checkpoints.write_checkpoint
    for refitting in (False, True):

        def dies(path, state, refitting=refitting):
            write(path, state)
            if ("selected" in state["note"]) == refitting:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "write_checkpoint", dies)
            with pytest.raises(Killed):
                run_one(make_config(epochs=3), tmp_path / f"killed-{refitting}")
        again, broken = resume(tmp_path / f"killed-{refitting}")
        assert (again.test, again.valid) == (whole.test, whole.valid)
        ends = [read_checkpoint(path / "checkpoint.pt", "cpu")["state_dict"] for path in (unbroken, broken)]
        assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
        for lines in zip(lines_of(unbroken), lines_of(broken), strict=True):
            first, second = ({**line, "seconds": 0, "validate_s": 0, "diagnose_s": 0} for line in lines)
            assert first == second


@pytest.mark.slow
def test_kill_minus_9_loses_nothing(make_config, tmp_path):
    keys = {"epochs": 30, "stopping_step": 30, "refit": False}
    given = {**make_config(**keys).given, "output_dir": str(tmp_path / "killed")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(given))
    process = subprocess.Popen(
        [sys.executable, "-m", "recbole_dgrm", f"--config_files={tmp_path / 'run.yaml'}"], stdout=subprocess.DEVNULL
    )
    wait_for(lambda: list(tmp_path.glob("killed/*/checkpoint.pt")))
    process.kill()
    process.wait()
    (broken,) = (tmp_path / "killed").iterdir()
    assert record_of(broken)["status"] == "running"
    assert read_checkpoint(broken / "checkpoint.pt", "cpu")["epoch"] < 29
    assert resume(broken)[0].test == run_one(make_config(**keys))[0].test


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def test_resume_refuses_what_is_no_run_or_has_other_data_or_other_code(make_config, tmp_path):
    with pytest.raises(CheckpointError, match="is not a run directory"):
        resume(tmp_path)
    file = write_ratings(tmp_path / "data", "noise", random_ratings())
    _, path = run_one(make_config("MF", data_path=str(tmp_path / "data"), epochs=1))
    before, ratings = files_of(interrupted(path)), file.read_text()
    content = {"inter": "\nu1\ti1\t3", "item": "item_id:token\n1\n", "user": "user_id:token\n1\n", "yaml": "seed: 1\n"}
    for suffix, more in content.items():
        changed = file.with_suffix(f".{suffix}")
        with open(changed, "a") as writer:
            writer.write(more)
        with pytest.raises(CheckpointError, match="cannot be continued, because the files of its data set have"):
            resume(path)
        assert files_of(path) == before
        changed.unlink()
        file.write_text(ratings)
    write_json(path / "record.json", {**record_of(path), "code": 99})
    with pytest.raises(CheckpointError, match="it was made by code that gives other results"):
        resume(path)


def test_a_finished_run_is_read_and_not_written_also_without_its_data(make_config, tmp_path):
    write_ratings(tmp_path / "data", "noise", random_ratings())
    record, path = run_one(make_config("MF", data_path=str(tmp_path / "data"), epochs=1))
    before = files_of(path)
    shutil.rmtree(tmp_path / "data")
    assert resume(path)[0].test == record.test
    assert files_of(path) == before
    (path / "config.yaml").write_text((path / "config.yaml").read_text().replace("epochs: ", "epochs: 1"))
    with pytest.raises(CheckpointError, match="cannot be continued, because it was made with other keys"):
        resume(path)
    assert files_of(path)["record.json"] == before["record.json"]


def test_a_run_stopped_before_its_first_checkpoint_begins_again(make_config):
    first, path = run_one(make_config(), label="mine")
    (interrupted(path) / "checkpoint.pt").unlink()
    again, _ = resume(path)
    assert (again.test, again.label, again.hash) == (first.test, "mine", first.hash)
    assert again.timing["epochs"] == first.timing["epochs"]  # no line is counted twice


def test_a_pickle_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="is not the checkpoint of a run"):
        read_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))
    assert not (tmp_path / "touched").exists()
