"""The doctor's findings, each in a broken installation too."""

import importlib
import sys
from functools import partial
from importlib import metadata

import torch

from recbole_dgrm.cli import checks, main
from recbole_dgrm.cli.checks import FAILS, LIMITED, WORKS, Row


def without(monkeypatch, *modules: str) -> None:
    """Let imports of these modules fail, as where they are not installed."""
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


def found(tmp_path) -> dict[str, Row]:
    return {row.what: row for row in checks.examine(tmp_path)}


def test_where_the_tests_run_nothing_essential_is_missing(tmp_path):
    rows = found(tmp_path)
    assert not [row for row in rows.values() if row.state == FAILS or (row.state != WORKS and not row.cure)]
    assert {"python", "recbole", "torch", "numpy", "pandas", "scipy", "optuna", "distributed"} <= set(rows)
    assert rows["torch"].result == metadata.version("torch")  # of a CUDA build torch itself says +cu132, too
    assert rows["ml-100k of RecBole"].result == "943 users, 1,682 items, 100,000 ratings"
    assert not {"pytest", "hypothesis", "ruff", "mkdocs"} & set(rows)  # for development


def test_a_missing_library_is_a_row_with_its_cure_and_stops_no_other_check(monkeypatch, tmp_path):
    without(monkeypatch, "torch", "recbole", "distributed", "recbole_dgrm.config.layers")
    rows = found(tmp_path)
    for name in ("torch", "recbole", "GPU", "distributed", "ml-100k of RecBole"):
        assert rows[name].result.startswith(("ModuleNotFoundError", "ImportError"))
        assert rows[name].cure
    assert rows["torch"].state == rows["recbole"].state == rows["ml-100k of RecBole"].state == FAILS
    assert rows["recbole"].cure == "pip install --no-deps recbole==1.2.1"
    assert (rows["distributed"].state, rows["distributed"].cure) == (LIMITED, "pip install 'recbole-dgrm[distributed]'")
    assert rows["pandas"].state == rows["output directory"].state == WORKS
    without(monkeypatch, "packaging", "packaging.requirements")
    assert found(tmp_path)["versions"].state == FAILS


def test_a_version_outside_what_setup_py_allows_does_not_work(monkeypatch):
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "4.0.1" if name == "pandas" else version(name))
    (row,) = [row for row in checks.libraries() if row.what == "pandas"]
    assert (row.state, row.cure) == (FAILS, checks.REINSTALL)
    assert row.result.startswith("4.0.1, wanted")


def test_a_gpu_is_named_and_a_driver_without_its_torch_is_noticed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(checks.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    row = checks.checked("GPU", checks.gpu, checks.GPU_CURE, LIMITED)
    assert row.state == LIMITED
    assert "there is a driver" in row.result
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", "card {}".format)
    assert checks.gpu().startswith("card 0, card 1; CUDA")


def test_an_output_directory_is_tried_and_nothing_is_left(tmp_path):
    assert "can be written" in checks.writable(tmp_path / "new" / "runs")
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs").write_text("")
    assert checks.checked("output directory", partial(checks.writable, tmp_path / "runs")).state == FAILS


def test_the_exit_status_says_whether_anything_essential_fails(monkeypatch, capsys):
    for state, status in ((WORKS, 0), (LIMITED, 0), (FAILS, 1)):
        monkeypatch.setattr(checks, "examine", lambda _, state=state: [Row("torch", "[2.13]", state, "pip 'a[b]'")])
        assert main.main(["doctor"]) == status
        out = capsys.readouterr().out
        assert all(words in out for words in ("[2.13]", "pip 'a[b]'", state))


def test_a_command_needs_no_library_of_another(monkeypatch):
    without(monkeypatch, "numpy")
    for name in ("recbole_dgrm.cli.main", "recbole_dgrm.cli.checks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.import_module(name)
