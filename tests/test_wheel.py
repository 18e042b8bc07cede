"""What is in the wheel."""

import subprocess
import sys
from shutil import copytree, ignore_patterns
from zipfile import ZipFile

import pytest
from helpers import ROOT


@pytest.mark.slow
def test_the_wheel_holds_every_module_default_and_template_and_nothing_else(tmp_path):
    source = tmp_path / "source"  # setuptools leaves build/ and *.egg-info behind
    source.mkdir()
    for name in ("recbole_dgrm", "properties"):
        copytree(ROOT / name, source / name, ignore=ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {path.relative_to(ROOT) for path in (ROOT / "recbole_dgrm").rglob("*") if path.is_file()}
    expected = {str(path) for path in package if "__pycache__" not in path.parts}
    defaults = {path.relative_to(ROOT) for path in (ROOT / "properties").rglob("*.yaml")}
    assert packed == expected | {f"recbole_dgrm/{path}" for path in defaults}
    assert "recbole_dgrm/py.typed" in packed
