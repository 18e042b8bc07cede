"""The doctor's findings, each in a broken installation too."""

import importlib
import os
import subprocess
import sys
from importlib import metadata

import pytest
import torch

from recbole_dgrm import start
from recbole_dgrm.cli import checks, main
from recbole_dgrm.cli.checks import FAILS, LIMITED, WORKS, Check, Row
from recbole_dgrm.system import processor


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> dict[str, Row]:
    """What the doctor finds where the tests run."""
    return {row.what: row for row in checks.examine(tmp_path_factory.mktemp("runs"))}


def test_where_the_tests_run_nothing_essential_is_missing(rows):
    assert not [row for row in rows.values() if row.state == FAILS]
    for name in ("python", "recbole", "torch", "numpy", "pandas", "scipy", "optuna", "distributed", "faiss"):
        assert name in rows
    assert rows["torch"].found == metadata.version("torch")  # of a CUDA build torch itself says +cu132, too
    assert rows["ml-100k of RecBole"].found == "943 users, 1,682 items, 100,000 ratings"


def test_whatever_is_not_in_order_has_a_cure(rows):
    assert not [row for row in rows.values() if row.state != WORKS and not row.cure]


def test_libraries_for_development_are_not_asked_for(rows):
    assert not {"pytest", "hypothesis", "ruff", "mkdocs"} & set(rows)


def without(monkeypatch, *modules: str) -> None:
    """Let imports of these modules fail, as where they are not installed."""
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


def test_a_missing_library_is_a_row_and_stops_no_other_check(monkeypatch, tmp_path):
    without(monkeypatch, "torch", "psutil", "packaging", "packaging.requirements", "recbole_dgrm.config.layers")
    found = {row.what: row for row in checks.examine(tmp_path)}
    for name in ("threads", "GPU", "bfloat16", "memory", "versions", "properties", "ml-100k of RecBole"):
        assert found[name].found.startswith(("ModuleNotFoundError", "ImportError"))
        assert found[name].cure
    assert found["versions"].state == found["threads"].state == found["properties"].state == FAILS
    assert found["memory"].state == found["bfloat16"].state == LIMITED
    assert found["disk"].state == found["output directory"].state == WORKS


def test_recbole_is_installed_by_a_command_of_its_own(monkeypatch, tmp_path):
    without(monkeypatch, "recbole")
    row = next(row for row in checks.examine(tmp_path) if row.what == "recbole")
    assert (row.state, row.cure) == (FAILS, "pip install --no-deps recbole==1.2.1")


def test_a_package_that_is_not_installed_is_said(monkeypatch, tmp_path):
    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", none)
    row = next(row for row in checks.examine(tmp_path) if row.what == "versions")
    assert row.state == FAILS
    assert "recbole-dgrm" in row.found


def test_a_version_outside_what_setup_py_allows_does_not_work(monkeypatch):
    wanted = {name: check for name, _, check in checks.requirements()}
    monkeypatch.setattr(metadata, "version", lambda name: "4.0.1")
    row = wanted["pandas"]()
    assert row.state == FAILS
    assert row.found.startswith("4.0.1, wanted")
    assert row.cure.startswith("pip install 'pandas")


def test_a_library_that_cannot_be_imported_does_not_work(monkeypatch):
    wanted = {name: (extra, check) for name, extra, check in checks.requirements()}
    without(monkeypatch, "scipy", "distributed")
    assert wanted["scipy"][0] == ""
    assert wanted["distributed"][0] == "distributed"
    for name in ("scipy", "distributed"):
        with pytest.raises(ModuleNotFoundError):
            wanted[name][1]()


def test_a_check_that_raises_is_a_finding():
    def broken():
        raise OSError("libtorch.so is no library")

    row = Check("torch", broken, "install it again").row()
    assert row == Row("torch", "OSError: libtorch.so is no library", FAILS, "install it again")


def test_more_threads_than_cores_are_limited(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(checks, "_cores", lambda: 4)
    row = checks.threads()
    assert (row.state, row.cure.split()[-1]) == (LIMITED, "OMP_NUM_THREADS=4")


def test_a_gpu_is_named_and_a_driver_without_its_torch_is_noticed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(checks.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "a driver is there" in checks.gpu().found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", "card {}".format)
    row = checks.gpu()
    assert row.state == WORKS
    assert row.found.startswith("card 0, card 1; CUDA")


@pytest.mark.parametrize(
    ("flags", "said"),
    [("fpu avx512_bf16 amx_bf16", "avx512_bf16 and amx_bf16"), ("fpu", "neither avx512_bf16 nor amx_bf16")],
)
def test_bfloat16_is_timed_and_its_units_are_named(monkeypatch, flags, said):
    monkeypatch.setattr(processor, "cpuinfo", lambda: ["model name\t: chip", f"flags\t\t: {flags}"])
    row = checks.bfloat16()
    assert said in row.found
    speed = float(row.found.partition("is ")[2].split()[0])
    assert speed > 0
    if speed != 1:  # rounded
        assert row.state == (WORKS if speed > 1 else LIMITED)


def test_without_a_compiler_compile_is_limited(monkeypatch):
    monkeypatch.setattr("recbole_dgrm.config.layers.shutil.which", lambda name: None)
    assert checks.compiler().state == LIMITED


def test_little_memory_and_little_disk_are_limited(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "LITTLE", 1 << 60)
    assert checks.memory().state == checks.disk(tmp_path).state == LIMITED


def test_an_output_directory_is_tried_and_nothing_is_left(tmp_path):
    assert checks.writable(tmp_path / "new" / "runs").state == WORKS
    assert not list(tmp_path.iterdir())


def test_an_output_directory_that_is_a_file_does_not_work(tmp_path):
    (tmp_path / "runs").write_text("")
    found = {row.what: row for row in checks.examine(tmp_path / "runs")}
    assert found["output directory"].state == FAILS


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


@pytest.mark.parametrize("busy", [0.1, 50.0])
def test_load_and_how_threads_wait_are_named(busy, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (busy, busy, busy))
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    row = checks.load()
    assert f"{busy} processes at work on" in row.found
    assert row.state == (LIMITED if busy > 1 else WORKS)
    assert "how they wait: GOMP_SPINCOUNT=1000" in checks.threads().found
    for name in start.WAITING:
        monkeypatch.delenv(name, raising=False)
    assert "how they wait: not set" in checks.threads().found


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "1000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)]
)
def test_threads_that_wait_spin_briefly_unless_the_user_says_otherwise(given, expected):
    clean = {name: value for name, value in os.environ.items() if name not in start.WAITING}
    code = "import sys, recbole_dgrm, os; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", code], env={**clean, **given}, capture_output=True, text=True)
    assert done.stdout.split() == ["False", str(expected)]
