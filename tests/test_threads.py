"""Neither other threads nor what a caller has set change a number, and what the caller has set stays as it is."""

import logging
import random
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import recbole_dgrm as rd
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.models import registry
from recbole_dgrm.runs import experiment
from recbole_dgrm.system.turns import turn
from recbole_dgrm.testing.small import SMALL, random_ratings

USERS, ITEMS = [str(user) for user in range(8)], [str(item) for item in range(8)]
NEW = random_ratings(n_users=5, seed=3)
NOISY = {"sampling_noise": True, "eval_batch_size": 7}  # in DiffRec and LDiffRec; several batches
MODELS = [*((name, {}) for name in registry.MODELS), ("DiffRec", NOISY), ("BPR", {}), ("LDiffRec", NOISY)]


def name_of(value: Any) -> str | None:
    return value if isinstance(value, str) else "-".join(value) if isinstance(value, dict) else None


@pytest.fixture(scope="module")
def trained(ratings_path, tmp_path_factory):
    """``trained(model, **keys)``: a small run, trained anew."""

    def make(model: str, **keys: Any) -> rd.TrainedRun:
        declared = registry.declares_options(model)
        own = {field.name for field in fields(registry.model_class(model).Options)} if declared else set()
        small = {key: value for key, value in SMALL.items() if key in own}
        where = {"data_path": str(ratings_path), "output_dir": str(tmp_path_factory.mktemp("runs"))}
        return rd.train(model, "noise", **{**where, "device": "cpu", "epochs": 2, "refit": False, **small, **keys})

    return make


@pytest.fixture(scope="module")
def kept(trained):
    """``kept(model, keys)``: a run that was trained once, and what it predicted then."""
    runs: dict[str, tuple[rd.TrainedRun, dict[str, Any]]] = {}

    def make(model: str, keys: dict[str, Any]) -> tuple[rd.TrainedRun, dict[str, Any]]:
        name = f"{model} {keys}"
        if name not in runs:
            run = trained(model, **keys)
            runs[name] = run, predicted(run)
        return runs[name]

    return make


def predicted(run: rd.TrainedRun) -> dict[str, Any]:
    """Everything that a run predicts, also of new users and about how sure it is, where its model can."""
    found: dict[str, Any] = {"pairs": run.predict(USERS, ITEMS), "lists": run.recommend(USERS, 5)}
    sources = {"": run}
    if getattr(run.model, "takes_new_users", False):
        sources["new "] = run.with_ratings(NEW)
    for whose, source in sources.items():
        found[f"{whose}lists"] = source.recommend(source.users[:5], 5, exclude="none")
        if hasattr(run.model, "deviations"):
            found[f"{whose}deviations"] = source.deviations(source.users[:5], ITEMS[:5])
    return found


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(found[name], value, check_exact=True)
        else:
            np.testing.assert_array_equal(found[name], value)


def assert_same_run(run: rd.TrainedRun, other: rd.TrainedRun) -> None:
    for part in ("test", "valid", "reference", "skill", "resolution", "groups", "diagnosis", "data", "error"):
        assert run.record[part] == other.record[part], part
    for name, value in other.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], value), name


def directory_of(run: rd.TrainedRun) -> Path:
    return Path(run.config["checkpoint_dir"])


def in_threads(*works) -> list[Any]:
    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]


@contextmanager
def taken_turn() -> Iterator[threading.Event]:
    """Within the block, another thread has the turn, until the event is set."""
    has, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with turn():
            has.set()
            ends.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert has.wait(60)
    try:
        yield ends
    finally:
        ends.set()
        thread.join()


# Threads


def test_trainings_in_threads_give_what_each_gives_alone(kept, trained):
    models = ["ICDAE", "BPR"]
    for name, run in zip(models, in_threads(*[lambda name=name: trained(name) for name in models]), strict=True):
        assert_same_run(run, kept(name, {})[0])


@pytest.mark.parametrize(("model", "keys"), MODELS, ids=name_of)
def test_predictions_are_the_same_in_threads_and_whatever_the_caller_has_set(kept, model, keys):
    run, expected = kept(model, keys)
    with taken_turn() if registry.draws_nothing(run.model) else nullcontext():  # ours wait for nobody
        for found in in_threads(*[lambda: predicted(run)] * 2):
            assert_same(found, expected)
    for setting in SETTINGS:
        with caller(setting):
            before = state()
            assert_same(predicted(run), expected)
            assert state() == before


def test_predictions_during_a_training_are_as_before_it(kept, trained):
    runs = [kept("DGRM", {}), kept("LDiffRec", NOISY)]
    _, *found = in_threads(lambda: trained("BPR"), *[lambda run=run: predicted(run) for run, _ in runs])
    for each, (_, expected) in zip(found, runs, strict=True):
        assert_same(each, expected)


def test_a_model_of_recbole_waits_for_the_turn(kept):
    run, expected = kept("BPR", {})
    with ThreadPoolExecutor(1) as pool:
        with taken_turn():
            future = pool.submit(predicted, run)
            time.sleep(0.3)
            assert not future.done()
        assert_same(future.result(), expected)


def test_a_log_has_the_lines_of_its_own_thread_alone(trained, monkeypatch):
    other, root = logging.getLogger("another.library"), logging.getLogger()
    levels, split = [], build_splits

    def meanwhile(*given, **keys):
        thread = threading.Thread(target=lambda: other.warning("a line of another thread"))
        thread.start()
        thread.join()
        other.warning("a line of this thread")
        levels.append(root.level)
        return split(*given, **keys)

    monkeypatch.setattr(experiment, "build_splits", meanwhile)
    log = (directory_of(trained("MF")) / "run.log").read_text()
    assert "valid_score" in log  # what RecBole's loop says
    assert "a line of this thread" in log
    assert "a line of another thread" not in log
    assert levels == [root.level]


# What the caller has set


SETTINGS = ("strict", "reduced")


@contextmanager
def caller(setting: str) -> Iterator[None]:
    """Within the block, a caller has set much."""
    is_strict = setting == "strict"
    with ExitStack() as stack, warnings.catch_warnings(), np.errstate():
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(torch.set_default_device, None)
        stack.callback(torch.use_deterministic_algorithms, False)
        torch.set_default_dtype(torch.float64 if is_strict else torch.bfloat16)
        torch.set_default_device("meta" if is_strict else "cpu")
        if is_strict:
            torch.use_deterministic_algorithms(True, warn_only=True)
            np.seterr(all="raise")
            warnings.simplefilter("error")
            stack.enter_context(torch.no_grad())
        else:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(torch.autocast("cpu", torch.float16))
        yield


def state() -> dict[str, Any]:
    """All that a caller may have set."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": [str(part) for part in np.random.get_state()],
        "python": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ),
        "numpy's errors": np.geterr(),
        "logging": (
            logging.getLogger().level,
            logging.getLogger("recbole_dgrm").level,
            logging.getLogger().handlers[:],
        ),
        "threads' errors": threading.excepthook,
        "showing warnings": warnings.showwarning,
    }


@pytest.mark.parametrize(
    ("setting", "model", "keys"),
    [("strict", "DGRM", {}), ("reduced", "ICDAE", {}), ("strict", "BPR", {})],
    ids=name_of,
)
def test_trainings_are_the_same_whatever_the_caller_has_set(kept, trained, model, keys, setting):
    run, expected = kept(model, keys)
    with caller(setting):
        before = state()
        other = trained(model, **keys)
        assert state() == before
        assert_same_run(other, run)
        loaded = rd.load_run(directory_of(other))
        assert state() == before
        assert_same(predicted(loaded), expected)
        assert loaded.evaluate()["test"] == run.record["test"]
        assert state() == before


def test_a_training_that_fails_leaves_what_the_caller_has_set(trained, monkeypatch):
    def fails(*_: object) -> None:
        np.random.rand(), torch.rand(1), random.random()
        raise RuntimeError("broken")

    monkeypatch.setattr(registry.MODELS["ICDAE"], "calculate_loss", fails)
    with caller("strict"):
        before = state()
        with pytest.raises(RuntimeError, match="broken"):
            trained("ICDAE")
        assert state() == before


def test_a_split_is_the_same_whatever_the_caller_has_set(make_config, ratings_path):
    config = make_config("MF", known_share=0.5)
    expected = build_splits(config).fingerprint()
    for setting in SETTINGS:
        with caller(setting):
            assert build_splits(config).fingerprint() == expected
