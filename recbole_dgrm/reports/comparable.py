"""Checks that runs can be compared in one table: the same definition of metrics, split and reference rows.

The *definition* of a run consists of the keys that its metrics depend on, without those of its training.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from recbole_dgrm.errors import DataError
from recbole_dgrm.evaluation.metric_names import is_worse, metric_label, reference_label
from recbole_dgrm.evaluation.resolution import is_precise
from recbole_dgrm.maths.levels import even_step
from recbole_dgrm.records import RunDirectory

RATED = ("rated_ties", "rated_filter", "rated_denominator")
SCALE = ("rating_scale", "rating_step", "rating_threshold")
DATA = """
    feedback split_rounding benchmark_filename USER_ID_FIELD ITEM_ID_FIELD RATING_FIELD TIME_FIELD
    rm_dup_inter val_interval filter_inter_by_user_or_item user_inter_num_interval item_inter_num_interval
    metric_decimal_place
"""
EVAL_ARGS = {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "RO", "mode": "full"}  # RecBole's own
LEARNING = {"random": ("refit",), "bias": ("refit", "bias_shrinkage"), "oracle": ()}  # keys of each reference row
MADE_WITH = ("recbole_dgrm", "commit", "recbole", "torch", "numpy", "python", "device", "threads")
MEANS = ("ratedndcg", "ratedrecall", "ndcg", "recall", "hit", "precision", "mrr", "map")  # plain means over users
ROUNDING = 1e-6  # the largest relative difference from summing in another order
VISIBLE = 5e-5  # half of the last digit that tables show
USUAL = "USER_ID_FIELD ITEM_ID_FIELD RATING_FIELD TIME_FIELD metric_decimal_place filter_inter_by_user_or_item"
WHOLE = ("known_share", 1.0)  # all ratings of training and validation are used
Definition = dict[str, Any]


def tested_by(config: dict[str, Any]) -> str:
    """The test mode: ``labeled`` (a user's own test ratings are ranked), ``full`` or another one of RecBole's."""
    mode = config.get("eval_args", {}).get("mode", EVAL_ARGS["mode"])
    return mode.get("test", EVAL_ARGS["mode"]) if isinstance(mode, dict) else mode


def definition_of(record: dict[str, Any]) -> Definition:
    """What the metrics of a run mean, key by key; None where its record has no value."""
    config = record["config"]
    definition = {key: config.get(key) for key in DATA.split()}
    definition["known_share"] = config.get("known_share", 1.0)
    definition |= EVAL_ARGS | config.get("eval_args", {}) | {"mode": tested_by(config)}
    if definition["mode"] == "labeled":
        definition |= {key: config.get(key) for key in RATED} | _scale(record)
    return definition


def _scale(record: dict[str, Any]) -> Definition:
    """The scale, step and threshold of a run; if its levels are not evenly spaced, they replace the step."""
    scale = record["data"].get("scale")
    if not scale:
        return {key: record["config"].get(key) for key in SCALE}
    levels = scale["levels"]
    step = None if scale.get("continuous") else even_step(np.array(levels))
    ends = [float(scale["low"]), float(scale["high"])]
    return dict(zip(SCALE, (ends, step or levels, float(scale["threshold"])), strict=True))


def differences(definition: Definition, others: Iterable[Definition]) -> str:
    """The keys in which ``definition`` and ``others`` differ, as ``key=value, ...`` of ``definition``."""
    every = [definition, *others]
    keys = sorted({key for one in every for key in one})
    differing = [key for key in keys if len({json.dumps(one.get(key), sort_keys=True) for one in every}) > 1]
    return ", ".join(f"{key}={value_text(definition.get(key))}" for key in differing)


def described(definition: Definition) -> str:
    """A definition as text, without the keys that nearly always have the same value."""
    return ", ".join(
        f"{key}={value_text(value)}"
        for key, value in definition.items()
        if key not in USUAL.split() and value not in (None, "[0,inf)") and (key, value) != WHOLE
    )


def value_text(value: Any) -> str:
    """A config value as text for a title: ``4.5``, ``[1, 5]``, ``relevant``, ``not set``."""
    if isinstance(value, list):
        return f"[{', '.join(map(value_text, value))}]"
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def check_splits(runs: Sequence[RunDirectory]) -> None:
    """Check that runs of a cell with the same seed used the same split, and that all runs used the same data.

    Raises:
        DataError: two runs did not.
    """
    first: dict[int, RunDirectory] = {}
    for run in runs:
        other = first.setdefault(run.record["seed"], run)
        seen, expected = (saved.record["data"].get("fingerprint") for saved in (run, other))
        if seen != expected:
            raise DataError(
                f"{run.path} and {other.path} used different splits ({seen}, {expected}) and cannot be compared; "
                "remove the one with the wrong data and run it again"
            )
    _check_sources([run for run in runs if run.record["data"].get("source")])


def _check_sources(runs: Sequence[RunDirectory]) -> None:
    """Check that all runs used the same data; different files have the same data if their splits of a seed agree."""
    seeds: dict[str, set[int]] = {}
    for run in runs:
        seeds.setdefault(run.record["data"]["source"], set()).add(run.record["seed"])
    linked, size = set(next(iter(seeds.values()), ())), -1
    while len(linked) > size:
        size = len(linked)
        linked = linked.union(*(of_one for of_one in seeds.values() if of_one & linked))
    for run in runs:
        if run.record["seed"] not in linked:
            raise DataError(
                f"{run.path} and {runs[0].path} were made with different data files ({run.record['data']['source']}, "
                f"{runs[0].record['data']['source']}) and cannot be compared; move those with the old data away and "
                "run them again"
            )


def reference_settings(run: RunDirectory, name: str) -> tuple[tuple[str, Any], ...]:
    """The keys and values of a run that its reference row ``name`` depends on."""
    return tuple((key, run.record["config"].get(key)) for key in LEARNING.get(name, ()))


def check_references(runs: Iterable[RunDirectory]) -> None:
    """Check that runs of one cell and seed have the same reference rows, if these depend on the same settings.

    Raises:
        DataError: two runs have different ones.
    """
    first: dict[tuple, tuple[float, RunDirectory]] = {}
    for run in runs:
        for name, values in run.record["reference"].items():
            for metric, value in values.items():
                if value is None:
                    continue
                place = run.record["seed"], name, metric, reference_settings(run, name)
                expected, other = first.setdefault(place, (value, run))
                if abs(value - expected) > _rounding(run.record, expected):
                    raise DataError(
                        f"{run.path} and {other.path} disagree about the reference row {name}: {metric} is {value:.6f} "
                        f"and {expected:.6f}, so one of them was made with other rules or another version; run the "
                        "older one again"
                    )


def contradicted(run: RunDirectory) -> dict[str, float]:
    """The metrics of a record that differ from the means over users in ``per_user.npz``, with these means."""
    vectors, test = run.per_user(), run.record["test"]
    plain = [metric for metric in vectors.keys() & test.keys() if metric.partition("@")[0] in MEANS]
    means = {metric: float(np.nanmean(vectors[metric])) for metric in sorted(plain) if test[metric] is not None}
    return {key: mean for key, mean in means.items() if abs(mean - test[key]) > _rounding(run.record, mean)}


def _rounding(record: dict[str, Any], value: float) -> float:
    """The largest rounding error of ``value``, from the digits in the record and the order of summation."""
    digits = record["config"].get("metric_decimal_place")
    return max(10.0**-digits if isinstance(digits, int) else 0.0, ROUNDING * max(1.0, abs(value)))


def above_oracle(record: dict[str, Any]) -> list[str]:
    """The metrics in which a run is better than the oracle by more than rounding, which is an error of this package."""
    oracle = record["reference"].get("oracle", {})
    pairs = [(metric, oracle.get(metric), value) for metric, value in record["test"].items()]
    known = [pair for pair in pairs if None not in pair]
    return [metric for metric, best, value in known if is_worse(metric, best, value, _rounding(record, best))]


def below_bias(record: dict[str, Any], part: str = "test") -> list[str]:
    """The metrics in which a run is visibly worse than its bias row: user + item means or (full ranking) popularity."""
    bias = record["reference"].get("bias", {})
    pairs = [(metric, value, bias.get(metric)) for metric, value in record[part].items()]
    return [pair[0] for pair in pairs if None not in pair and is_worse(*pair, VISIBLE)]


def selected_by(record: dict[str, Any]) -> str:
    """The metric for early stopping."""
    return (record.get("selected_by") or record["config"].get("valid_metric", "")).lower()


def resolutions(record: dict[str, Any], part: str = "test") -> dict[str, dict[str, float]]:
    """The resolution of each metric on a part; see ``recbole_dgrm.evaluation.resolution``."""
    return record.get("resolution", {}).get(part, {})


def metric_against_bias(record: dict[str, Any], part: str = "test") -> str:
    """The metric in which a model is compared with its bias row: RMSE if it predicts ratings, or that of validation."""
    both = record[part], record["reference"].get("bias", {})
    return "rmse" if all(values.get("rmse") is not None for values in both) else selected_by(record)


def worse_than_bias(record: dict[str, Any], part: str = "test") -> str:
    """A clause about a model that is worse than its bias row in a metric that is precise enough; else empty."""
    metric = metric_against_bias(record, part)
    if metric not in below_bias(record, part) or not is_precise(resolutions(record, part), metric):
        return ""
    value, bias = record[part][metric], record["reference"]["bias"][metric]
    row = reference_label("bias", tested_by(record["config"]))
    return f"is worse than {row}: {metric_label(metric)[:-2]} is {value:.4f}, theirs {bias:.4f}"


def still_improving(record: dict[str, Any]) -> bool:
    """Whether ``epochs`` ended the training and the best epoch is the last validated one, so more epochs may be better.

    A single validation, at the end, does not show that.
    """
    config, timing = record["config"], record["timing"]
    allowed, every = config.get("epochs"), config.get("eval_step", 1)
    if allowed is None or timing.get("epochs") != allowed or not trains(record):
        return False
    return every < allowed and timing.get("best_epoch", 0) > allowed - every


def made_with(records: Iterable[dict[str, Any]]) -> str:
    """A sentence about the versions and devices of runs."""
    environments = [record["environment"] for record in records]
    texts = {", ".join(f"{key} {one[key]}" for key in MADE_WITH if key in one) for one in environments}
    return "Made with: " + "; ".join(sorted(texts)) + "."


def trains(record: dict[str, Any]) -> bool:
    """Whether the model is trained in epochs; RecBole's closed-form models have a single unused parameter."""
    return (record["parameters"] or 0) > 1
