"""Files of a run that parse and lie: with any place forged, whoever reads them gives a result or a sentence."""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from helpers import interrupted, wait_for

from recbole_dgrm import records
from recbole_dgrm.benchmarks import worker
from recbole_dgrm.cli import main
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.errors import CheckpointError, DataError, OutputError, UserError
from recbole_dgrm.evaluation.collapse import of_record
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.records import read_epochs, read_run, write_config
from recbole_dgrm.reports import benchmark_figures, collapse_figures, document
from recbole_dgrm.reports.benchmark_report import write_report
from recbole_dgrm.reports.collapse_report import write_diagnosis
from recbole_dgrm.reports.run_table import run_table
from recbole_dgrm.reports.statistics import read_plan
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.runs.trained_run import load_run
from recbole_dgrm.system import processes
from recbole_dgrm.system.files import parse_json
from recbole_dgrm.training.checkpoints import read_checkpoint
from recbole_dgrm.training.plain_state import pack, unpack
from recbole_dgrm.tuning.plan import SearchPlan

CPU = torch.device("cpu")
NUMBERS: list[Any] = [None, True, -1, 0, 10**9, 10**18, -1e300, 1e300, 0.5]
TEXTS: list[Any] = ["", "text", "\x1b[31m", "$\\foo$"]
FORGED: list[Any] = [*NUMBERS, *TEXTS, [], [1], [[]], {}, {"a": 1}, [None], "x" * 10_000]
RATINGS = {"generator_hidden": [8], "epochs": 2, "diagnose_every": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, ratings_path):
    """A folder with a run of DGRM and one of MF, both finished and watched."""
    folder = tmp_path_factory.mktemp("forged") / "runs"
    for model, keys in [("DGRM", RATINGS), ("MF", {"epochs": 2, "diagnose_every": 1})]:
        given = {"model": model, "dataset": "noise", "data_path": str(ratings_path), "device": "cpu", "refit": False}
        run_one(load_config(config_dict={**given, **keys, "output_dir": str(folder)}), folder / model)
    return folder


@pytest.fixture
def copy(runs, tmp_path) -> Path:
    """The run of DGRM in a folder of its own, to be damaged."""
    return shutil.copytree(runs / "DGRM", tmp_path / "one" / "DGRM")


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Places in nested lists and mappings, whole ones too; of a long list the first and the last."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in [pair for pair in inner if not (isinstance(value, list) and 0 < pair[0] < len(value) - 1)]:
        yield from leaves(item, (*path, key))


def forge(content: Any, path: tuple, change: Callable[[Any, Any], None]) -> Any:
    """A copy of ``content`` with one place changed."""
    content = json.loads(json.dumps(content))
    at = content
    for key in path[:-1]:
        at = at[key]
    change(at, path[-1])
    return content


def variants(content: Any, seed: int, n: int) -> Iterator[tuple[str, Any]]:
    """``n`` forgeries: a place taken out, or with another value."""
    rng = np.random.default_rng(seed)
    places = [path for path in leaves(content) if path]
    for index in rng.permutation(len(places) * (len(FORGED) + 1))[:n]:
        path, value = places[index // (len(FORGED) + 1)], index % (len(FORGED) + 1)
        if value == len(FORGED):
            yield f"{path} removed", forge(content, path, lambda at, key: at.pop(key))
        else:
            new = FORGED[value]
            yield f"{path} = {new!r:.40}", forge(content, path, lambda at, key, new=new: at.__setitem__(key, new))


READERS: dict[str, Callable[[Path], object]] = {
    "report": lambda folder: write_report(folder, folder),
    "diagnosis": write_diagnosis,
    "terminal": lambda folder: [(run_table(run), of_record(run)) for run in [read_run(folder / "DGRM").record]],
    "load": lambda folder: load_run(folder / "DGRM"),
}


@pytest.fixture
def quick(monkeypatch):
    """Figures are built and not drawn."""
    for module in (benchmark_figures, collapse_figures):
        monkeypatch.setattr(module, "save", lambda figure, path: None)
    monkeypatch.setattr(document, "_embedded", lambda path: "")


def judge(folder: Path, what: str) -> None:
    """Every reader gives a result or a sentence."""
    for name, read in READERS.items():
        try:
            read(folder)
        except UserError:
            continue
        except Exception as error:
            raise AssertionError(f"{what}: {name} raises {type(error).__name__}: {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_record_with_any_place_forged_is_read_or_refused_in_a_sentence(seed, runs, tmp_path, quick):
    folder = shutil.copytree(runs, tmp_path / "runs")
    file = folder / "DGRM" / "record.json"
    for what, forged in variants(json.loads(file.read_text()), seed, 16):
        file.write_text(json.dumps(forged))
        judge(folder, what)


@pytest.mark.slow
def test_epochs_with_any_place_forged_are_read_or_refused_in_a_sentence(runs, tmp_path, quick):
    folder = shutil.copytree(runs, tmp_path / "runs")
    file = folder / "DGRM" / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for what, forged in variants(lines, 0, 16):
        file.write_text("".join(json.dumps(line) + "\n" for line in forged))
        judge(folder, what)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("test", {"rmse": -1e300}, "test rmse is -1e"),
        ("test", {"rmse": True}, "test rmse is true, not a number"),
        ("seed", "7", 'seed is "7", not a whole number'),
        ("seed", True, "seed is true"),
        ("seed", -1, "seed is -1"),
        ("status", "splendid", 'status is "splendid", not running or finished'),
        ("parameters", -5, "parameters is -5"),
        ("config", {"eval_step": "5"}, 'config eval_step is "5", not a whole number'),
        ("config", {"bias_shrinkage": [10]}, r"config bias_shrinkage is \[10\], not a number"),
        ("config", {"metric_decimal_place": -(10**9)}, "config metric_decimal_place is -1000000000"),
        ("timing", {"train_s": "long"}, 'timing train_s is "long"'),
        ("timing", {"train_s": -1.0}, "timing train_s is -1.0"),
        ("data", {"n_users": 1.5}, "data n_users is 1.5"),
        ("reference", {"bias": {"rmse": []}}, "reference bias rmse is "),
        ("environment", {"python": {}}, "environment python is a dict"),
        ("diagnosis", {"verdict": {"status": "intact"}}, "diagnosis verdict has no reason"),
        ("diagnosis", {"distribution": {"rated": {"n": 3}}}, "diagnosis distribution rated has no mean"),
        ("diagnosis", {"ks": {"users": 0, "alphas": [], "hits": []}}, "diagnosis ks users is 0"),
    ],
)
def test_a_forged_value_is_named_with_its_place(copy, place, value, said):
    file = copy / "record.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), place: value}))
    with pytest.raises(DataError, match=rf"record\.json is not the record of a run \({said}") as error:
        load_run(copy)
    with pytest.raises(DataError, match=r"record\.json"):
        write_report(copy, copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a": ' * 40 + "1" + "}" * 40,
        '{"seed": NaN}',
        '{"seed": 1e999}',
        '{"seed": ' + "9" * 5000 + "}",
        '{"label": "\\ud800"}',
    ],
)
def test_json_that_no_file_of_ours_holds_is_refused(text, copy):
    with pytest.raises(ValueError, match=r"nested|no number|beyond|digits|surrogates"):
        parse_json(text)
    for name, read in [("record.json", read_run), ("search.json", SearchPlan.load), ("benchmark.json", read_plan)]:
        (copy / name).write_text(text)
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            read(copy)


def test_files_larger_than_any_of_ours_are_not_read(copy, monkeypatch):
    monkeypatch.setattr(records, "LARGEST_JSON", 1000)
    with pytest.raises(DataError, match=r"record\.json is not the record of a run \(larger than 1,000 bytes\)"):
        read_run(copy)
    monkeypatch.setattr(records, "LARGEST_LINE", 100)
    with pytest.raises(DataError, match=r"line 1 of .*metrics\.jsonl is damaged \(it is longer than 100 bytes\)"):
        read_epochs(copy)
    (copy / "metrics.jsonl").write_bytes(b"x" * 200)
    with pytest.raises(DataError, match="longer than 100"):
        read_epochs(copy)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"epoch": 0}, "epoch 0 stands there again"),
        ({"epoch": 9, "seconds": "long"}, 'seconds is "long"'),
        ({"epoch": 9, "seconds": -3}, "seconds is -3"),
        ({"epoch": 9, "stage": "dream"}, 'stage is "dream"'),
        ({"epoch": "ten"}, 'epoch is "ten"'),
        ({"epoch": 9, "distribution": {"lists": {}}}, "distribution lists has no n"),
    ],
)
def test_a_forged_epoch_is_named_with_its_line(copy, line, said):
    with open(copy / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"stage": "select", "seconds": 1.0, **line}) + "\n")
    with pytest.raises(DataError, match=rf"line 3 of .*metrics\.jsonl is damaged \({said}"):
        read_epochs(copy)


def bomb(path: Path) -> None:
    """A few kilobytes that unpack to eight gigabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("user.npy", b"")
        file.infolist()[0].file_size = 8 << 30


USERS = np.array(["a", "b"])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: np.savez(path, user=USERS, rmse=np.array([{}, {}], dtype=object)), "allow_pickle"),
        (lambda path: np.savez(path, user=USERS, rmse=np.zeros((2, 2))), "rmse is an array of float64"),
        (lambda path: np.savez(path, user=USERS, rmse=np.array(["x", "y"])), "rmse is an array of <U1"),
        (lambda path: np.savez(path, user=np.zeros(2), rmse=np.zeros(2)), "user is an array of float64"),
        (lambda path: np.savez(path, user=np.array(["a", "a"]), rmse=np.zeros(2)), "a user stands there twice"),
        (lambda path: np.savez(path, user=USERS, rmse=np.array([1.0, np.inf])), "rmse reaches beyond"),
        (lambda path: np.savez(path, rmse=np.zeros(2)), "user"),
        (bomb, "8,589,934,592 bytes are packed in it"),
    ],
)
def test_forged_vectors_are_none(copy, write, said):
    write(copy / "per_user.npz")
    with pytest.raises(DataError, match=rf"per_user\.npz holds no metric vectors \(.*{said}"):
        read_run(copy).per_user()


def test_a_directory_in_the_place_of_a_record_is_no_run(copy):
    (copy / "record.json").unlink()
    (copy / "record.json").mkdir()
    with pytest.raises(DataError, match=r"there is no run in .*no record\.json lies below it"):
        write_report(copy, copy)


# Checkpoints


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    state = read_checkpoint(path, CPU)
    change(state)
    torch.save(state, path)


def weight(state: dict, part: str, value: float) -> None:
    next(iter(state[part].values())).view(-1)[0] = value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("part", "read"), [("best_state_dict", load_run), ("state_dict", lambda path: resume(interrupted(path)))]
)
def test_weights_that_are_no_numbers_are_refused(value, part, read, copy):
    rewrite(copy / "checkpoint.pt", lambda state: weight(state, part, value))
    with pytest.raises(
        CheckpointError, match=r"checkpoint\.pt does not fit this run .* holds what is no finite number"
    ):
        read(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.update(epoch=-1), "epoch is -1"),
        (lambda state: state.update(best_epoch=99), "best_epoch is 99"),
        (lambda state: state.update(lines=-1), "lines is -1"),
        (lambda state: state.update(cur_step=-1), "cur_step is -1"),
        (lambda state: state.update(best_valid_score=float("nan")), "best_valid_score is nan"),
        (lambda state: state.update(lines=50), "metrics.jsonl has 2 lines, but checkpoint.pt was written after 50"),
        (lambda state: state["note"].update(selected={"epochs": 10**9, "valid": {}}), "its note is damaged"),
        (lambda state: state["note"].update(selected={"epochs": 1, "valid": {"rmse": "x"}}), "its note is damaged"),
        (lambda state: state["random"]["numpy"].__setitem__(2, 10**6), "a random state at 1000000 of 624"),
        (lambda state: state.update(other={"w": 1}), r"it keeps \['w'\], not \[\]"),
    ],
)
def test_counts_that_cannot_be_are_refused(change, said, copy):
    rewrite(copy / "checkpoint.pt", change)
    with pytest.raises(CheckpointError, match=said):
        resume(interrupted(copy))


def test_a_packed_checkpoint_is_refused(copy):
    path = copy / "checkpoint.pt"
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content + bytes(10**6))
    with pytest.raises(
        CheckpointError, match=r"checkpoint\.pt is not a checkpoint of plain data \(its parts are packed"
    ):
        load_run(copy)


MATRIX = scipy.sparse.random(6, 5, 0.4, format="csr", random_state=0)


def packed(**changed: Any) -> dict[str, Any]:
    value = pack(MATRIX)
    data, indices, indptr = value["sparse"]
    parts = {"data": data, "indices": indices, "indptr": indptr} | changed
    named = {key: parts.get(key, value[key]) for key in ("shape", "format")}
    return {"sparse": [parts["data"], parts["indices"], parts["indptr"]], **named}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"indices": torch.full((MATRIX.nnz,), 10**6, dtype=torch.int32)}, "outside its 5 columns"),
        ({"indices": torch.full((MATRIX.nnz,), -1, dtype=torch.int32)}, "outside its 5 columns"),
        ({"indices": torch.zeros(2, dtype=torch.int32)}, "12 values at 2 places"),
        ({"indices": torch.zeros(MATRIX.nnz)}, "12 values at 12 places"),
        ({"indptr": torch.tensor([0, 9, 3, 3, 3, 3, 12], dtype=torch.int32)}, "do not divide"),
        ({"indptr": torch.tensor([0, 2, 3, 3, 3, 3, 10**6], dtype=torch.int32)}, "do not divide"),
        ({"indptr": torch.tensor([-4, 2, 3, 3, 3, 3, 12], dtype=torch.int32)}, "do not divide"),
        ({"indptr": torch.zeros(0, dtype=torch.int32)}, "do not divide"),
        ({"data": torch.zeros(MATRIX.nnz, 2)}, "no vectors of numbers"),
        ({"data": torch.zeros(MATRIX.nnz, dtype=torch.complex64)}, "no vectors of numbers"),
        ({"shape": [6, -5]}, "of shape"),
        ({"shape": [6, 10**15]}, "of shape"),
        ({"shape": [6.0, 5]}, "of shape"),
        ({"shape": [6]}, "of shape"),
        ({"shape": [10**7, 5]}, "do not divide"),
        ({"format": "dia"}, "of format 'dia'"),
    ],
)
def test_a_forged_sparse_matrix_never_comes_to_scipy(changed, said):
    with pytest.raises(ValueError, match=said):
        unpack(packed(**changed))


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok"])
def test_a_sparse_matrix_comes_back_as_it_was(kind):
    value = MATRIX.asformat(kind)
    again = unpack(pack(value))
    assert again.format == kind
    assert (again != value).nnz == 0


@pytest.mark.parametrize(
    "forged", [np.zeros((3, 3)), scipy.sparse.eye(3, format="csr"), torch.zeros(2), None, "text"], ids=str
)
def test_what_a_model_keeps_beside_its_weights_must_be_of_its_form(forged, make_config, tmp_path):
    _, path = run_one(make_config("ItemKNN"))
    rewrite(path / "checkpoint.pt", lambda state: state["best_other"].update(pred_mat=pack(forged)))
    with pytest.raises(CheckpointError, match=r"does not fit this run .*pred_mat is no sparse matrix"):
        load_run(path)


# Two at a time, and nowhere to write


def test_a_second_resume_of_one_run_is_refused(copy):
    interrupted(copy)
    with processes.alone_in(copy, "process"):
        before = {path: path.read_bytes() for path in copy.iterdir() if path.is_file()}
        with pytest.raises(UserError, match=f"^another process is at work in {copy}; wait for its end"):
            resume(copy)
        assert {path: path.read_bytes() for path in before} == before
    assert resume(copy)[0].status == "finished"
    assert not list(copy.glob(".*.partial"))


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_free_at_once(make_config, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    write_config(path, make_config(epochs=100_000, stopping_step=100_000).given)
    process = processes.spawn("recbole_dgrm.benchmarks.worker", [str(path), "DGRM"], tmp_path / "output.txt", 1)
    wait_for((path / "checkpoint.pt").exists)
    with pytest.raises(UserError, match="another process is at work"):
        resume(path)
    process.kill()
    process.wait()
    config = load_config([path / "config.yaml"], {"epochs": 2})
    with suppress(CheckpointError):  # it had come further than these two epochs
        run_one(config, path)


def test_a_directory_removed_during_training_is_a_sentence(make_config, monkeypatch, tmp_path, capsys, ratings_path):
    original = DGRM.generator_loss

    def remove(self, batch):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        return original(self, batch)

    monkeypatch.setattr(DGRM, "generator_loss", remove)
    with pytest.raises(OutputError, match=r"/DGRM-noise\S* was removed while the run was at work in it; start the run"):
        run_one(make_config())
    where = [f"--data_path={ratings_path}", f"--output_dir={tmp_path / 'runs'}"]
    status = main.main(["--model=DGRM", "--dataset=noise", "--device=cpu", *where])
    assert status == 2
    said = capsys.readouterr().err
    assert "was removed while" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_directory_removed_under_a_worker_is_a_failed_run(make_config, tmp_path):
    path = tmp_path / "run"
    config = make_config(epochs=100_000, stopping_step=100_000).given
    job = worker.Job("DGRM", config, 1, 60)
    thread = Thread(target=worker.execute, args=(job, path))
    thread.start()
    wait_for((path / "checkpoint.pt").exists)
    while thread.is_alive() and path.exists():
        shutil.rmtree(path, ignore_errors=True)
    thread.join()
    record = read_run(path).record
    assert record["status"] == "failed"
    assert "removed" in record["error"]
