"""What strangers give - weights, arrays, YAML, a working directory - runs no code here, and takes no machine down."""

import ast
import os
import shutil
import subprocess
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
from recbole_dgrm.config.layers import parse_value, read_yaml
from recbole_dgrm.errors import CheckpointError, DataError, OptionError
from recbole_dgrm.reports import figures
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.system import processes
from recbole_dgrm.system.yaml_files import DEEPEST, LONGEST, load_yaml
from recbole_dgrm.tuning.space import parse_space, read_space_file

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


@pytest.mark.parametrize(("model", "keys"), PRETRAINED)
def test_weights_that_do_not_fit_are_a_sentence(model, keys, make_config, tmp_path):
    torch.save({"state_dict": {"user_embedding.weight": torch.zeros(2, 2)}}, tmp_path / "weights.pth")
    file = str(tmp_path / "weights.pth")
    config = make_config(model, **{key: file if value == "FILE" else value for key, value in keys.items()})
    with pytest.raises(CheckpointError, match=rf"weights\.pth: these weights do not fit {model} on noise"):
        run_one(config)


def test_our_checkpoint_can_be_what_a_model_of_recbole_begins_with(make_config):
    small = {"embedding_size": 4, "epochs": 1}
    _, fism = run_one(make_config("FISM", **small))
    record, _ = run_one(make_config("NAIS", **small, pretrain_path=str(fism / "checkpoint.pt")))
    assert record.status == "finished"


@pytest.mark.parametrize(
    ("save", "said"),
    [
        (lambda path, mark: np.save(path, np.array([Attack(mark)], dtype=object)), "cannot be read"),
        (lambda path, mark: path.write_bytes(b"no array"), "cannot be read"),
        (lambda path, mark: np.save(path, np.zeros(3)), "holds no table of finite numbers"),
        (lambda path, mark: np.save(path, np.full((3, 2), np.nan)), "holds no table of finite numbers"),
        (lambda path, mark: None, "cannot be read"),
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
        ("val_interval: &a [*a]", "&a in line 1"),
        ("a: 1\nb: *a", r"\*a in line 2"),
        ("a: &x 1", "&x in line 1"),
        ("epochs: 3\nseed: 1\nepochs: 5", "the key 'epochs' stands twice"),
        ("a: " + "[" * 100_000, f"nested more than {DEEPEST} deep"),
        ("a: " + "{a: " * 5000, f"nested more than {DEEPEST} deep"),
        ("- " * 5000 + "x", f"nested more than {DEEPEST} deep"),
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


def test_usual_yaml_is_read_as_before():
    assert load_yaml("a: [1, 2.5, 1e-4, [x], {b: ~}]\n'&c': '*d'") == {
        "a": [1, 2.5, 1e-4, ["x"], {"b": None}],
        "&c": "*d",
    }


def test_recboles_yaml_is_read_with_our_loader(make_config):
    loader = make_config("BPR").yaml_loader
    with pytest.raises(yaml.YAMLError, match="&a in line 1"):
        yaml.load("x: &a 1", Loader=loader)  # noqa: S506 - what is tested


@pytest.mark.parametrize(
    "text",
    [
        "lr choice " + "[" * 300,
        "lr choice " + "-" * 100_000 + "1",
        "lr loguniform 1,100000",
        "lr quniform 1,2,'x'",
        "lr choice [__import__('os').mkdir('mark')]",
        "#" * 2_000_000,
    ],
)
def test_a_space_of_recboles_form_is_bounded_too(text, tmp_path):
    (tmp_path / "hyper.test").write_text(text)
    with pytest.raises(OptionError, match=r"^space .*hyper\.test: "):
        read_space_file(tmp_path / "hyper.test", read_yaml)


ENDLESS = ["factors: {int: [1, 100000000000]}", "\n".join(f"k{n}: {{int: [1, 99]}}" for n in range(9))]


@pytest.mark.parametrize("space", ENDLESS)
def test_a_grid_without_end_is_refused(space):
    with pytest.raises(OptionError, match="more than 100,000; name fewer values"):
        parse_space(load_yaml(space)).grid(np.random.default_rng(0))


def test_a_condition_between_a_number_and_a_text_is_refused():
    space = parse_space({"factors": {"int": [1, 9]}, "lr": {"choice": ["a"]}, "conditions": ["factors < lr"]})
    with pytest.raises(OptionError, match="condition 'factors < lr': 1 and 'a' cannot be compared"):
        space.is_valid({"factors": 1, "lr": "a"})


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


@pytest.mark.parametrize("given", [None, "", os.pathsep, f"{os.pathsep}/nowhere"])
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


@pytest.mark.slow
def test_a_benchmark_of_a_checkout_runs_its_code_wherever_it_is_started(trap, tmp_path, ratings_path):
    checkout, plan = copied(tmp_path), tmp_path / "plan.yaml"
    plan.write_text("models: [{model: MF, config: {epochs: 1, device: cpu}}]\ndatasets: [board]\nseeds: [1]\n")
    with (checkout / "recbole_dgrm" / "runs" / "experiment.py").open("a") as file:
        file.write(f"\nopen({str(tmp_path / 'whose')!r}, 'a').write(__file__ + '\\n')\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = [f"--config={plan}", f"--data_path={ratings_path}", f"--output_dir={tmp_path / 'runs'}"]
    command = [sys.executable, checkout / "run_recbole_dgrm.py", "benchmark", *where]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = (tmp_path / "whose").read_text().splitlines()
    assert set(imported) == {str(checkout / "recbole_dgrm" / "runs" / "experiment.py")}
    assert len(imported) > 1  # the command's, and the worker's
    assert not trap.exists()


def test_figures_are_drawn_in_our_style_whatever_matplotlibrc_lies_there(monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # would run LaTeX
    monkeypatch.setitem(matplotlib.rcParams, "axes.grid", True)
    seen = figures.styled(lambda: (matplotlib.rcParams["text.usetex"], matplotlib.rcParams["axes.grid"]))
    assert seen() == (False, False)
    assert matplotlib.rcParams["text.usetex"]
