"""What a full, read-only or broken disk does: a sentence with the file and the remedy, and nothing lost."""

import builtins
import errno
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from helpers import Here, interrupted
from tensorboard.summary.writer import event_file_writer

from recbole_dgrm.benchmarks import executors, session
from recbole_dgrm.cli import main
from recbole_dgrm.errors import OutputError, explained
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.records import read_run
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.testing.small import small_config
from recbole_dgrm.training.checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def unbroken(ratings_path, tmp_path_factory):
    """The keys of a run, its test result and its directory."""
    given = {"epochs": 3, "refit": False}
    record, path = run_one(small_config(ratings_path, tmp_path_factory.mktemp("unbroken"), "MF", **given))
    return given, record.test, path


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
def test_a_file_in_the_place_of_the_output_directory_is_a_sentence(command, unbroken, ratings_path, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "plan.yaml").write_text("models: [MF]\ndatasets: [board]\n")
    output_dir = tmp_path / "file" / ("below" if command == "train" else "")
    places = [f"--output_dir={output_dir}", f"--data_path={ratings_path}"]
    arguments = {
        "train": ["--model=MF", "--dataset=board", *places],
        "benchmark": ["benchmark", f"--config={tmp_path / 'plan.yaml'}", *places],
        "tune": ["tune", "--model=MF", "--dataset=board", *places],
        "report": ["report", str(unbroken[2]), places[0]],
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


@pytest.mark.parametrize(("name", "error", "lasting"), REFUSALS)
def test_whatever_the_disk_refuses_is_an_interruption_that_names_the_file(
    name, error, lasting, unbroken, make_config, monkeypatch, tmp_path
):
    """The run goes on to the same end once the disk is well again."""
    given, test, _ = unbroken
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


def test_a_checkpoint_that_the_disk_does_not_give_is_not_said_to_be_damaged(unbroken, monkeypatch, tmp_path):
    path = interrupted(Path(shutil.copytree(unbroken[2], tmp_path / "run")))
    monkeypatch.setattr(torch, "load", Mock(side_effect=OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(OutputError, match=r"checkpoint\.pt: Input/output error; check the disk, then continue with"):
        resume(path)


def test_a_run_of_a_benchmark_that_the_disk_stops_is_interrupted_and_goes_on(ratings_path, monkeypatch, tmp_path):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    plan = {"models": ["MF"], "datasets": ["noise"], "seeds": [1], "config": {"epochs": 2, "device": "cpu"}}
    made = session.Benchmark.read(plan, tmp_path / "out", {}, str(ratings_path))
    with monkeypatch.context() as patched:
        Disk(patched, "config.yaml", errno.ESTALE, lasting=False)
        assert set(made.run().runs.values()) == {"interrupted"}
    assert set(made.run().runs.values()) == {"finished"}
