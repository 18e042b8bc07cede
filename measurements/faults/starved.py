"""Runs of a benchmark that get too little memory or time."""

import random
import resource
from pathlib import Path
from typing import Any

import yaml
from jobs import KEYS, Benchmark, run
from kills import Tally

LIMIT = 6 * 2**30  # bytes of addresses, of which the libraries take more than they use
LATE_S = 40  # enough for the small run, also on a busy machine
GREEDY = {"model": "DGRM", "label": "greedy", "config": {**KEYS, "latent_size": None}}
ENDLESS = {"model": "DGRM", "label": "endless", "config": {**KEYS, "epochs": 100_000, "stopping_step": 100_000}}
SMALL = {"model": "MF", "config": {"epochs": 3, "device": "cpu"}}


def memory(folder: Path, times: int) -> Tally:
    """Networks of random sizes that do not fit."""
    tally, chance = Tally(), random.Random("memory")
    for number in range(times):
        width = chance.randrange(100_000, 2_000_000)
        row = {**GREEDY, "config": {**GREEDY["config"], "generator_hidden": [width]}}
        limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))}
        tally.problems += _one_fails(
            folder / str(number), {"models": [SMALL, row]}, "failed", "train_batch_size", limit
        )
        tally.stops += 1
    return tally


def time_limit(folder: Path, times: int) -> Tally:
    """A run that never ends."""
    tally = Tally()
    for number in range(times):
        plan = {"models": [SMALL, ENDLESS], "time_limit": LATE_S}
        tally.problems += _one_fails(folder / str(number), plan, "timed_out", f"time limit of {LATE_S} s", {})
        tally.stops += 1
    return tally


def _one_fails(place: Path, plan: dict[str, Any], status: str, said: str, options: dict[str, Any]) -> list[str]:
    path, log = place.with_suffix(".yaml"), place.with_suffix(".log")
    path.write_text(yaml.safe_dump({"datasets": ["ml-100k"], "threads": 1, **plan}))
    outcome = run(["benchmark", f"--config={path}", f"--output_dir={place}", "--workers=2"], log, **options)
    failed = Benchmark().failed(place)
    found = [(record["status"], record["error"]) for record in failed]
    finished = len(Benchmark().finished(place))
    if outcome.status == 1 and finished == 1 and len(found) == 1 and found[0][0] == status and said in found[0][1]:
        return []
    return [f"{place}: status {outcome.status}, {finished} finished, {found}: {outcome.said[-500:]}"]
