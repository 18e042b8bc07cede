"""What a broken machine or a foreign file does: a sentence with the remedy, and nothing lost."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import interrupted, wait_for

from recbole_dgrm.benchmarks import worker
from recbole_dgrm.cli import main
from recbole_dgrm.errors import CheckpointError, DataError, OutOfMemory, OutputError, UserError, explained
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.records import read_run
from recbole_dgrm.reports.statistics import read_plan
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.system import processes
from recbole_dgrm.training import checkpoints
from recbole_dgrm.training.checkpoints import read_checkpoint, write_checkpoint
from recbole_dgrm.tuning.plan import SearchPlan

CPU = torch.device("cpu")


@pytest.fixture
def finished(make_config) -> Path:
    """The directory of a run that has all files of a finished one, and goes on."""
    return interrupted(run_one(make_config(generator_hidden=[8], epochs=1))[1])


@contextmanager
def file_size_limit(size: int):
    """Inside, no file can grow beyond ``size`` bytes: a disk that is full for the large ones."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Checkpoints of strangers


def changed(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Rewrites the checkpoint after ``change``."""

    def rewrite(path: Path) -> None:
        state = read_checkpoint(path, CPU)
        change(state)
        torch.save(state, path)

    return rewrite


def first(state: dict, part: str) -> str:
    return next(key for key, value in state[part].items() if value.dim() == 2)


def reshape(part: str) -> Callable[[Path], None]:
    return changed(lambda state: state[part].update({first(state, part): torch.zeros(3, 5)}))


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("letter.txt", "nothing of ours")


def reshape_optimizer(state: dict) -> None:
    kept = next(iter(state["optimizer"].values()))["state"]
    next(iter(kept.values()))["exp_avg"] = torch.zeros(7, 7)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b""), "is not a checkpoint of plain data"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "is not a checkpoint of plain data"),
        (lambda path: path.write_bytes(np.random.default_rng(0).bytes(999)), "is not a checkpoint of plain data"),
        (other_zip, "is not a checkpoint of plain data"),
        (lambda path: torch.save([1, 2], path), "is not a checkpoint of a run: it holds a list"),
        (changed(lambda state: state.update(model="MF")), "is of MF, this run is of DGRM"),
        (changed(lambda state: state.pop("random")), "random is missing"),
        (changed(lambda state: state.update(epoch="3")), "epoch is a str, not int"),
        (changed(lambda state: state.update(state_dict=None)), "state_dict is a NoneType, not dict"),
        (reshape("state_dict"), "does not fit this run .*size mismatch"),
        (reshape("best_state_dict"), "does not fit this run .*size mismatch"),
        (changed(lambda state: state["state_dict"].popitem()), "does not fit this run .*Missing key"),
        (changed(lambda state: state["state_dict"].update(dict.fromkeys(state["state_dict"], "x"))), "does not fit"),
        (changed(reshape_optimizer), r"does not fit this run .*the optimizer's exp_avg is \(7, 7\)"),
        (changed(lambda state: state["optimizer"].clear()), "does not fit this run .KeyError"),
        (changed(lambda state: state["random"].clear()), "does not fit this run .KeyError"),
        (changed(lambda state: state["note"].clear()), "its note is damaged"),
        (changed(lambda state: state["note"]["selected"].update(epochs="many")), "its note is damaged"),
    ],
)
def test_a_foreign_checkpoint_is_a_sentence_with_its_name_and_the_remedy(finished, damage, said):
    path = finished / "checkpoint.pt"
    damage(path)
    content = path.read_bytes()
    with pytest.raises(
        CheckpointError, match=rf"(?s)checkpoint\.pt .*{said}.*; move it away, and the run begins again"
    ):
        resume(finished)
    assert path.read_bytes() == content  # whoever wants it can look at it


def test_without_the_foreign_checkpoint_the_run_begins_again_to_the_same_end(make_config):
    record, path = run_one(make_config())
    (interrupted(path) / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(CheckpointError):
        resume(path)
    (path / "checkpoint.pt").rename(path / "foreign")
    assert resume(path)[0].test == record.test


# Other damaged files


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("record.json", b"", read_run),
        ("record.json", b'{"model": 3}', read_run),
        ("metrics.jsonl", b'{"epoch": 0}\n{"epo\n{"epoch": 2}\n', lambda path: read_run(path).epochs()),
        ("metrics.jsonl", b"[]\n", lambda path: read_run(path).epochs()),
        ("metrics.jsonl", b"\xff\xff\n", lambda path: read_run(path).epochs()),
        ("metrics.jsonl", b"\xff\xff\n", resume),
        ("per_user.npz", b"", lambda path: read_run(path).per_user()),
        ("per_user.npz", b"PK\x05\x06", lambda path: read_run(path).per_user()),
        ("config.yaml", b"", resume),
        ("config.yaml", b"\xff: [", resume),
        ("config.yaml", b"model: DGRM\ndataset: noise\nepochs: [", resume),
        ("benchmark.json", b"[]", read_plan),
        ("benchmark.json", b"{", read_plan),
        ("search.json", b"", SearchPlan.load),
        ("search.json", b'{"trials": 3}', SearchPlan.load),
    ],
)
def test_a_damaged_file_of_a_run_is_a_sentence_with_its_name(finished, name, content, read):
    (finished / name).write_bytes(content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        read(finished)


@pytest.mark.parametrize(("field", "value"), [("timing", []), ("test", {"rmse": "low"}), ("seed", "one"), ("error", 3)])
def test_a_record_with_values_of_another_kind_is_none(finished, field, value):
    record = read_run(finished).record
    worker.write_json(finished / "record.json", {**record, field: value})
    with pytest.raises(DataError, match=rf"record\.json is not the record of a run \({field} "):
        read_run(finished)


def test_vectors_of_different_lengths_are_none(finished):
    np.savez_compressed(finished / "per_user.npz", user=np.array(["a", "b"]), rmse=np.zeros(3))
    with pytest.raises(DataError, match=r"per_user\.npz holds vectors of different lengths"):
        read_run(finished).per_user()


def test_what_a_kill_left_of_a_writing_is_removed_when_the_run_goes_on(finished):
    for name in (".record.json.17.partial", ".checkpoint.pt.17.partial"):
        (finished / name).write_text("half")
    resume(finished)
    assert not list(finished.glob(".*"))


# Full and read-only disks


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    with file_size_limit(50_000), pytest.raises(OSError, match="File too large") as error:
        write_checkpoint(path, {"weights": torch.zeros(100_000)})
    assert error.value.filename == str(path)
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


def test_a_run_whose_disk_fills_up_is_interrupted_and_goes_on_to_the_same_end(make_config, monkeypatch, tmp_path):
    given = {"generator_hidden": [400], "epochs": 4, "refit": False}
    whole, _ = run_one(make_config(**given))
    calls = []

    def fills_up(path, state):
        calls.append(path)
        with file_size_limit(60_000 if len(calls) > 2 else 10_000_000):
            write_checkpoint(path, state)

    monkeypatch.setattr(checkpoints, "write_checkpoint", fills_up)
    with pytest.raises(OutputError, match=r"checkpoint\.pt: File too large; free some space or name an --output_dir"):
        run_one(make_config(**given, output_dir=str(tmp_path / "full")))
    monkeypatch.undo()
    (path,) = (tmp_path / "full").iterdir()
    record = read_run(path).record
    assert record["status"] == "interrupted"
    assert "File too large; free some space" in record["error"]
    assert read_checkpoint(path / "checkpoint.pt", CPU)["epoch"] == 1
    assert not list(path.glob(".*"))
    assert resume(path)[0].test == whole.test


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "name an --output_dir that can be written"),
        (errno.EACCES, "look at its permissions"),
        (errno.ENOTDIR, "something else has that name"),
    ],
)
def test_what_the_disk_refuses_is_a_sentence(number, remedy):
    with pytest.raises(OutputError, match=rf"^the/file: {os.strerror(number)}; .*{remedy}"), explained():
        raise OSError(number, os.strerror(number), "the/file")


@pytest.mark.parametrize("error", [OSError("no number"), FileNotFoundError(errno.ENOENT, "x", "y"), RuntimeError("x")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as found, explained():
        raise error
    assert found.value is error


@pytest.mark.parametrize("command", ["train", "benchmark", "tune", "report"])
@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_the_place_of_the_output_directory_is_said(command, below, finished, ratings_path, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "plan.yaml").write_text("models: [MF]\ndatasets: [board]\n")
    places = [f"--output_dir={tmp_path / 'file' / below}", f"--data_path={ratings_path}"]
    arguments = {
        "train": ["--model=MF", "--dataset=board", *places],
        "benchmark": ["benchmark", f"--config={tmp_path / 'plan.yaml'}", *places],
        "tune": ["tune", "--model=MF", "--dataset=board", *places],
        "report": ["report", str(finished), places[0]],
    }[command]
    assert main.main(arguments) == 2
    said = capsys.readouterr().err
    assert f"error: {tmp_path / 'file'}" in said
    assert "something else has that name" in said
    assert (tmp_path / "file").read_text() == "mine"


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
    worker.execute(worker.Job("MF", make_config("MF").given, str(tmp_path / "run"), 1, 60))
    assert read_run(tmp_path / "run").record["status"] == "interrupted"


@pytest.mark.slow
def test_a_worker_process_treats_sigterm_as_ctrl_c(make_config, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    config = make_config(epochs=100_000, stopping_step=100_000).given
    worker.write_config(path, config)
    process = processes.spawn("recbole_dgrm.benchmarks.worker", [str(path), "DGRM"], path / "output.txt", 1)
    wait_for((path / "checkpoint.pt").exists)
    process.terminate()
    assert process.wait(30) == 1
    assert read_run(path).record["status"] == "interrupted"
    shutil.rmtree(path)
