"""A module imports from lower layers only; layer 0 knows nothing of RecBole; nothing is unpickled or evaluated."""

import ast
from pathlib import Path

import pytest

import recbole_dgrm
from recbole_dgrm import registry
from recbole_dgrm.config import load_config, properties_dir, read_yaml
from recbole_dgrm.space import parse_space

PACKAGE = Path(recbole_dgrm.__file__).parent
LAYERS = {
    "errors": -2, "forms": -2,
    "files": -1, "labels": -1, "limits": -1, "yaml_files": -1, "record_forms": -1, "texts": -1,
    "checkpoints": 0, "options": 0, "records": 0, "diffusion": 0, "states": 0, "networks": 1, "losses": 0, "ranking": 0,
    "distribution": 0, "text_tables": 0, "rating_scale": 1, "rating_files": 2, "atomic_files": 2, "bias": 0,
    "factorization": 0, "closed_form": 1, "collapse": 1,
    "parallel": 0, "phases": 0, "compat": 1, "metrics": 2, "run_mixin": 3, "trainers": 4,
    "models.profile": 4, "models.dgrm_options": 4,
    "models": 5, "models.dgrm": 5, "models.mf": 5, "models.ncf": 5, "models.icdae": 5, "models.diffrec": 5,
    "models.cfgan": 5, "models.prgan": 5,
    "text_keys": -2, "intervals": 0, "run_options": 1, "recbole_keys": 1, "columns": 1, "evaluation": 3,
    "consistency": 6.5, "upstream": 7,
    "machine": 2, "registry": 6, "config": 7, "data": 7, "loaders": 8, "reference": 9, "diagnosis": 10,
    "experiment": 11, "recommender": 11, "saved": 12, "export": 13, "plan": 10, "worker": 12, "executors": 13,
    "benchmark": 14, "tables": 1, "convert": 10, "download": 11,
    "processes": 0, "space": 0, "study": 8, "tuning": 12, "search_report": 13, "terminal": 15,
    "document": 0, "comparison": 0, "comparable": 1, "rows": 2, "summary": 3, "plots": 4, "headline": 4,
    "result_tables": 5, "report": 6,
    "diagnosis_plots": 12, "watched": 12, "diagnosis_report": 13,
    "arguments": -1, "commands": 16, "commands.train": 16, "commands.download": 16, "commands.convert": 16,
    "commands.benchmark": 16, "commands.tune": 16, "commands.report": 16, "commands.diagnose": 16,
    "commands.recommend": 16, "commands.evaluate": 16, "commands.export": 16,
    "commands.doctor": 16, "doctor": 10, "cli": 17,
}  # fmt: skip
PURE = {name for name, layer in LAYERS.items() if layer <= 0} | {"networks", "closed_form", "collapse"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def own_modules(names: set[str]) -> set[str]:
    inner = {name.removeprefix("recbole_dgrm.") for name in names if name.startswith("recbole_dgrm.")}
    return {name for name in inner if name in LAYERS}


def test_every_module_has_a_layer():
    assert {name_of(path) for path in MODULES} - {"__init__"} == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path):
    name = name_of(path)
    if name == "__init__":
        return
    upward = {other for other in own_modules(imports_of(path)) if other != "models" and LAYERS[other] >= LAYERS[name]}
    assert not upward


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) in PURE], ids=name_of)
def test_layer_0_is_free_of_recbole(path):
    assert not [name for name in imports_of(path) if name.split(".")[0] in ("recbole", "ray")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_unpickled_or_evaluated(path):
    assert not [name for name in imports_of(path) if name.split(".")[0] in ("pickle", "ray", "dill", "joblib")]
    assert "recbole.quick_start" not in imports_of(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "pd.read_pickle")
        if called == "np.load":
            assert "allow_pickle=False" in ast.unparse(node)
        if called == "torch.load":
            assert "weights_only=True" in ast.unparse(node)


@pytest.mark.parametrize("name", list(registry.MODELS))
def test_every_model_has_its_four_places_and_a_row_in_the_readme(name):
    root = PACKAGE.parent
    tests = "".join(path.read_text(encoding="utf-8") for path in (root / "tests").glob("test_*.py"))
    assert (properties_dir() / "model" / f"{name}.yaml").is_file()
    spaces = [parse_space(read_yaml(properties_dir() / "tuning" / f"{name}{kind}.yaml")) for kind in ("", ".paper")]
    known = set(read_yaml(properties_dir() / "model" / f"{name}.yaml"))
    assert all(set(space.keys) <= known for space in spaces)
    for path in (properties_dir() / "model" / "tuned").glob(f"*/{name}.yaml"):
        load_config([path], {"model": name, "dataset": path.parent.name})
    assert f'(ModelContract):\n    model = "{name}"' in tests
    assert f"\n| `{name}` |" in (root / "README.md").read_text(encoding="utf-8")
