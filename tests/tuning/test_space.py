"""Search spaces: what may be written, grids, draws, conditions."""

import math
from itertools import product

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.errors import OptionError
from recbole_dgrm.system.yaml_files import properties_dir
from recbole_dgrm.tuning.plan import plan_search
from recbole_dgrm.tuning.space import parse_space, read_space_file

RNG = np.random.default_rng


def study(seed: int) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))


def test_a_grid_is_every_valid_point_once_in_an_order_of_the_seed():
    keys = {"low": {"choice": [1, 2, 3]}, "high": {"int": [2, 4]}, "sizes": {"choice": [[8], [8, 4]]}}
    space = parse_space({**keys, "fixed": 0.5, "conditions": ["low < high"]})
    points = [space.point(labels) for labels in space.grid(RNG(0))]
    expected = [(low, high, sizes) for low, high, sizes in product([1, 2, 3], [2, 3, 4], [[8], [8, 4]]) if low < high]
    assert sorted((p["low"], p["high"], p["sizes"]) for p in points) == sorted(expected)
    assert {point["fixed"] for point in points} == {0.5}
    assert space.grid(RNG(0)) == space.grid(RNG(0)) != space.grid(RNG(1))


def test_one_comparison_of_a_condition_with_or_is_enough():
    keys = {"scale": {"choice": [0, 1]}, "low": {"choice": [1, 2]}, "high": {"choice": [2, 3]}}
    space = parse_space({**keys, "conditions": ["scale > 0 or low == 1", "low < high or high > 2 or scale == 0"]})
    points = sorted(tuple(space.point(labels).values()) for labels in space.grid(RNG(0)))
    assert points == [(0, 1, 2), (0, 1, 3), (1, 1, 2), (1, 1, 3), (1, 2, 3)]


@given(st.integers(0, 2**32 - 1))
def test_draws_are_valid_and_in_range(seed):
    keys = {"a": {"uniform": [0, 1]}, "b": {"loguniform": [1e-3, 10]}, "c": {"int": [2, 5]}}
    keys |= {"d": {"choice": ["x", None]}, "conditions": ["a < b", "c != 3"]}
    space = parse_space(keys)
    point = space.point(space.sample(study(seed), {}))
    assert 0 <= point["a"] <= 1
    assert 1e-3 <= point["b"] <= 10
    assert point["a"] < point["b"]
    assert point["c"] in (2, 4, 5)
    assert point["d"] in ("x", None)


def test_a_space_without_a_valid_point_is_refused():
    space = parse_space({"a": {"choice": [1, 2]}, "conditions": ["a > 5"]})
    with pytest.raises(OptionError, match="no valid point in 1000 samples"):
        space.sample(study(0), {})


def test_optuna_samples_the_values_behind_the_labels_and_keeps_what_is_given():
    keys = {"sizes": {"choice": [[8], [8, 4]]}, "n": {"int": [1, 3]}, "r": {"loguniform": [0.1, 1]}, "f": 2}
    space = parse_space(keys)
    point = space.point(space.sample(study(0), {"sizes": "[8, 4]", "n": 2}))
    assert point == {"f": 2, "sizes": [8, 4], "n": 2, "r": point["r"]}
    assert 0.1 <= point["r"] <= 1


NO_ENTRIES = [{}, {"choose": [1]}, {"choice": 3}, {"choice": [1], "int": [1, 2]}, {"choice": []}, {"choice": [1, 1]}]
NO_ENTRIES += [{"uniform": [1]}, {"uniform": [2, 1]}, {"uniform": [0, math.nan]}, {"loguniform": [0, 1]}]
NO_ENTRIES += [{"int": [0.5, 2]}, {"quniform": [0, 1, 0]}]
NOT_UNDERSTOOD = r"a: .* is not understood; write a: {...} with one of choice: \[different values\], "


def test_what_cannot_be_understood_is_refused():
    for content, message in [
        ({"a": 1}, "no key to search"),
        *(({"a": entry}, NOT_UNDERSTOOD) for entry in NO_ENTRIES),
        ({"a": {"choice": [1, 2]}, "sampler": "best"}, "sampler='best' is unknown; one of grid, random, tpe"),
        ({"a": {"choice": [1, 2]}, "conditions": ["a < b"]}, "condition 'a < b': 'b' is not a key"),
        ({"a": {"choice": [1, 2]}, "conditions": ["a is 2"]}, "condition 'a is 2' is not understood"),
        ({"a": {"choice": [1, 2]}, "conditions": ["a < 2 or"]}, "condition 'a < 2 or' is not understood"),
        ({"a": {"choice": [1, 2]}, "conditions": ["a < 2 or b > 1"]}, "condition 'a < 2 or b > 1': 'b' is not a key"),
        ({"a": {"choice": [1, 2]}, "conditions": "a < 2"}, "must be a list"),
    ]:
        with pytest.raises(OptionError, match=message):
            parse_space(content)


def test_a_grid_without_an_end_or_without_a_valid_point_is_refused():
    for content, message in [
        ({"a": {"uniform": [0, 1]}}, "sampler=grid cannot list the values of a"),
        ({"a": {"choice": [1, 2]}, "conditions": ["a > 5"]}, "no point satisfies a > 5"),
        ({"factors": {"int": [1, 10**11]}}, "more than 100,000; name fewer values"),
        ({f"k{n}": {"int": [1, 99]} for n in range(9)}, "more than 100,000; name fewer values"),
        (
            {"n": {"int": [1, 9]}, "lr": {"choice": ["a"]}, "conditions": ["n < lr"]},
            "condition 'n < lr': 1 and 'a' cannot be compared",
        ),
    ]:
        with pytest.raises(OptionError, match=message):
            parse_space(content).grid(RNG(0))


def test_recboles_lines_are_read_with_literals_only(tmp_path):
    path = tmp_path / "hyper.test"
    path.write_text(
        "learning_rate choice [0.01, 0.005]\n# words\n\nweight loguniform -8,0\n"
        "drop uniform 0.1, 0.5\nsize quniform 10,50,20\nmlp choice ['[64]','[64,32]']\n"
    )
    space = parse_space(read_space_file(path, read_yaml))
    found = space.distributions
    assert found["learning_rate"].choices == (0.01, 0.005)
    assert (found["weight"].low, found["weight"].high) == (math.exp(-8), 1)
    assert (found["drop"].low, found["drop"].high) == (0.1, 0.5)
    assert {space.sample(study(seed), {})["size"] for seed in range(20)} == {10, 30, 50}
    assert found["mlp"].choices == ("[64]", "[64,32]")
    path.write_text("learning_rate choice __import__('os').getcwd()\n")
    with pytest.raises(OptionError, match=r"hyper.test: .*is not understood"):
        read_space_file(path, read_yaml)
    with pytest.raises(OptionError, match=r"nothing.test: No such file"):
        read_space_file(tmp_path / "nothing.test", read_yaml)


@pytest.mark.parametrize("path", sorted((properties_dir() / "tuning").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_spaces_have_points_that_the_model_takes(path):
    config = {"model": path.name.split(".")[0], "dataset": "ml-100k", "protocol": "rated", "seed": 1}
    search = plan_search({**config, "valid_metric": "RMSE"}, read_space_file(path, read_yaml))
    assert search.sampler == ("grid" if "paper" in path.name else "tpe")
    assert search.trials > 1
