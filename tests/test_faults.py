"""What a broken machine or a foreign file does: a sentence with the remedy, and nothing lost."""

import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import interrupted

from recbole_dgrm.benchmarks import executors
from recbole_dgrm.cli import main
from recbole_dgrm.errors import CheckpointError, OutOfMemory, UserError
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.records import read_run
from recbole_dgrm.reports.statistics import read_plan
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.system import processes
from recbole_dgrm.testing.small import small_config
from recbole_dgrm.training.checkpoints import read_checkpoint
from recbole_dgrm.tuning.plan import SearchPlan

CPU = torch.device("cpu")
USERS = np.array(["a", "b"])


@pytest.fixture(scope="module")
def made(tmp_path_factory, ratings_path) -> Path:
    """The directory of a finished run."""
    config = small_config(ratings_path, tmp_path_factory.mktemp("made"), generator_hidden=[8], epochs=1)
    return run_one(config)[1]


@pytest.fixture
def finished(made, tmp_path) -> Path:
    """The directory of a run that has all files of a finished one, and goes on."""
    return interrupted(Path(shutil.copytree(made, tmp_path / made.name)))


# Damaged files


def changed(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Rewrites the checkpoint after ``change``."""

    def rewrite(path: Path) -> None:
        state = read_checkpoint(path, CPU)
        change(state)
        torch.save(state, path)

    return rewrite


def pack_again(path: Path) -> None:
    """Compress the parts of a checkpoint, which could then unpack to any size."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content + bytes(10**6))


def bomb(path: Path) -> None:
    """A few bytes that say that they unpack to eight gigabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("user.npy", b"")
        file.infolist()[0].file_size = 8 << 30


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "is not the checkpoint of a run"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "is not the checkpoint of a run"),
        (bomb, "is not the checkpoint of a run"),
        (pack_again, r"is not the checkpoint of a run \(its parts are compressed"),
        (lambda path: torch.save([1, 2], path), "is not the checkpoint of a run .it has no best_epoch"),
        (changed(lambda state: state.pop("random")), "is not the checkpoint of a run .it has no random"),
        (changed(lambda state: state.update(model="MF")), "is of MF, this run is of DGRM"),
        (changed(lambda state: state["state_dict"].popitem()), "does not fit this run .*Missing key"),
        (changed(lambda state: state["best_state_dict"].popitem()), "does not fit this run .*Missing key"),
        (changed(lambda state: state["optimizer"].clear()), "does not fit this run .KeyError"),
        (changed(lambda state: state["random"].clear()), "does not fit this run .KeyError"),
    ],
)
def test_a_damaged_checkpoint_is_a_sentence_with_its_name_and_the_remedy(finished, damage, reason):
    path = finished / "checkpoint.pt"
    damage(path)
    content = path.read_bytes()
    with pytest.raises(
        CheckpointError, match=rf"(?s)checkpoint\.pt .*{reason}.*; move it away, and the run begins again"
    ):
        resume(finished)
    assert path.read_bytes() == content  # whoever wants it can look at it


def test_without_the_damaged_checkpoint_and_what_a_kill_left_the_run_begins_again_to_the_same_end(finished, made):
    for name in (".record.json.17.partial", ".checkpoint.pt.17.partial"):
        (finished / name).write_text("half")
    (finished / "checkpoint.pt").rename(finished / "foreign")
    assert resume(finished)[0].test == read_run(made).record["test"]
    assert not list(finished.glob(".*.partial"))


def vectors(path: Path) -> dict[str, np.ndarray]:
    return read_run(path).per_user()


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("record.json", b'{"model": "MF", "dataset": "d", "protocol": "p", "seed": 1, "config": 3}', read_run),
        ("record.json", b"[" * 100_000, read_run),
        ("metrics.jsonl", b'{"epoch": 0}\n{"epo\n{"epoch": 2}\n', lambda path: read_run(path).epochs()),
        ("metrics.jsonl", b"[]\n", lambda path: read_run(path).epochs()),
        ("metrics.jsonl", b"\xff\xff\n", resume),
        ("per_user.npz", b"PK\x05\x06", vectors),
        ("per_user.npz", lambda path: np.savez_compressed(path, user=USERS, rmse=np.zeros(3)), vectors),
        ("per_user.npz", lambda path: np.savez(path, user=USERS, rmse=np.array([{}, {}], dtype=object)), vectors),
        ("per_user.npz", lambda path: np.savez(path, rmse=np.zeros(2)), vectors),
        ("per_user.npz", bomb, vectors),
        ("config.yaml", b"model: DGRM\ndataset: noise\nepochs: [", resume),
        ("benchmark.json", b"{", read_plan),
        ("search.json", b'{"trials": 3}', SearchPlan.load),
    ],
)
def test_a_damaged_file_of_a_run_is_a_sentence_with_its_name(finished, name, content, read):
    content(finished / name) if callable(content) else (finished / name).write_bytes(content)
    said = " has no metrics of users" if name == "per_user.npz" else ""
    with pytest.raises(UserError, match=name.replace(".", r"\.") + said):
        read(finished)


# Two at a time, and a directory that is removed


def test_a_second_resume_of_one_run_is_refused(finished):
    with processes.locked_folder(finished, "process"):
        before = {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}
        with pytest.raises(UserError, match=f"^another process is working in {finished}; wait for its end"):
            resume(finished)
        assert {path: path.read_bytes() for path in before} == before
    assert resume(finished)[0].status == "finished"
    assert not list(finished.glob(".*.partial"))


def test_a_directory_removed_during_training_is_a_sentence(monkeypatch, tmp_path, capsys, ratings_path):
    original = DGRM.generator_loss

    def remove(self, batch):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        return original(self, batch)

    monkeypatch.setattr(DGRM, "generator_loss", remove)
    where = [f"--data_path={ratings_path}", f"--output_dir={tmp_path / 'runs'}"]
    assert main.main(["--model=DGRM", "--dataset=noise", "--device=cpu", *where]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'runs'}/DGRM-noise" in error.replace("\n", "")
    assert "No such file or directory" in error.replace("\n", " ")
    assert "Traceback" not in error


# Too little memory


@pytest.mark.parametrize("refuse", [lambda: torch.empty(10**15, dtype=torch.uint8), lambda: np.empty(10**15)])
def test_too_little_memory_names_the_keys_that_save_it(refuse, make_config, monkeypatch, tmp_path):
    monkeypatch.setattr(DGRM, "generator_loss", lambda self, batch: refuse())
    with pytest.raises(OutOfMemory, match=r"too little memory .*; make train_batch_size and eval_batch_size smaller"):
        run_one(make_config())
    (path,) = (tmp_path / "runs").iterdir()
    record = read_run(path).record
    assert record["status"] == "failed"
    assert record["error"].startswith("OutOfMemory: too little memory")


# SIGTERM


def test_sigterm_is_as_ctrl_c(monkeypatch, ratings_path, tmp_path, capsys):
    monkeypatch.setattr(DGRM, "generator_loss", lambda self, batch: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    try:
        where = [f"--data_path={ratings_path}", f"--output_dir={tmp_path / 'runs'}"]
        status = main.main(["--model=DGRM", "--dataset=noise", "--device=cpu", *where])
    finally:
        signal.signal(signal.SIGTERM, before)
    (path,) = (tmp_path / "runs").iterdir()
    assert status == 130
    assert f"continue with --resume={path}" in capsys.readouterr().err
    assert read_run(path).record["status"] == "interrupted"


def test_a_run_that_sigterm_meets_before_it_listens_is_interrupted_not_failed(make_config, tmp_path):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    command = [sys.executable, "-c", code]
    job = executors.Job("MF", make_config("MF").given, 1, 60)
    executors.execute(job, tmp_path / "run", start=lambda *_: subprocess.Popen(command, stdin=subprocess.PIPE))
    assert read_run(tmp_path / "run").record["status"] == "interrupted"
