"""The doctor's findings, each in a broken installation too."""

import importlib
import sys
from importlib import metadata

import pytest
import torch

from recbole_dgrm.cli import checks, main
from recbole_dgrm.cli.checks import FAILS, LIMITED, WORKS, Row


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> dict[str, Row]:
    """What the doctor finds where the tests run."""
    return {row.what: row for row in checks.examine(tmp_path_factory.mktemp("runs"))}


def without(monkeypatch, *modules: str) -> None:
    """Let imports of these modules fail, as where they are not installed."""
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


def found(tmp_path) -> dict[str, Row]:
    return {row.what: row for row in checks.examine(tmp_path)}


def test_where_the_tests_run_nothing_essential_is_missing(rows):
    assert not [row for row in rows.values() if row.state == FAILS or (row.state != WORKS and not row.cure)]
    for name in ("python", "recbole", "torch", "numpy", "pandas", "scipy", "optuna", "distributed"):
        assert name in rows
    assert rows["torch"].found == metadata.version("torch")  # of a CUDA build torch itself says +cu132, too
    assert rows["ml-100k of RecBole"].found == "943 users, 1,682 items, 100,000 ratings"
    assert not {"pytest", "hypothesis", "ruff", "mkdocs"} & set(rows)  # for development


def test_a_missing_library_is_a_row_with_its_cure_and_stops_no_other_check(monkeypatch, tmp_path):
    without(monkeypatch, "torch", "recbole", "distributed", "recbole_dgrm.config.layers")
    rows = found(tmp_path)
    for name in ("torch", "recbole", "GPU", "distributed", "ml-100k of RecBole"):
        assert rows[name].found.startswith(("ModuleNotFoundError", "ImportError"))
        assert rows[name].cure
    assert rows["torch"].state == rows["recbole"].state == rows["ml-100k of RecBole"].state == FAILS
    assert rows["recbole"].cure == "pip install --no-deps recbole==1.2.1"
    assert (rows["distributed"].state, rows["distributed"].cure) == (LIMITED, "pip install 'recbole-dgrm[distributed]'")
    assert rows["pandas"].state == rows["output directory"].state == WORKS


def test_without_metadata_of_the_package_no_version_is_known(monkeypatch, tmp_path):
    without(monkeypatch, "packaging", "packaging.requirements")
    assert found(tmp_path)["versions"].state == FAILS


def test_a_version_outside_what_setup_py_allows_does_not_work(monkeypatch, tmp_path):
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "4.0.1" if name == "pandas" else version(name))
    row = found(tmp_path)["pandas"]
    assert (row.state, row.cure) == (FAILS, checks.REINSTALL)
    assert row.found.startswith("4.0.1, wanted")


def test_a_gpu_is_named_and_a_driver_without_its_torch_is_noticed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(checks.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    row = checks.checked("GPU", checks.gpu, checks.GPU_CURE, LIMITED)
    assert row.state == LIMITED
    assert "there is a driver" in row.found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", "card {}".format)
    assert checks.gpu().startswith("card 0, card 1; CUDA")


def test_an_output_directory_is_tried_and_nothing_is_left(tmp_path):
    assert "can be written" in checks.writable(tmp_path / "new" / "runs")
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs").write_text("")
    assert found(tmp_path / "runs")["output directory"].state == FAILS


def test_the_exit_status_says_whether_anything_essential_fails(monkeypatch, capsys):
    for state, status in ((WORKS, 0), (LIMITED, 0), (FAILS, 1)):
        monkeypatch.setattr(checks, "examine", lambda _, state=state: [Row("torch", "[2.13]", state, "pip 'a[b]'")])
        assert main.main(["doctor"]) == status
        out = capsys.readouterr().out
        assert "[2.13]" in out
        assert "pip 'a[b]'" in out
        assert state in out


def test_a_command_needs_no_library_of_another(monkeypatch):
    without(monkeypatch, "numpy")
    for name in ("recbole_dgrm.cli.main", "recbole_dgrm.cli.doctor", "recbole_dgrm.cli.checks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.import_module(name)
