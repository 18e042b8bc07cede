"""What is said in several files is said alike."""

import re

import pytest
import yaml
from helpers import ROOT

import recbole_dgrm


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_for_python_citations_and_the_changelog():
    newest = re.search(r"^## \[(\d.*?)\]", read("CHANGELOG.md"), re.M)
    assert newest.group(1) == yaml.safe_load(read("CITATION.cff"))["version"] == recbole_dgrm.__version__


def test_pre_commit_formats_with_the_version_that_ci_checks_with():
    (hook,) = [repo for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] if "ruff" in repo["repo"]]
    assert f"\nruff=={hook['rev'].removeprefix('v')}\n" in read("constraints.txt")


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-oldest.txt"])
def test_every_library_of_setup_py_has_an_exact_version(name):
    required = re.findall(r"""^\s+(?:"[a-z]+": \[)?["']([\w-]+)[\[\w\]]*[<>=]""", read("setup.py"), re.M)
    exact = set(re.findall(r"^([\w-]+)==", read(name).lower().replace("_", "-"), re.M))
    only_newest = {"mkdocs-material", "mkdocstrings"} if name == "constraints-oldest.txt" else set()
    assert {"torch", "psutil", "pytest", "psycopg"} < set(required)
    assert not set(required) - exact - only_newest
