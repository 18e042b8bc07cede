"""What the documentation says can be typed, and gives what it shows."""

import json
import os
import re
import subprocess
import sys
from importlib import import_module

import pytest
from helpers import ROOT, Here, blocks, random_ratings, write_ratings

import recbole_dgrm as rd
from recbole_dgrm.benchmarks import executors
from recbole_dgrm.cli import main
from recbole_dgrm.config import layers
from recbole_dgrm.testing import ModelContract

DOCS = ROOT / "docs"
KEYS = {f"--{key}" for key in layers.load_config(config_dict={"model": "DGRMPlus", "dataset": "ml-100k"}).given}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


@pytest.fixture(scope="session", autouse=True)
def mypackage(tmp_path_factory):
    """The package of docs/own_model.md, in a folder that is searched for modules."""
    folder = tmp_path_factory.mktemp("own_model") / "mypackage"
    folder.mkdir()
    code, _ = blocks(DOCS / "own_model.md", "python")
    (defaults,) = blocks(DOCS / "own_model.md", "yaml")
    for name, text in {"__init__.py": "", "linear.py": code, "Linear.yaml": defaults}.items():
        (folder / name).write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder.parent)
        yield


class TestLinear(ModelContract):
    model = "mypackage.linear:Linear"
    whole_profiles = True


def test_the_tables_of_pages_are_those_of_the_reports(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    tables = import_module("tables")
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.filled(text) == text, "make tables"
        assert tables.filled(text.replace(" ± 0.00", " ± 0.01")) == text  # so there is a table, and it is found
    with pytest.raises(SystemExit, match="no report has NFM"):
        tables.filled(f"{tables.ACCURACY}\n| `NFM` | | | | |\n")


def test_the_readme_installs_as_the_page_about_installing():
    assert blocks(ROOT / "README.md")[0] == blocks(DOCS / "install.md")[0]


@pytest.mark.slow
def test_the_cells_of_the_notebook_run_in_order_and_show_what_they_showed(tmp_path, monkeypatch):
    """As many outputs with the same columns; the ratings are fewer, so that it takes less time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    notebook = import_module("notebook")
    text = notebook.NOTEBOOK.read_text(encoding="utf-8")
    few = text.replace(r"ratings[\"user_id\"] <= 300", r"ratings[\"user_id\"].le(300) & ratings[\"item_id\"].le(200)")
    assert few != text
    for old, new in zip(json.loads(text)["cells"], notebook.executed(json.loads(few))["cells"], strict=True):
        shown = [
            [output["data"]["text/plain"].splitlines()[0] for output in cell.get("outputs", [])] for cell in (old, new)
        ]
        columns = [[re.sub(r"ratings-\w+", "ratings", line).split() for line in lines] for lines in shown]
        assert columns[0] == columns[1]


def test_the_example_of_ties_prints_what_the_page_says(capsys):
    (code,) = blocks(DOCS / "protocol.md", "python")
    exec(code, {"__name__": "__main__"})
    assert capsys.readouterr().out in blocks(DOCS / "protocol.md")


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


def test_docstrings_are_markdown():
    """Roles and double colons of Sphinx would be shown as they are."""
    for path in (ROOT / "recbole_dgrm").rglob("*.py"):
        assert not re.findall(r":[a-z]+:`|::$", path.read_text(encoding="utf-8"), re.M), path


@pytest.mark.slow
def test_the_script_of_recbole_runs_in_a_process_of_its_own(ratings_path, tmp_path):
    """On a small data set."""
    (code,) = blocks(DOCS / "scripts.md", "python")
    small = code.replace('"ml-100k"', '"noise"').replace(
        '"epochs": 3', f'"epochs": 1, "data_path": {str(ratings_path)!r}'
    )
    assert small.count("noise") == small.count("data_path") == 1
    done = subprocess.run([sys.executable, "-c", small], cwd=tmp_path, capture_output=True, text=True)
    assert "ndcg@10" in done.stdout, done.stderr


def test_the_job_array_of_slurm_makes_one_table(tmp_path, monkeypatch):
    """Two of its tasks, whose commands are carried out here one after the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    write_ratings(tmp_path / "dataset", "mine", random_ratings())
    plan = "models: [MF]\ndatasets: [mine]\nprotocols: [rated]\nconfig: {epochs: 1, device: cpu}\n"
    (tmp_path / "mine.yaml").write_text(plan, encoding="utf-8")
    program = tmp_path / "recbole-dgrm"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (text,) = blocks(DOCS / "cluster.md", "bash")
    for seed in ("2020", "2021"):
        task = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": seed}
        done = subprocess.run(["bash", "-c", text], env=task, capture_output=True, text=True, check=True)
        assert main.main(done.stdout.splitlines()) == 0
    table = rd.report(tmp_path / "results").table().set_index(["model", "metric"])
    assert table.loc[("MF", "rmse"), "seeds"] == 2
