"""What several tests do or need; the small data sets are those of ``recbole_dgrm.testing``."""

import json
import re
import time
from concurrent.futures import Future
from pathlib import Path

import torch

import recbole_dgrm
from recbole_dgrm.benchmarks.executors import Job, LocalExecutor
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.maths.layers import layers_after
from recbole_dgrm.models import registry
from recbole_dgrm.records import EPOCHS, RECORD
from recbole_dgrm.runs import experiment
from recbole_dgrm.system.files import write_json
from recbole_dgrm.testing.small import SMALL, checkerboard, random_ratings, write_ratings

__all__ = ["SMALL", "checkerboard", "random_ratings", "write_ratings"]
ROOT = Path(recbole_dgrm.__file__).parent.parent
# pieces of small benchmarks
QUICK = {"epochs": 2, "eval_step": 1, "checkpoint_interval": 0, "device": "cpu"}
SIZES = {"generator_hidden": [8], "critic_hidden": [4], "latent_size": 2}
MF = {"model": "MF", "config": {"factors": 2}}
ENDLESS = {"model": "DGRM", "label": "endless", "config": {**SIZES, "epochs": 100_000, "stopping_step": 100_000}}


PAPER = {
    **{"noise_scale": 1.0, "noise_max": 1.0, "latent_size": None, "center": "none", "condition_scale": "none"},
    **{"decay_per_rating": 0.0, "weight_average": 0.0, "prediction_noise_steps": 1, "prediction_draws": 1},
}  # what of the paper's form is not DGRM's default


def paper_keys() -> dict:
    """The defaults of DGRM, with the sizes of small tests."""
    return {key: value for key, value in read_yaml(registry.defaults_file("DGRM")).items() if key not in SMALL}


def with_random_outputs(model):
    """A DGRM with random output weights, which start at 0; also in the averaged generator."""
    weight = 0.1 * torch.randn(model.generator.output.weight.shape, generator=torch.Generator().manual_seed(0))
    for generator in (model.generator, model.predictor):
        generator.output.weight.data.copy_(weight)
    return model


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a page in a language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    return [text for name, text in fenced if name == language]


def ratings_of(splits, *parts: str) -> dict[tuple[str, str], float]:
    """The ratings of some parts of a split, by user and item."""
    found = {}
    for part in parts:
        user, item, rating = splits.triples(part)
        names = splits.train.id2token("user_id", user), splits.train.id2token("item_id", item)
        found |= dict(zip(zip(*names, strict=True), rating.tolist(), strict=True))
    return found


def wait_for(condition, seconds: float = 90):
    """What ``condition()`` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


class Here(LocalExecutor):
    """Makes the runs one after the other in the process of the test, which has loaded torch already."""

    def __init__(self, workers: int = 1):
        super().__init__(1)

    def start(self, job: Job, run_dir: Path) -> Future:
        def make() -> dict[str, bytes]:
            job.lay_out(run_dir)
            experiment.make(run_dir, label=job.label)
            return {}

        return self._threads.submit(make)


def record_of(path: Path) -> dict:
    """The record of a run, as it is in its file."""
    return json.loads((path / RECORD).read_text(encoding="utf-8"))


def lines_of(path: Path) -> list[dict]:
    """What a run has written about its epochs."""
    return [json.loads(line) for line in (path / EPOCHS).read_text(encoding="utf-8").splitlines()]


def interrupted(path: Path) -> Path:
    """The directory of a run, after its record is changed to that of a run that was interrupted."""
    write_json(path / RECORD, {**record_of(path), "status": "interrupted"})
    return path


def mlp(sizes: list[int]) -> torch.nn.Sequential:
    """A perceptron of the given sizes, with ReLU between its layers."""
    return torch.nn.Sequential(torch.nn.Linear(sizes[0], sizes[1]), *layers_after(sizes[1:]))
