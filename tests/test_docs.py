"""What the documentation says can be typed."""

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from shutil import copytree

import contract
import pytest
from contract import ModelContract
from helpers import ROOT

from recbole_dgrm.cli import main
from recbole_dgrm.config import layers
from recbole_dgrm.models import registry

KEYS = {f"--{key}" for key in layers.load_config(config_dict={"model": "DGRM", "dataset": "ml-100k"}).given}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a page in a language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    return [text for name, text in fenced if name == language]


class TestLinear(ModelContract):
    """The model of CONTRIBUTING.md, put into its four places."""

    model = "Linear"

    @pytest.fixture(autouse=True)
    def in_place(self, tmp_path_factory, monkeypatch):
        folder = tmp_path_factory.mktemp("linear")
        (code,), (defaults,) = (blocks(ROOT / "CONTRIBUTING.md", language) for language in ("python", "yaml"))
        (folder / "linear.py").write_text(code, encoding="utf-8")
        spec = spec_from_file_location("linear_of_contributing", folder / "linear.py")
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        properties = copytree(layers.properties_dir(), folder / "properties")
        (properties / "model" / "Linear.yaml").write_text(defaults, encoding="utf-8")
        for place in (layers, contract):
            monkeypatch.setattr(place, "properties_dir", lambda: properties)
        monkeypatch.setitem(registry.MODELS, "Linear", module.Linear)
        monkeypatch.setitem(sys.modules, f"{registry.GENERAL}.linear", module)


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
