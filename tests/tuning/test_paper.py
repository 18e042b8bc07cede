"""The forms and the grids of the paper: presets in ``properties/model/paper/`` and spaces ``<Model>.paper.yaml``."""

import re

import numpy as np
import pytest
from helpers import ROOT, blocks

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.system.yaml_files import properties_dir
from recbole_dgrm.tuning.plan import plan_search
from recbole_dgrm.tuning.space import parse_space

DIR = properties_dir()
BUDGET = 25  # trials of every model, docs/tuning.md
RATES = [1e-4, 1e-3, 1e-2]
PASSES = {"generator_iterations": [2, 4], "critic_iterations": [1, 2]}
CHAIN = {"noise_scale": [0, 1e-4, 1e-2, 1e-1, 1], "noise_min": [1e-4, 1e-3, 1e-2], "noise_max": [5e-3, 1e-1, 1]}
OURS = {**CHAIN, **PASSES, "learning_rate": RATES, "denoising_steps": [0, 1, 2, 3, 4, 5]}
APPENDIX_A = {
    "DGRM": OURS,
    "DGRMKL": OURS,
    "MF": {"regularization": [1e-1, 1e-2], "factors": [8, 10, 12]},
    "NCF": {"learning_rate": [1e-3, 1e-2], "mf_embedding_size": [12, 14, 16]},
    "ICDAE": {"learning_rate": RATES, "latent_size": [24, 32, 64], "weight_decay": [1e-4, 1e-2]},
    "CFGAN": {
        "generator_iterations": [2, 4],
        "discriminator_iterations": [1, 2],
        "learning_rate": RATES,
        "n_negatives": [70, 200, 400],
    },
    "PRGAN": {
        "generator_iterations": [2, 4],
        "critic_iterations": [3, 5],
        "learning_rate": [1e-3, 1e-2],
        "lipschitz_weight": [1e-2, 1e-1],
    },
    "DiffRec": {
        "learning_rate": RATES,
        "dims_dnn": [[256], [512], [1024]],
        "steps": [2, 5, 10],
        "sampling_steps": [0, 1, 4],
    },
}
TIED = {  # a key and another one that the paper does not choose apart from it
    "critic_learning_rate": "learning_rate",
    "discriminator_learning_rate": "learning_rate",
    "mlp_embedding_size": "mf_embedding_size",
}


def preset(name: str) -> dict:
    return read_yaml(DIR / "model" / "paper" / f"{name}.yaml")


def meaning(point: dict) -> str:
    """A text that is the same for points that mean the same model."""
    point = dict(point)
    if "denoising_steps" in point:
        scale = point["noise_scale"]
        point |= {key: f"{scale * point[key]:.3g}" for key in ("noise_min", "noise_max")} | {"noise_scale": 1}
        if scale == 0:  # x_t is x_0, and the first step of the posterior is the generator's output
            point["denoising_steps"] = max(1, point["denoising_steps"])
    return str(sorted(point.items()))


def test_every_method_of_the_paper_has_a_form_and_a_grid_and_the_documented_commands_search_all():
    (commands,) = blocks(ROOT / "docs" / "tuning.md", "bash")
    assert set(re.findall(r"for model in (.*); do", commands)[0].split()) == set(APPENDIX_A)
    assert f"--space=properties/tuning/$model.paper.yaml --trials={BUDGET} " in commands
    assert {path.stem for path in (DIR / "model" / "paper").iterdir()} == set(APPENDIX_A)
    assert {path.name.split(".")[0] for path in (DIR / "tuning").glob("*.paper.yaml")} == set(APPENDIX_A)


@pytest.mark.parametrize("name", APPENDIX_A)
def test_a_form_of_the_paper_changes_its_own_keys_only_and_says_where_each_is_from(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the short path is found outside of a checkout
    where, path = {"model": name, "dataset": "ml-100k"}, f"properties/model/paper/{name}.yaml"
    defaults, form = load_config(config_dict=where).given, load_config(path, where).given
    assert {key for key in form if form[key] != defaults[key]} <= set(preset(name))
    assert {key: form[key] for key in preset(name)} == preset(name)
    assert set(preset(name)) <= {*read_yaml(DIR / "model" / f"{name}.yaml"), "weight_decay", "train_batch_size"}
    lines = (DIR / path.removeprefix("properties/")).read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert line.startswith("#") or re.search(r" # .*\[(P|P grid|C|O)\b.*\]", line), line


@pytest.mark.parametrize("name", APPENDIX_A)
def test_a_grid_of_the_paper_has_its_values_and_no_point_twice(name):
    space = parse_space(read_yaml(DIR / "tuning" / f"{name}.paper.yaml"))
    points = [space.point(labels) for labels in space.grid(np.random.default_rng(0))]
    assert len(points) >= BUDGET
    assert len({meaning(point) for point in points}) == len(points)
    for key, values in APPENDIX_A[name].items():
        assert {str(value) for value in values} <= {str(point[key]) for point in points}
    for key, other in TIED.items():
        assert all(point[key] == point[other] for point in points if key in point)
    assert space.fixed == {key: value for key, value in preset(name).items() if key not in space.distributions}
    assert space.fixed.get("center", "none") == "none"


@pytest.mark.parametrize("name", APPENDIX_A)
def test_every_model_gets_the_same_number_of_points(name):
    space = read_yaml(DIR / "tuning" / f"{name}.paper.yaml")
    config = {"model": name, "dataset": "ml-100k", "protocol": "rated", "seed": 2020, "valid_metric": "RMSE"}
    plan = plan_search(config, space, trials=BUDGET)
    assert (plan.sampler, plan.trials) == ("grid", BUDGET)
