"""What standard deviations of ratings are worth, against integrals, simulated models and a run's own predictions."""

import json

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from recbole_dgrm.evaluation import calibration
from recbole_dgrm.evaluation.calibration import NOMINAL, Gaussians
from recbole_dgrm.maths.biases import fit_biases
from recbole_dgrm.models.bmf.model import BMF
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.runs.trained_run import load_run

N = 40_000


def simulated(factor: float = 1.0) -> Gaussians:
    """Ratings whose errors have other deviations than a model says, by a ``factor``."""
    rng = np.random.default_rng(0)
    deviation = rng.uniform(0.3, 1.5, N)
    return Gaussians(rng.standard_normal(N) * deviation, deviation * factor)


@pytest.mark.parametrize(("error", "deviation"), [(0.0, 1.0), (0.7, 0.5), (-2.5, 0.8), (1.0, 0.01)])
def test_scores_are_those_of_the_definition(error, deviation):
    def apart(value: float) -> float:
        return (norm.cdf(value, scale=deviation) - (value >= error)) ** 2

    ends = sorted((error, 0.0))
    whole = quad(apart, -12, ends[0])[0] + quad(apart, *ends)[0] + quad(apart, ends[1], 12)[0]
    one = Gaussians(np.array([error]), np.array([deviation]))
    assert one.crps == pytest.approx(whole, abs=1e-6)
    assert one.log_score == pytest.approx(0.5 * np.log(2 * np.pi * deviation**2) + error**2 / deviation**2 / 2)


def test_a_model_that_is_right_covers_what_it_promises():
    found = simulated()
    for nominal in NOMINAL:
        assert found.coverage(nominal) == pytest.approx(nominal, abs=4 * (nominal * (1 - nominal) / N) ** 0.5)
    assert 0.3 < found.rank_correlation < 0.6
    for each in found.bins():
        assert each["error"] == pytest.approx(each["deviation"], rel=0.05)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_model_that_is_too_sure_or_not_sure_enough_covers_otherwise_and_scores_worse(factor):
    found, right = simulated(factor), simulated()
    for nominal in NOMINAL:
        exact = 2 * norm.cdf(factor * norm.ppf((1 + nominal) / 2)) - 1
        assert found.coverage(nominal) == pytest.approx(exact, abs=4 * (exact * (1 - exact) / N) ** 0.5 + 1e-4)
    assert found.crps > right.crps + 0.02
    assert found.log_score > right.log_score + 0.5
    assert found.rank_correlation == pytest.approx(right.rank_correlation)


def test_a_deviation_of_0_is_a_point():
    found = Gaussians(np.array([0.5, -1.0, 0.0, 2.0]), np.zeros(4)).to_dict()
    assert found["observed"] == [0.25] * len(NOMINAL)
    assert (found["crps"], found["log_score"], found["rank_correlation"], found["bins"]) == (0.875, None, None, [])
    partly = Gaussians(np.array([0.5, 1.0]), np.array([0.0, 1.0]))
    assert partly.log_score is None
    assert partly.crps == pytest.approx((0.5 + Gaussians(np.array([1.0]), np.array([1.0])).crps) / 2)


@pytest.mark.parametrize("refit", [True, False])
def test_what_a_run_leaves_is_that_of_its_predictions(make_config, refit):
    record, path = run_one(make_config("BMF", epochs=8, burn_in=4, refit=refit))
    found = json.loads((path / "record.json").read_text())["diagnosis"]["calibration"]
    assert found == record.diagnosis["calibration"]
    run = load_run(path)
    user, item, rating = run.splits.triples("test")
    names = run.users[user - 1], run.items[item]
    exact = Gaussians(rating - run.predict(*names), run.deviations(*names)).to_dict()
    assert found["model"]["observed"] == pytest.approx(exact["observed"])
    for key in ("n", "deviation", "crps", "log_score", "rank_correlation"):
        assert found["model"][key] == pytest.approx(exact[key], rel=1e-5)
    parts = {part: run.splits.triples(part) for part in ("train", "valid", "known")}
    sizes = run.splits.train.user_num, run.splits.train.item_num, run.config["bias_shrinkage"]
    valid, fitted = parts["valid"], fit_biases(*parts["train"], *sizes)
    usual = np.sqrt(np.mean((valid[2] - fitted.predict(*valid[:2])) ** 2))
    means = fit_biases(*parts["known" if refit else "train"], *sizes).predict(user, item)
    exact = Gaussians(rating - means, np.full(len(rating), usual)).to_dict()
    assert (found["means"]["rank_correlation"], found["means"]["bins"]) == (None, [])
    for key in ("n", "deviation", "crps", "log_score", "nominal", "observed"):
        assert found["means"][key] == pytest.approx(exact[key])


def test_of_many_users_some_are_evaluated(make_config, monkeypatch):
    monkeypatch.setattr(calibration, "USERS", 10)
    record, path = run_one(make_config("BMF", epochs=8, burn_in=4, refit=False))
    found, run = record.diagnosis["calibration"], load_run(path)
    user, item, rating = (each[run.splits.triples("test")[0] % 3 == 1] for each in run.splits.triples("test"))
    assert len(np.unique(user)) == 10  # of 30
    names = run.users[user - 1], run.items[item]
    exact = Gaussians(rating - run.predict(*names), run.deviations(*names))
    assert found["model"]["n"] == found["means"]["n"] == len(rating)
    assert found["model"]["crps"] == pytest.approx(exact.crps, rel=1e-5)


@pytest.mark.parametrize(("name", "protocol"), [("MF", "rated"), ("DGRM", "full")])
def test_a_model_that_does_not_say_how_sure_it_is_of_ratings_has_none(make_config, name, protocol):
    record, _ = run_one(make_config(name, protocol=protocol, epochs=1, refit=False))
    assert record.diagnosis
    assert "calibration" not in record.diagnosis


def test_asking_how_sure_a_model_is_changes_no_number_of_a_run(make_config, monkeypatch):
    asked, _ = run_one(make_config("BMF", refit=False))
    monkeypatch.delattr(BMF, "deviations")
    silent, _ = run_one(make_config("BMF", refit=False))
    assert asked.test == silent.test
    assert {*asked.diagnosis} - {*silent.diagnosis} == {"calibration"}
