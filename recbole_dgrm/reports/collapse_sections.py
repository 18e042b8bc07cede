"""The sections of a diagnosis: each is a frame, from which its CSV file, figure and table are made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from recbole_dgrm.evaluation import collapse
from recbole_dgrm.evaluation.collapse import DISTRIBUTION
from recbole_dgrm.evaluation.distribution import Sample, distances
from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.evaluation.resolution import averaged, too_noisy
from recbole_dgrm.reports import collapse_figures, comparable
from recbole_dgrm.reports.collapse_runs import DiagnosedRun
from recbole_dgrm.reports.document import Figure, Table, Value
from recbole_dgrm.system.texts import listed

GROUPS = ("rated", "unrated")
PUBLISHED_KL = {"DGRM": 0.041, "CFGAN": 0.229}  # Table 2, ML-100K
DISTANCES = {
    "kl": "KL(predicted ‖ given)",
    "reverse_kl": "KL(given ‖ predicted)",
    "js": "Jensen-Shannon",
    "wasserstein": "Wasserstein",
}
KL = f"{DISTANCES['kl']}, nats"
LISTS = {"distinct": "distinct lists", "items": "items in any list", "gini": "Gini", "entropy": "entropy, nats"}
BETWEEN = "variance between users"
SWEPT = ("ratedndcg", "ratedrecall", "rmse")  # the metrics of Fig. 7; lists have the first length
LIST_FORMS = dict(zip([*LISTS.values(), BETWEEN], (".1%", ".1%", ".3f", ".2f", ".1%"), strict=True))


@dataclass(frozen=True)
class DiagnosisSection:
    """A section of a diagnosis.

    Attributes:
        name: the name of its CSV file and its figure.
        frame: the unrounded numbers of the CSV file.
        blocks: figure, table and sentences, which are made from the frame.
    """

    heading: str
    name: str
    frame: pd.DataFrame
    blocks: Sequence[str | Table | Figure] = ()


def sections(runs: list[DiagnosedRun]) -> Iterator[DiagnosisSection]:
    """All sections that the runs have numbers for, in the order of the report."""
    rating = [run for run in runs if run.predicts_ratings]
    if inspected := [run for run in rating if run.inspections]:
        yield given_ratings(inspected)
        yield from (distributions(inspected, group) for group in GROUPS)
        yield training(inspected)
    if compared := [run for run in rating if "distances" in run.diagnosis]:
        yield test_distances(compared)
    if tested := [run for run in rating if "ks" in run.diagnosis]:
        yield ks_test(tested)
    if swept := [run for run in rating if "sweep" in run.diagnosis]:
        yield denoising_steps(swept)
    if any(run.record["config"].get("fixed_step") is not None for run in runs):
        yield fixed_steps([run for run in runs if "fixed_step" in run.record["config"]])
    yield recommendation_lists(runs)


def given_ratings(runs: list[DiagnosedRun]) -> DiagnosisSection:
    """How often each rating is given (Fig. 2)."""
    given = runs[0].ratings
    frame = pd.DataFrame({"rating": given.bins.levels, "share": given.shares})
    sentence = (
        f"The ratings of the training part are {given.mean:.2f} ± {given.std:.2f}; {given.ends:.0%} of them are the "
        "lowest or the highest rating. Rated pairs are those of the training part."
    )
    return DiagnosisSection("Ratings and predictions (Figs. 2-6)", "ratings", frame, [sentence])


def distributions(runs: list[DiagnosedRun], group: str) -> DiagnosisSection:
    """The predictions for rated or for unrated pairs epoch by epoch."""
    given = runs[0].ratings
    lines = [
        (run.name, epoch, sample.mean, sample.std, centre, count)
        for run in runs
        for epoch, sample in run.history(group).items()
        for centre, count in zip(given.bins.centres, sample.counts, strict=True)
    ]
    frame = pd.DataFrame(lines, columns=["model", "epoch", "mean", "std", "bin", "count"])
    title = f"Predictions for {group} pairs"
    caption = (
        f"{title} by epoch (blue) in front of the {given.n:,} ratings of the training part (grey), each scaled to its "
        "highest bar. The line is the mean. Predictions beyond the scale by more than one and a half steps are in the "
        "outermost bin."
    )
    draw = partial(collapse_figures.distributions, frame, given)
    name = f"predictions-{group}"
    return DiagnosisSection("", name, frame, [Figure(f"figures/{name}", title, caption, draw)])


def training(runs: list[DiagnosedRun]) -> DiagnosisSection:
    """The distance of predictions from the given ratings by epoch, and the epochs with a collapse."""
    lines = [
        (run.name, group, epoch, _kl(sample, run.ratings), sample.ends, run.collapsed_after(epoch, group))
        for run in runs
        for group in GROUPS
        for epoch, sample in run.history(group).items()
    ]
    frame = pd.DataFrame(lines, columns=["model", "group", "epoch", KL, "share at the ends of the scale", "collapsed"])
    caption = (
        "A panel per model: the KL divergence of its predictions from the given ratings after each inspected epoch. It "
        "is 0 for predictions that are distributed as the ratings are. A red cross: the predictions have collapsed. "
        "Values beyond the axis are at its end."
    )
    draw = partial(collapse_figures.training, frame, KL)
    figure = Figure("figures/training", "Distance from the given ratings during training", caption, draw)
    return DiagnosisSection("Predictions during training", "training", frame, [figure])


def _kl(sample: Sample, given: Sample) -> float:
    return float(distances(sample.shares, given.shares, given.bins.levels)["kl"])


def test_distances(runs: list[DiagnosedRun]) -> DiagnosisSection:
    """The distances between the distributions of predictions and ratings of the test pairs (Table 2)."""
    lines = [(run.name, name, *run.diagnosis["distances"][name].values()) for run in runs for name in DISTANCES]
    frame = pd.DataFrame(lines, columns=["model", "distance", "value", "low", "high"])
    texts = [Value(f"{value:.3f} [{low:.3f}, {high:.3f}]", value) for _, _, value, low, high in lines]
    cells = np.array(texts, dtype=object).reshape(len(runs), -1)
    wide = pd.DataFrame(cells, [run.name for run in runs], list(DISTANCES.values()))
    note = (
        "Between shares of the levels of the scale, after clipping and rounding. In brackets: 95 % intervals from "
        "1,000 samples of users. KL and Jensen-Shannon are in nats, Wasserstein is in rating points."
    )
    if runs[0].record["dataset"].startswith("ml-100k") and any(run.name in PUBLISHED_KL for run in runs):
        wide["KL, published"] = [Value.of(PUBLISHED_KL.get(run.name), ".3f") for run in runs]
        note += " Published: DGRM paper, Table 2."
    caption = (
        "Distances of predicted from given ratings, the closest model on top. Whiskers: 95 % intervals over users."
    )
    drawn = {"kl": KL, "wasserstein": "Wasserstein, rating points"}
    figure = Figure("figures/distances", "Distances", caption, partial(collapse_figures.distances, frame, drawn))
    table = Table.of_frame("Distances of the rating distributions", wide, note=note, mark="distances")
    heading = "Predicted and given ratings of the test pairs (Table 2)"
    return DiagnosisSection(heading, "distances", frame, [figure, table, _closest(frame)])


def _closest(frame: pd.DataFrame) -> str:
    """Which run is closest to the given ratings by KL, and which cannot be distinguished from it."""
    best, *others = frame[frame["distance"] == "kl"].sort_values("value", kind="stable").itertuples()
    overlapping = [row.model for row in others if row.low <= best.high]
    others_text = f"; the intervals of {listed(overlapping)} overlap with its interval" if overlapping else ""
    return f"{best.model} is closest to the given ratings by KL ({best.value:.3f}){others_text}."


def ks_test(runs: list[DiagnosedRun]) -> DiagnosisSection:
    """The number of users whose predictions and ratings do not differ significantly by the KS test (Fig. 8)."""
    lines = [
        (run.name, run.diagnosis["ks"]["users"], alpha, hits)
        for run in runs
        for alpha, hits in zip(run.diagnosis["ks"]["alphas"], run.diagnosis["ks"]["hits"], strict=True)
    ]
    frame = pd.DataFrame(lines, columns=["model", "users", "alpha", "hits"])
    users = runs[0].diagnosis["ks"]["users"]
    note = (
        f"Of {users:,} users. A hit is p ≥ α in the two-sample test: the few test ratings of this user are not enough "
        "to reject that predictions and ratings have one distribution. It does not mean that the predictions are "
        "right: shuffled ratings would be hits too."
    )
    shares = frame.assign(share=frame["hits"] / frame["users"])[["model", "alpha", "share"]]
    words = ("significance level α", "share of users with p ≥ α")
    draw = partial(collapse_figures.lines, shares, *words, log=True)
    caption = f"Share of {users:,} users whose test ratings and predictions do not differ significantly."
    table = Table.of_frame("Hits by significance level", _wide(frame, "alpha", "α = {:g}"), ",.0f", note, mark="ks")
    heading = "Kolmogorov-Smirnov test by user (Fig. 8)"
    return DiagnosisSection(heading, "ks", frame, [Figure("figures/ks", "KS hits", caption, draw), table])


def denoising_steps(runs: list[DiagnosedRun]) -> DiagnosisSection:
    """The ranking and the error of predictions after 0, 1, ... denoising steps (Fig. 7)."""
    first = runs[0].diagnosis["sweep"][0]
    found = (next((key for key in first if key.startswith(name)), None) for name in SWEPT)
    metrics = {key: metric_label(key) for key in found if key}
    lines = [
        (run.name, point["prediction"], point["denoising_steps"], *map(point.get, metrics))
        for run in runs
        for point in sorted(run.diagnosis["sweep"], key=lambda point: point["prediction"] != "posterior")
    ]
    frame = pd.DataFrame(lines, columns=["model", "prediction", "denoising_steps", *metrics.values()])
    caption = (
        f"Each trained model predicts from the profile after {first['prediction_noise_steps']} noise steps and T' "
        "denoising steps. posterior: the state x_(T-T') of section 3.3; x_0_hat: the last output of the generator. On "
        "validation; the test part is not used. Each panel has its own vertical axis."
    )
    draw = partial(collapse_figures.denoising_steps, frame)
    blocks: list[str | Table | Figure] = [Figure("figures/sweep", "Denoising steps", caption, draw)]
    named = frame.assign(model=frame["model"] + ", " + frame["prediction"])
    for metric in metrics.values():
        wide = _wide(named[["model", "denoising_steps", metric]], "denoising_steps", "T' = {}")
        blocks.append(Table.of_frame(f"Denoising steps, {metric}", wide, ".3f"))
    blocks += _too_noisy(runs, "valid", list(metrics))
    return DiagnosisSection("Denoising steps T' (Fig. 7)", "sweep", frame, blocks)


def _wide(frame: pd.DataFrame, columns: str, heading: str) -> pd.DataFrame:
    """The last column of a frame, with a row per name in its first column and a column per value of ``columns``."""
    name, *_, values = frame.columns
    wide = frame.pivot(index=name, columns=columns, values=values).loc[frame[name].unique()]
    return wide.rename_axis(None).rename(columns=heading.format)


def fixed_steps(runs: list[DiagnosedRun]) -> DiagnosisSection:
    """The metrics of models that were trained with only one noise step (Table 4)."""
    heading = "Fixed noise steps in training (Table 4)"
    tests = {run.name: run.record["test"] for run in runs}
    common = [key for key in runs[0].record["test"] if all(test.get(key) is not None for test in tests.values())]
    names = [key for key in common if key.startswith(("ratedrecall", "ratedndcg"))]
    steps = [run.record["config"]["fixed_step"] for run in runs]
    frame = pd.DataFrame({"model": list(tests), "fixed_step": pd.Series(steps, dtype=object)})
    frame = frame.assign(**{key: [test[key] for test in tests.values()] for key in names})
    if not names:
        return DiagnosisSection(heading, "fixed_step", frame, ["The runs have no ranking of rated items in common."])
    wide = frame.set_index("model")[names].rename_axis(None).rename(columns=metric_label)
    note = "Test part, one seed, tied scores shared. Only training is fixed to t; prediction is as configured."
    table = Table.of_frame("Fixed noise steps", wide, ".3f", note, mark="fixed_step")
    return DiagnosisSection(heading, "fixed_step", frame, [table, *_too_noisy(runs, "test", names)])


def recommendation_lists(runs: list[DiagnosedRun]) -> DiagnosisSection:
    """The shares of distinct recommendation lists and of items in any list, and related numbers."""
    distributions = [run.diagnosis[DISTRIBUTION] for run in runs]
    frame = pd.DataFrame([{key: found["lists"][key] for key in (*LISTS, "users")} for found in distributions])
    frame.insert(len(LISTS), "between_users", [found.get("between_users") for found in distributions])
    frame.insert(0, "model", [run.name for run in runs])
    columns = {**LISTS, "between_users": BETWEEN}
    wide = frame.set_index("model")[list(columns)].rename_axis(None).rename(columns=columns)
    users = list(dict.fromkeys(collapse.users_line(found["lists"]) for found in distributions))
    alike = "the same for every model" if len(users) == 1 else "not the same for every model, so compare with care"
    n = distributions[0]["lists"]["n"]
    note = f"Top {n} of the unseen items for each user, by the tested model; {listed(users)}, {alike}."
    if others := [run.name for run in runs if not run.predicts_ratings]:
        note += f" {listed(others)}: these models do not predict ratings, so only lists can be compared."
    title = "Recommendation lists"
    table = Table.of_frame(title, wide, LIST_FORMS, note, mark="lists")
    return DiagnosisSection(title, "lists", frame, [table])


def _too_noisy(runs: list[DiagnosedRun], part: str, metrics: list[str]) -> Iterator[str]:
    """A sentence about the metrics that are too noisy on a part of the data to compare models, if there are any."""
    if sentence := too_noisy(averaged([comparable.resolutions(run.record, part) for run in runs]), metrics):
        yield f"On this data {sentence}."
