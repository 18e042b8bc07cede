"""What strangers give - weights, arrays, YAML, a working directory - runs no code here, and is bounded."""

import ast
import os
import shutil
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import recbole
import torch
import yaml
from helpers import ROOT

from recbole_dgrm import plugin
from recbole_dgrm.compat.repairs import UNSAFE_LOADS, load_array, load_weights, refuse_pickle
from recbole_dgrm.config.values import parse_value, read_yaml
from recbole_dgrm.errors import CheckpointError, DataError, OptionError
from recbole_dgrm.reports import figures
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.system import processes
from recbole_dgrm.system.yaml_files import LONGEST
from recbole_dgrm.tuning.space import read_space_file

RECBOLE = Path(recbole.__file__).parent


class Attack:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


# What RecBole loads

LOADS = ("load", "loads", "unpickle", "read_pickle", "import_module", "urlopen", "urlretrieve", "Unpickler", "popen")
RUNS = ("eval", "exec", "compile", "__import__")
HARMLESS = ("re.compile", "torch.compile", "json.load", "json.loads")


def risky(call: ast.Call) -> str | None:
    """The name of a call that runs or fetches what it is given."""
    name = ast.unparse(call.func)
    whole = name in RUNS or name.startswith(("subprocess.", "os.system", "os.exec", "os.spawn", "os.popen"))
    return name if name not in HARMLESS and (whole or name.rpartition(".")[2] in LOADS) else None


# Every call in RecBole 1.2.1 that would run what a file or a text holds, or fetch a file: its module, the
# call, and what becomes of it here.
SAFE_YAML = "reads with our YamlLoader"
OTHER_CALLS = {
    ("config.configurator", "yaml.load"): SAFE_YAML,
    ("data.dataset.dataset", "yaml.load"): SAFE_YAML,
    ("config.configurator", "eval"): "repairs.literal is in the place of _convert_config_dict",
    ("utils.url", "ur.urlopen"): "never called: RatingDataset leaves _download out",
    ("data.utils", "importlib.import_module"): "takes a name of RecBole's own",
    ("utils.utils", "importlib.import_module"): "takes a name of RecBole's own",
    ("trainer.trainer", "__import__"): "takes a name of RecBole's own, of a model that is no general recommender",
    ("trainer.hyper_tuning", "eval"): "never called: space.py reads hyper.test, with literals only",
    ("model.context_aware_recommender.kd_dagfm", "eval"): "no general recommender",
    ("model.context_aware_recommender.kd_dagfm", "torch.load"): "no general recommender",
    ("model.sequential_recommender.s3rec", "torch.load"): "no general recommender",
    ("quick_start.quick_start", "torch.load"): "never imported",
}


def test_every_call_of_recbole_that_could_run_a_file_is_known_and_handled():
    found = set()
    for path in RECBOLE.rglob("*.py"):
        module = ".".join(path.relative_to(RECBOLE).with_suffix("").parts)
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        found |= {(module, name) for call in calls if (name := risky(call))}
    assert found == {*UNSAFE_LOADS, *OTHER_CALLS}


def test_what_is_replaced_is_replaced_and_the_rest_is_not_imported_or_named_by_a_reason():
    plugin.register()
    for name, call in UNSAFE_LOADS:
        load = getattr(sys.modules[f"recbole.{name}"], call.partition(".")[0]).load
        assert load in (load_weights, load_array, refuse_pickle), name
    for (name, _), handling in OTHER_CALLS.items():
        if handling in ("no general recommender", "never imported"):
            assert "general_recommender" not in name
            assert f"recbole.{name}" not in sys.modules
    assert torch.load.__module__ == "torch.serialization"  # ours alone are bound to RecBole's modules
    assert np.load is not load_array


PRETRAINED = [
    ("NAIS", {"pretrain_path": "FILE"}),
    ("ConvNCF", {"train_method": "after_pretrain", "pre_model_path": "FILE"}),
    ("RaCT", {"train_stage": "finetune", "pre_model_path": "FILE"}),
    ("NeuMF", {"use_pretrain": True, "mf_pretrain_path": "FILE", "mlp_pretrain_path": "FILE"}),
]


@pytest.mark.parametrize(("model", "keys"), PRETRAINED)
def test_weights_to_begin_with_run_no_code(model, keys, make_config, tmp_path):
    file, mark = tmp_path / "weights.pth", tmp_path / "mark"
    torch.save({"state_dict": {}, "config": Attack(mark)}, file)
    config = make_config(model, **{key: str(file) if value == "FILE" else value for key, value in keys.items()})
    with pytest.raises(CheckpointError, match=r"weights\.pth cannot be read as weights .*give the checkpoint\.pt"):
        run_one(config)
    assert not mark.exists()


def test_weights_that_do_not_fit_are_a_sentence(make_config, tmp_path):
    torch.save({"state_dict": {"user_embedding.weight": torch.zeros(2, 2)}}, tmp_path / "weights.pth")
    with pytest.raises(OptionError, match=r"NAIS of RecBole stops with .*; check .*pretrain_path=.*weights\.pth"):
        run_one(make_config("NAIS", pretrain_path=str(tmp_path / "weights.pth")))


@pytest.mark.parametrize(
    ("save", "said"),
    [
        (lambda path, mark: np.save(path, np.array([Attack(mark)], dtype=object)), "cannot be read"),
        (lambda path, mark: np.save(path, np.zeros(3)), "is not a table of finite numbers"),
        (lambda path, mark: np.save(path, np.full((3, 2), np.nan)), "is not a table of finite numbers"),
    ],
)
def test_item_embeddings_in_a_data_folder_run_no_code(save, said, make_config, ratings_path, tmp_path):
    shutil.copytree(ratings_path / "noise", tmp_path / "data" / "noise")
    mark = tmp_path / "mark"
    save(tmp_path / "data" / "noise" / "item_emb.npy", mark)
    with pytest.raises(DataError, match=rf"item_emb\.npy {said}.*LDiffRec with n_cate above 1"):
        run_one(make_config("LDiffRec", n_cate=2, data_path=str(tmp_path / "data")))
    assert not mark.exists()


# YAML

BOMB = "epochs: [" + ", ".join(["&b0 [x, x]", *(f"&b{n} [*b{n - 1}, *b{n - 1}]" for n in range(1, 40))]) + "]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "&b0 in line 1 refers to another place"),
        ("a: 1\nb: *a", r"\*a in line 2"),
        ("epochs: 3\nseed: 1\nepochs: 5", "the key 'epochs' occurs twice"),
        ("a: " + "[" * 1000, "recursion"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: !!python/object/apply:os.mkdir [mark]", "could not determine a constructor"),
        ("# " + "x" * LONGEST, "longer than"),
        ("a: [" + "x, " * 10**6 + "]", "larger than"),
    ],
)
def test_yaml_that_refers_or_grows_is_refused_at_once(text, said, tmp_path):
    (tmp_path / "keys.yaml").write_text(text)
    begun = time.monotonic()
    with pytest.raises(OptionError, match=rf"(?s)keys\.yaml.*{said}"):
        read_yaml(tmp_path / "keys.yaml")
    if len(text) < LONGEST:
        with pytest.raises(OptionError, match="is not a YAML value"):
            parse_value(text)
    assert time.monotonic() - begun < 5


def test_recboles_yaml_is_read_with_our_loader(make_config):
    loader = make_config("BPR").yaml_loader
    with pytest.raises(yaml.YAMLError, match="&a in line 1"):
        yaml.load("x: &a 1", Loader=loader)  # noqa: S506 - what is tested


@pytest.mark.parametrize(
    "text",
    [
        "lr choice " + "-" * 100_000 + "1",
        "lr choice [__import__('os').mkdir('mark')]",
        "#" * 2_000_000,
    ],
)
def test_a_space_of_recboles_form_is_bounded_too(text, tmp_path):
    (tmp_path / "hyper.test").write_text(text)
    with pytest.raises(OptionError, match=r"^space .*hyper\.test: "):
        read_space_file(tmp_path / "hyper.test", read_yaml)


# The working directory


@pytest.fixture
def trap(tmp_path, monkeypatch) -> Path:
    """A working directory whose modules would leave a mark."""
    folder, mark = tmp_path / "here", tmp_path / "mark"
    for name in ("yaml", "torch", "numpy", "recbole", "random", "sitecustomize", "recbole_dgrm/__init__"):
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"import os\nos.mkdir({str(mark)!r})\nraise SystemExit('imported {name}')\n")
    monkeypatch.chdir(folder)
    return mark


def copied(tmp_path: Path) -> Path:
    """The package as a checkout that is installed nowhere."""
    for name in ("recbole_dgrm", "properties", "run_recbole_dgrm.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / "checkout" / name)
    return tmp_path / "checkout"


@pytest.mark.parametrize("given", [None, f"{os.pathsep}/nowhere"])
def test_a_worker_runs_this_package_and_nothing_of_the_working_directory(given, trap, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if given is not None:
        monkeypatch.setenv("PYTHONPATH", given)
    process = processes.spawn("recbole_dgrm.errors", [], tmp_path / "output.txt", 1)
    processes.end(process)
    assert process.returncode == 0, (tmp_path / "output.txt").read_text()
    seen = tmp_path / "seen.txt"
    code = "import recbole_dgrm, sys, yaml; print(recbole_dgrm.__file__, sys.path)"
    monkeypatch.setattr(processes, "PACKAGE", copied(tmp_path) / "recbole_dgrm")
    (processes.PACKAGE / "says.py").write_text(code)
    processes.end(processes.spawn("recbole_dgrm.says", [], seen, 1))
    file, _, path = seen.read_text().partition(" ")
    assert file == str(tmp_path / "checkout" / "recbole_dgrm" / "__init__.py")
    assert "''" not in path
    assert str(trap.parent / "here") not in path
    assert not trap.exists()


def test_figures_are_drawn_in_our_style_whatever_matplotlibrc_lies_there(monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # would run LaTeX
    monkeypatch.setitem(matplotlib.rcParams, "axes.grid", True)
    seen = figures.styled(lambda: (matplotlib.rcParams["text.usetex"], matplotlib.rcParams["axes.grid"]))
    assert seen() == (False, False)
    assert matplotlib.rcParams["text.usetex"]
