"""What a broken machine or a foreign file does: a sentence with the remedy, and nothing lost."""

import builtins
import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import Here, interrupted
from tensorboard.summary.writer import event_file_writer

from recbole_dgrm.benchmarks import executors, session
from recbole_dgrm.cli import main
from recbole_dgrm.errors import CheckpointError, DataError, OutOfMemory, OutputError, UserError, explained
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.records import read_run
from recbole_dgrm.reports.statistics import read_plan
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.system import processes
from recbole_dgrm.testing.small import small_config
from recbole_dgrm.training.checkpoints import read_checkpoint, write_checkpoint
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


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("record.json", b'{"model": "MF", "dataset": "d", "protocol": "p", "seed": 1, "config": 3}', read_run),
        ("record.json", b"[" * 100_000, read_run),
        ("metrics.jsonl", b'{"epoch": 0}\n{"epo\n{"epoch": 2}\n', lambda path: read_run(path).epochs()),
        ("metrics.jsonl", b"[]\n", lambda path: read_run(path).epochs()),
        ("metrics.jsonl", b"\xff\xff\n", resume),
        ("per_user.npz", b"PK\x05\x06", lambda path: read_run(path).per_user()),
        ("config.yaml", b"model: DGRM\ndataset: noise\nepochs: [", resume),
        ("benchmark.json", b"{", read_plan),
        ("search.json", b'{"trials": 3}', SearchPlan.load),
    ],
)
def test_a_damaged_file_of_a_run_is_a_sentence_with_its_name(finished, name, content, read):
    (finished / name).write_bytes(content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        read(finished)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: np.savez_compressed(path, user=USERS, rmse=np.zeros(3)),
        lambda path: np.savez(path, user=USERS, rmse=np.array([{}, {}], dtype=object)),
        lambda path: np.savez(path, rmse=np.zeros(2)),
        bomb,
    ],
)
def test_damaged_vectors_are_a_sentence(finished, write):
    write(finished / "per_user.npz")
    with pytest.raises(DataError, match=r"per_user\.npz has no metrics of users"):
        read_run(finished).per_user()


# Full and read-only disks


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # a disk that is full for larger files
    try:
        with pytest.raises(OutputError, match=f"^{path}: File too large; free some space"):
            write_checkpoint(path, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_until_a_checkpoint_is_written(number, monkeypatch, tmp_path):
    path, save = tmp_path / "checkpoint.pt", torch.save
    usual = signal.signal(number, signal.default_int_handler)

    def interrupted(state, file):
        signal.raise_signal(number)
        save(state, file)
        signal.raise_signal(number)

    monkeypatch.setattr(torch, "save", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(path, {"weights": torch.zeros(3)})
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, usual)
    assert torch.load(path, weights_only=True)["weights"].tolist() == [0, 0, 0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "name an --output_dir that can be written"),
        (errno.EACCES, "check its permissions"),
        (errno.ENOTDIR, "something else has that name"),
    ],
)
def test_what_the_disk_refuses_is_a_sentence(number, remedy):
    with pytest.raises(OutputError, match=rf"^the/file: {os.strerror(number)}; .*{remedy}"), explained():
        raise OSError(number, os.strerror(number), "the/file")


@pytest.mark.parametrize("command", ["train", "benchmark", "tune", "report"])
def test_a_file_in_the_place_of_the_output_directory_is_a_sentence(command, finished, ratings_path, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "plan.yaml").write_text("models: [MF]\ndatasets: [board]\n")
    output_dir = tmp_path / "file" / ("below" if command == "train" else "")
    places = [f"--output_dir={output_dir}", f"--data_path={ratings_path}"]
    arguments = {
        "train": ["--model=MF", "--dataset=board", *places],
        "benchmark": ["benchmark", f"--config={tmp_path / 'plan.yaml'}", *places],
        "tune": ["tune", "--model=MF", "--dataset=board", *places],
        "report": ["report", str(finished), places[0]],
    }[command]
    assert main.main(arguments) == 2
    error = capsys.readouterr().err
    assert f"error: {tmp_path / 'file'}" in error
    assert "something else has that name" in error
    assert (tmp_path / "file").read_text() == "mine"


FILES = {
    "config.yaml": 0,
    "record.json": 1,
    "checkpoint.pt": 1,
    "metrics.jsonl": 1,
    "per_user.npz": 0,
    "run.log": 3,
    "events": 4,
}  # each file of a run, and after how many successes the disk refuses it
REFUSALS = [
    ("config.yaml", "ENOSPC", False),
    ("record.json", "EIO", False),
    ("record.json", "EIO", True),
    ("checkpoint.pt", "ESTALE", False),
    ("checkpoint.pt", "ENOENT", True),
    ("metrics.jsonl", "EMFILE", False),
    ("per_user.npz", "ENOSPC", True),
    ("run.log", "EIO", False),
    ("events", "EIO", True),
]


class Disk:
    """Refuses a file of a run with an error number after some successes, once or from then on."""

    def __init__(self, patched, name: str, number: int, lasting: bool):
        self.name, self.number, self.lasting, self.left, self.refused = name, number, lasting, FILES[name], 0
        replaced = lambda _, target: Path(target).name == name  # noqa: E731
        opened = lambda path, mode="r", *_, **__: Path(str(path)).name == name and mode == "a"  # noqa: E731
        logged = lambda handler: Path(getattr(handler, "baseFilename", "")).name == name  # noqa: E731
        self.watch(patched, os, "replace", replaced)
        self.watch(patched, builtins, "open", opened)
        self.watch(patched, logging.StreamHandler, "flush", logged)
        self.watch(patched, event_file_writer.RecordWriter, "write", lambda *_: name == "events")

    def watch(self, patched, home, call: str, is_meant: Callable) -> None:
        original = getattr(home, call)

        def perform(*arguments, **options):
            if is_meant(*arguments, **options):
                self.left -= 1
                if self.left < 0 and (self.lasting or not self.refused):
                    self.refused += 1
                    raise OSError(self.number, os.strerror(self.number))
            return original(*arguments, **options)

        patched.setattr(home, call, perform)


@pytest.fixture(scope="module")
def unbroken(ratings_path, tmp_path_factory):
    """The keys of a run, and its test result."""
    given = {"epochs": 3, "refit": False}
    return given, run_one(small_config(ratings_path, tmp_path_factory.mktemp("unbroken"), "MF", **given))[0].test


@pytest.mark.parametrize(("name", "error", "lasting"), REFUSALS)
def test_whatever_the_disk_refuses_is_an_interruption_that_names_the_file(
    name, error, lasting, unbroken, make_config, monkeypatch, tmp_path
):
    """The run goes on to the same end once the disk is well again."""
    given, test = unbroken
    with monkeypatch.context() as patched:
        disk = Disk(patched, name, getattr(errno, error), lasting)
        with pytest.raises(OutputError) as met:
            run_one(make_config("MF", **given))
    assert disk.refused
    (path,) = (tmp_path / "runs").iterdir()
    assert str(met.value).startswith(f"{path}/{name}")
    assert f": {os.strerror(getattr(errno, error))}; " in str(met.value)
    assert not list(path.glob(".*.partial"))
    if name == "config.yaml":  # it is written before the record
        return
    record = read_run(path).record
    stays = name == "record.json" and lasting
    assert record["status"] == ("running" if stays else "interrupted")
    assert record["error"] == (None if stays else str(met.value))
    assert resume(path)[0].test == test


def test_the_first_error_is_seen_and_not_that_of_the_record(make_config, monkeypatch):
    def fails(self, batch):
        monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
        raise ValueError("the model's own")

    monkeypatch.setattr(DGRM, "generator_loss", fails)
    with pytest.raises(ValueError, match="the model's own"):
        run_one(make_config())


def test_a_disk_without_locks_is_a_sentence(make_config, monkeypatch, tmp_path):
    number = errno.ENOLCK
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(number, os.strerror(number))))
    said = rf"\.lock: {os.strerror(number)}; this disk has no locks; name an --output_dir on another"
    with pytest.raises(OutputError, match=said):
        run_one(make_config(), tmp_path / "run")


def test_a_worker_whose_disk_refuses_a_file_is_interrupted_not_failed(make_config, tmp_path):
    job = executors.Job("MF", make_config("MF").given, 1, 60)
    saved = job.record_end(tmp_path / "run", "the process ended with status 1: OutputError: record.json: EIO")
    assert saved.record["status"] == "interrupted"


def test_a_checkpoint_that_the_disk_does_not_give_is_not_said_to_be_damaged(finished, monkeypatch):
    monkeypatch.setattr(torch, "load", Mock(side_effect=OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(OutputError, match=r"checkpoint\.pt: Input/output error; check the disk, then continue with"):
        resume(finished)


def test_a_run_of_a_benchmark_that_the_disk_stops_is_interrupted_and_goes_on(ratings_path, monkeypatch, tmp_path):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    plan = {"models": ["MF"], "datasets": ["noise"], "seeds": [1], "config": {"epochs": 2, "device": "cpu"}}
    made = session.Benchmark.read(plan, tmp_path / "out", {}, str(ratings_path))
    with monkeypatch.context() as patched:
        Disk(patched, "config.yaml", errno.ESTALE, lasting=False)
        assert set(made.run().runs.values()) == {"interrupted"}
    assert set(made.run().runs.values()) == {"finished"}


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


def test_a_run_that_sigterm_meets_before_it_listens_is_interrupted_not_failed(make_config, monkeypatch, tmp_path):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    command = [sys.executable, "-c", code]
    monkeypatch.setattr(processes, "spawn", lambda *_: subprocess.Popen(command, stdin=subprocess.PIPE))
    executors.execute(executors.Job("MF", make_config("MF").given, 1, 60), tmp_path / "run")
    assert read_run(tmp_path / "run").record["status"] == "interrupted"
