"""A room imports from lower floors only; no import goes round in a circle; nothing is unpickled or evaluated."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import recbole_dgrm
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.models import registry
from recbole_dgrm.system.yaml_files import properties_dir
from recbole_dgrm.tuning.space import parse_space

PACKAGE = Path(recbole_dgrm.__file__).parent
FLOORS = [
    {"errors", "maths", "start"},
    {"options", "system"},
    {"compat", "data", "identity", "models"},
    {"evaluation", "records"},
    {"config", "training", "reports"},
    {"runs"},
    {"benchmarks", "plugin"},
    {"tuning"},
    {"cli", "testing"},
]  # a room imports from lower floors only; rooms of one floor do not know each other
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
WITHOUT_RECBOLE = (
    *("errors", "identity", "maths", "options", "records", "reports", "tuning.space"),
    *(f"system.{name}" for name in ("distributed", "files", "processes")),
    *(f"system.{name}" for name in ("texts", "yaml_files")),
    *(f"models.dgrm.{name}" for name in ("diffusion", "networks", "options", "profiles", "sampling")),
    *(f"evaluation.{name}" for name in ("collapse", "distribution", "metric_names", "ranking")),
)
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or not path.stem.startswith("__"))
NAMES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}


def name_of(path: Path) -> str:
    return next(name for name, other in NAMES.items() if other == path)


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
    return inner & set(NAMES)


def room_of(name: str) -> str:
    return name.split(".")[0]


def test_every_room_has_a_floor():
    assert {room_of(name) for name in NAMES} == set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path):
    here = room_of(name_of(path))
    rooms = {room_of(other) for other in own_modules(imports_of(path))} - {here}
    assert not [room for room in rooms if FLOOR[room] >= FLOOR[here]]


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: own_modules(imports_of(path)) - {name} for name, path in NAMES.items()}
    TopologicalSorter(graph).prepare()  # raises a CycleError that names the circle


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).startswith(WITHOUT_RECBOLE)], ids=name_of)
def test_what_needs_no_recbole_does_not_import_it(path):
    assert not [name for name in imports_of(path) if name.split(".")[0] in ("recbole", "ray")]


def test_no_model_is_known_by_name_above_the_models():
    classes = {model.__name__ for model in registry.MODELS.values()} | {"ProfileRecommender"}
    for name, path in NAMES.items():
        if FLOOR[room_of(name)] > FLOOR["models"]:
            assert not {full for full in imports_of(path) if full.split(".")[-1] in classes}, name


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
def test_every_model_has_its_places_and_a_row_in_the_readme(name):
    root = PACKAGE.parent
    tests = "".join(path.read_text(encoding="utf-8") for path in (root / "tests").rglob("test_*.py"))
    assert (properties_dir() / "model" / f"{name}.yaml").is_file()
    known = set(read_yaml(properties_dir() / "model" / f"{name}.yaml"))
    for path in (properties_dir() / "tuning").glob(f"{name}.*"):  # a search space is optional
        assert set(parse_space(read_yaml(path)).keys) <= known
    for path in (properties_dir() / "model" / "tuned").glob(f"*/{name}.yaml"):
        load_config([path], {"model": name, "dataset": path.parent.name})
    for path in (properties_dir() / "model").glob(f"*/{name}.yaml"):
        load_config([path], {"model": name, "dataset": "ml-100k"})
    assert f'(ModelContract):\n    model = "{name}"' in tests
    assert f"\n| `{name}` |" in (root / "README.md").read_text(encoding="utf-8")
