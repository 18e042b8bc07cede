"""What is said in several files is said alike."""

import re
import subprocess

import pytest
import yaml
from helpers import ROOT

import recbole_dgrm
from recbole_dgrm.system.environment import code_commit


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
    assert {"torch", "psutil", "pytest", "distributed"} < set(required)
    assert not set(required) - exact - only_newest


def test_the_commit_of_the_code_is_that_of_the_package_alone(tmp_path):
    def git(*words: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit() -> str:
        code_commit.cache_clear()
        return code_commit(tmp_path / "package")

    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "code.py").write_text("1")
    assert commit() == ""
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "code")
    first = commit()
    assert git("rev-parse", "HEAD").startswith(first)
    assert len(first) == 10
    (tmp_path / "page.md").write_text("only a page")
    git("add", ".")
    git("commit", "-q", "-m", "page")
    assert commit() == first
    (tmp_path / "package" / "more.py").write_text("2")
    assert commit() == f"{first}+"
    assert code_commit(tmp_path / "package" / "inner") == ""  # below a repository that is another's
