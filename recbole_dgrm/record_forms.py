"""The forms of what a run leaves on disk; a file that departs from them is damaged or not ours.

Of a record everything but its first five entries may be missing, as it is in one of a run that has just begun.
"""

from itertools import pairwise
from typing import Any

from recbole_dgrm.system.forms import each, keys, number, table, text

LARGEST = 1e30  # of a metric: predictions of a model that diverged reach it, and its square is still a number
LEVELS = 1e6  # of a rating scale
YEARS_S = 1e10  # seconds in three centuries
STATUSES = ("running", "finished", "interrupted", "diverged", "failed", "timed_out")
COUNT = number(0, 2**53, whole=True)
MAYBE_COUNT = number(0, 2**53, none=True, whole=True)
SCORE = number(-LARGEST, LARGEST, none=True)
SCORES = table(SCORE)
SECONDS = number(0, YEARS_S)
SAMPLE = keys({}, {"n": number(1, 2**53, whole=True), "mean": number(-LARGEST, LARGEST), "std": number(0, LARGEST),
                   "counts": each(COUNT)})  # fmt: skip
DISTRIBUTION = keys({
    **dict.fromkeys(("rated", "unrated", "ratings", "test", "validation"), SAMPLE),
    "between_users": number(0, 1, none=True),
    "lists": keys({"users": COUNT, "of_users": COUNT, "rankings": number(0, 1)}, {
        "n": COUNT, **dict.fromkeys(("distinct", "items"), number(0, 1, none=True)),
        **dict.fromkeys(("gini", "entropy"), SCORE),
    }),
})  # fmt: skip
VERDICT = keys({}, {
    "status": text(of=("collapsed", "narrow", "intact", "unknown")), "reason": text(), "epoch": MAYBE_COUNT,
    "since": MAYBE_COUNT, "training": text(), "passing": each(COUNT),
})  # fmt: skip
BOUNDS = keys({}, dict.fromkeys(("value", "low", "high"), number(-LARGEST, LARGEST)))
DISTANCES = keys({}, dict.fromkeys(("kl", "reverse_kl", "js", "wasserstein"), BOUNDS))
POINT = keys({}, {"prediction": text(of=("posterior", "x_0_hat")), "denoising_steps": COUNT,
                  "prediction_noise_steps": COUNT})  # fmt: skip
KS = keys({}, {"users": number(1, 2**53, whole=True), "alphas": each(number(0, 1)), "hits": each(COUNT)})


def _scale(value: Any, name: str) -> str | None:
    if said := each(number(-LARGEST, LARGEST))(value, name):
        return said
    fits = len(value) != 3 or (value[0] < value[1] and value[2] > 0 and value[1] - value[0] < LEVELS * value[2])
    return None if fits else f"{name} is {value}, not the lowest rating, the highest and a step between"


def _levels(value: Any, name: str) -> str | None:
    if said := each(number(-LARGEST, LARGEST))(value, name):
        return said
    rising = len(value) > 1 and all(low < high for low, high in pairwise(value))
    return None if rising else f"{name} does not rise from one level to the next"


def _ks(value: Any, name: str) -> str | None:
    said = KS(value, name)
    return said or (None if len(value["alphas"]) == len(value["hits"]) else f"{name} has not a hit for each alpha")


def _sweep(value: Any, name: str) -> str | None:
    if said := each(POINT)(value, name):
        return said
    named = [{key for key, item in point.items() if isinstance(item, (int, float))} for point in value]
    ranked = value and any(key.startswith(("ratedndcg", "ndcg")) for key in named[0])
    return None if ranked and all(keys == named[0] for keys in named) else f"{name} has not one metric at all points"


DIAGNOSIS = keys({
    "verdict": VERDICT, "distribution": DISTRIBUTION, "distances": DISTANCES, "seconds": SECONDS, "ks": _ks,
    "sweep": _sweep, "scale": _scale, "levels": _levels,
})  # fmt: skip
RATING_SCALE = keys({}, {
    **dict.fromkeys(("low", "high", "threshold"), number(-LARGEST, LARGEST)), "levels": _levels,
})  # fmt: skip


def _rating_scale(value: Any, name: str) -> str | None:
    return None if value is None else RATING_SCALE(value, name)


def _mode(value: Any, name: str) -> str | None:
    return text()(value, name) if not isinstance(value, dict) else table(text())(value, name)


CONFIG = keys({
    "eval_args": keys({"mode": _mode}), "valid_metric": text(), "topk": each(COUNT), "metrics": each(text()),
    "diagnose_every": COUNT, "fixed_step": MAYBE_COUNT,
})  # fmt: skip
RECORD = keys({
    "label": text(), "hash": text(), "status": text(of=STATUSES), "error": text(none=True),
    "traceback": text(none=True), "parameters": MAYBE_COUNT, "valid": SCORES, "test": SCORES, "skill": SCORES,
    "reference": table(SCORES), "diagnosis": DIAGNOSIS, "timing": table(SECONDS),
    "environment": table(lambda value, name: None if isinstance(value, (str, int, float, type(None))) else (
        f"{name} is a {type(value).__name__}")),
    "data": keys({"source": text(), "fingerprint": text(), "notes": each(text()), "scale": _rating_scale,
                  **dict.fromkeys(("n_users", "n_items", "n_train", "n_valid", "n_test"), COUNT)}),
}, {
    "model": text(), "dataset": text(), "protocol": text(), "seed": number(0, 2**31 - 1, whole=True), "config": CONFIG,
})  # fmt: skip
LINE = keys({"distribution": DISTRIBUTION, "diagnose_s": SECONDS, "diagnosis_error": text()}, {
    "epoch": COUNT, "stage": text(of=("select", "refit")), "seconds": SECONDS,
})  # fmt: skip
MEASURED = table(number(none=True))


def EPOCH(value: Any, name: str) -> str | None:
    """A line of ``metrics.jsonl``: beside what all have, losses and metrics by name."""
    rest = {key: item for key, item in value.items() if key not in ("stage", "distribution", "diagnosis_error")} if (
        isinstance(value, dict)) else value  # fmt: skip
    return LINE(value, name) or MEASURED(rest, name)


SEARCH = keys({}, {
    "config": keys({}), "space": keys({}), "sampler": text(), "trials": number(1, 2**31, whole=True), "study": text(),
    "place": text(), "prune": lambda value, name: None if isinstance(value, bool) else f"{name} is not true or false",
})  # fmt: skip


def _row(value: Any, name: str) -> str | None:
    return None if isinstance(value, str) else keys({"label": text()}, {"model": text()})(value, name)


NAMES = each(text())
PLAN = keys({
    "models": each(_row), "protocols": NAMES,
    "metrics": lambda value, name: None if value is None else NAMES(value, name), "baseline": text(none=True),
    "published": keys({"source": text(), "protocols": NAMES, "values": table(table(table(number())))}),
})  # fmt: skip
