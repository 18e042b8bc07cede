"""What the documentation says can be typed."""

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from shutil import copytree

import pytest
from helpers import ROOT, blocks, random_ratings, write_ratings

import recbole_dgrm as rd
from recbole_dgrm.cli import main
from recbole_dgrm.config import layers
from recbole_dgrm.models import registry
from recbole_dgrm.testing import ModelContract

KEYS = {f"--{key}" for key in layers.load_config(config_dict={"model": "DGRMPlus", "dataset": "ml-100k"}).given}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


class TestLinear(ModelContract):
    """The model of CONTRIBUTING.md, put into its places."""

    model = "Linear"

    @pytest.fixture(scope="class", autouse=True)
    def in_place(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("linear")
        (code, _), (defaults,) = (blocks(ROOT / "CONTRIBUTING.md", language) for language in ("python", "yaml"))
        (folder / "linear.py").write_text(code, encoding="utf-8")
        spec = spec_from_file_location("linear_of_contributing", folder / "linear.py")
        module = module_from_spec(spec)
        properties = copytree(layers.properties_dir(), folder / "properties")
        (properties / "model" / "Linear.yaml").write_text(defaults, encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, spec.name, module)
            spec.loader.exec_module(module)
            for place in (layers, registry):
                patch.setattr(place, "properties_dir", lambda: properties)
            patch.setitem(registry.MODELS, "Linear", module.Linear)
            patch.setitem(sys.modules, f"{registry.GENERAL}.linear", module)
            yield


def test_the_tables_of_pages_are_those_of_the_reports(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    tables = import_module("tables")
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.filled(text) == text, "make tables"
        assert tables.filled(text.replace(" ± 0.00", " ± 0.01")) == text  # so there is a table, and it is found
    with pytest.raises(SystemExit, match="no report has NFM"):
        tables.filled(f"{tables.ACCURACY}\n| `NFM` | | | | |\n")


@pytest.mark.slow
def test_the_script_of_recbole_runs(tmp_path):
    (code,) = blocks(ROOT / "docs" / "scripts.md", "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "ndcg@10" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_example_runs_as_a_model_that_is_not_ours(tmp_path):
    """With its three lines of tests, in a package that is installed nowhere."""
    (code, tests), (defaults,) = (blocks(ROOT / "CONTRIBUTING.md", language) for language in ("python", "yaml"))
    files = {"mypackage/linear.py": code, "mypackage/Linear.yaml": defaults, "tests/test_linear.py": tests}
    for name, text in {"mypackage/__init__.py": "", **files}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "tests", "-k", "yaml or pair or padding"]
    where = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.ipynb")), ids=lambda path: path.name)
def test_the_cells_of_a_notebook_run_in_order_and_show_what_they_showed(path, tmp_path, monkeypatch):
    """As many outputs with the same columns; digits may differ from machine to machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(path.parent)
    kept = json.loads(path.read_text(encoding="utf-8"))
    done = import_module("notebook").executed(json.loads(path.read_text(encoding="utf-8")))
    for old, new in zip(kept["cells"], done["cells"], strict=True):
        shown = [output["data"]["text/plain"].splitlines()[0].split() for output in new.get("outputs", [])]
        assert shown == [output["data"]["text/plain"].splitlines()[0].split() for output in old.get("outputs", [])]


def test_the_example_of_ties_prints_what_the_page_says():
    page = ROOT / "docs" / "protocol.md"
    (code,) = blocks(page, "python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout in blocks(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_of_a_page_exist(page, capsys):
    lines = [line.split("#")[0] for block in blocks(page) for line in block.splitlines()]
    typed = [line.split()[1:] for line in lines if line.startswith("recbole-dgrm ")]
    for first, *rest in typed:
        command = first if first in main.COMMANDS else "train"
        assert first == command or first.startswith("--"), first
        with pytest.raises(SystemExit) as stop:
            main.main([command, "--help"])
        assert stop.value.code == 0
        options = {word.partition("=")[0] for word in [first, *rest] if word.startswith("--")}
        assert options - KEYS <= set(re.findall(r"--\w+", capsys.readouterr().out))


@pytest.mark.parametrize("path", sorted((ROOT / "recbole_dgrm").rglob("*.py")), ids=lambda path: path.stem)
def test_docstrings_are_markdown(path):
    """Roles and double colons of Sphinx would stand in the pages as they are."""
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r":[a-z]+:`|::$", text, re.M)


@pytest.mark.slow
def test_the_job_array_of_slurm_runs_as_local_processes(tmp_path):
    """Two of its tasks."""
    (text,), benchmark = blocks(ROOT / "docs" / "cluster.md", "bash"), tmp_path / "benchmark.sh"
    benchmark.write_text(text, encoding="utf-8")
    write_ratings(tmp_path / "dataset", "mine", random_ratings())
    plan = "models: [MF, ICDAE]\ndatasets: [mine]\nprotocols: [rated]\nbaseline: MF\nconfig: {epochs: 2, device: cpu}\n"
    (tmp_path / "mine.yaml").write_text(plan, encoding="utf-8")
    program = tmp_path / "bin" / "recbole-dgrm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m recbole_dgrm "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    where = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}

    def start(script, task):
        command = ["bash", str(script)]
        return subprocess.Popen(command, cwd=tmp_path, env={**where, "SLURM_ARRAY_TASK_ID": task})

    together = [start(benchmark, seed) for seed in ("2020", "2021")]
    assert [one.wait() for one in together] == [0, 0]
    found = rd.report(tmp_path / "results", "MF").table().set_index(["model", "metric"])
    assert found.loc[("ICDAE", "rmse"), "seeds"] == 2
    assert found.loc[("ICDAE", "rmse"), "baseline"] == "MF"
