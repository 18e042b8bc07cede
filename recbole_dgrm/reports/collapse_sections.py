"""The sections of a diagnosis: each yields its heading, figure, table and sentences, and writes its CSV file."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import entr

from recbole_dgrm.evaluation import collapse
from recbole_dgrm.evaluation.collapse import DISTRIBUTION
from recbole_dgrm.evaluation.distribution import Sample, distances
from recbole_dgrm.reports import collapse_figures, figures
from recbole_dgrm.reports.collapse_runs import Watched
from recbole_dgrm.reports.document import Figure, Heading, Table, Value
from recbole_dgrm.system.files import make_folder, write_whole
from recbole_dgrm.system.texts import in_spreadsheet, listed

Section = Callable[[list[Watched], Path], Iterator[Any]]
GROUPS = ("rated", "unrated")
PANELS = 6  # epochs in a figure of distributions
ALPHA = 0.05  # the level that the sentence about the KS test is about
PUBLISHED_KL = {"DGRM": 0.041, "CFGAN": 0.229}  # Table 2, ML-100K
DISTANCES = {
    "kl": "KL(predicted ‖ given)",
    "reverse_kl": "KL(given ‖ predicted)",
    "js": "Jensen-Shannon",
    "wasserstein": "Wasserstein",
}
MEASURES = (
    "KL(predicted ‖ given), nats",
    "entropy of the levels, nats",
    "share of the levels that are covered",
    "share at the ends of the scale",
)
LISTS = {  # of recommendation lists: heading and format
    "distinct": ("distinct lists", "{:.1%}"),
    "items": ("items in any list", "{:.1%}"),
    "gini": ("Gini", "{:.3f}"),
    "entropy": ("entropy, nats", "{:.2f}"),
}


def distributions(runs: list[Watched], folder: Path) -> Iterator[Any]:
    """The given ratings, and the predictions for rated and for unrated pairs epoch by epoch."""
    given = runs[0].ratings
    yield Heading("Ratings and predictions (Figs. 2-6)")
    levels = zip(given.bins.levels, given.shares, strict=True)
    write_csv(folder, "ratings", ["rating", "share"], [[level, share] for level, share in levels])
    caption = f"The {given.n:,} ratings that are learnt from (Fig. 2)."
    yield figure(folder, "ratings", "Ratings", caption, collapse_figures.ratings, given)
    for group in GROUPS:
        histories = {run.name: _some(run.history(group)) for run in runs}
        rows = [
            [run.name, epoch, sample.mean, sample.std, centre, count]
            for run in runs
            for epoch, sample in run.history(group).items()
            for centre, count in zip(given.bins.centres, sample.counts, strict=True)
        ]
        write_csv(folder, f"predictions-{group}", ["model", "epoch", "mean", "std", "bin", "count"], rows)
        title = f"Predictions for {group} pairs"
        caption = (
            f"{title} by epoch (blue) before the given ratings (grey), each scaled to its highest bar; mean (line) and "
            "standard deviation above. What is more than one and a half steps beyond the scale is in the outermost bin."
        )
        yield figure(folder, f"predictions-{group}", title, caption, collapse_figures.panels, histories, given)
        yield from (_story(run, group) for run in runs)


def _some(history: Mapping[int, Sample]) -> dict[int, Sample]:
    """At most ``PANELS`` epochs of the history, evenly spaced from the first to the last."""
    epochs = list(history)
    chosen = np.unique(np.linspace(0, len(epochs) - 1, min(PANELS, len(epochs))).round().astype(int))
    return {epochs[index]: history[epochs[index]] for index in chosen}


def _story(run: Watched, group: str) -> str:
    """A sentence about the first and the last predictions of a group and about its collapses."""
    history = run.history(group)
    (first, start), (last, end) = (list(history.items())[index] for index in (0, -1))
    crossed = run.collapsed(group)
    words = f"{run.name}, {group}: {start.mean:.2f} ± {start.std:.2f} after epoch {first}, "
    words += f"{end.mean:.2f} ± {end.std:.2f} after epoch {last} (ratings {run.ratings.mean:.2f} ± "
    words += f"{run.ratings.std:.2f}); {end.ends:.0%} at the ends of the scale (ratings {run.ratings.ends:.0%}); "
    if not crossed:
        return words + "never collapsed."
    words += f"collapsed at {len(crossed)} of {len(history)} looks, "
    return words + f"first at epoch {crossed[0]}, last at {crossed[-1]}."


def course(runs: list[Watched], folder: Path) -> Iterator[Any]:
    """How four measures of the predictions change from epoch to epoch, and the verdicts."""
    yield Heading("Course of training")
    curves: dict[str, dict[tuple[str, str], collapse_figures.Curve]] = {measure: {} for measure in MEASURES}
    rows = []
    for run in runs:
        for group in GROUPS:
            history = run.history(group)
            values = [_measures(sample, run.ratings) for sample in history.values()]
            for measure, column in zip(MEASURES, zip(*values, strict=True), strict=True):
                curves[measure][run.name, group] = list(history), column
            for epoch, line in zip(history, values, strict=True):
                rows.append([run.name, group, epoch, *line, epoch in run.collapsed(group)])
    crossed = {(run.name, group): run.collapsed(group) for run in runs for group in GROUPS}
    given = dict(zip(MEASURES, _measures(runs[0].ratings, runs[0].ratings), strict=True))
    write_csv(folder, "course", ["model", "group", "epoch", *MEASURES, "collapsed"], rows)
    caption = "Predictions for rated (solid) and unrated pairs (dashed). A cross: judged collapsed. "
    caption += "Dash-dotted: the given ratings."
    yield figure(folder, "course", "Course of training", caption, collapse_figures.course, curves, crossed, given)
    yield from (f"{run.name}: {run.verdict.line}." for run in runs)


def _measures(sample: Sample, given: Sample) -> tuple[float, float, float, float]:
    """The ``MEASURES`` of predictions, compared with the given ratings."""
    wanted = given.shares > 0
    covered = (wanted & ~collapse.lost(sample, given)).sum() / wanted.sum()
    kl = distances(sample.shares, given.shares, given.bins.levels)["kl"]
    return float(kl), float(entr(sample.shares).sum()), float(covered), sample.ends


def test_distances(runs: list[Watched], folder: Path) -> Iterator[Any]:
    """How far the predictions for the test pairs are from their ratings, as distributions (Table 2)."""
    yield Heading("Predicted and given ratings of the test pairs (Table 2)")
    published = on_ml_100k(runs) and any(run.name in PUBLISHED_KL for run in runs)
    columns = ["", *DISTANCES.values(), *(["KL, published"] if published else [])]
    rows, lines = [], []
    for run in runs:
        found = run.found["distances"]
        row = [Value(run.name), *(_with_interval(found[name]) for name in DISTANCES)]
        rows.append(row + [number(PUBLISHED_KL.get(run.name), "{:.3f}")] * published)
        lines += [[run.name, name, *found[name].values()] for name in DISTANCES]
    write_csv(folder, "distances", ["model", "distance", "value", "low", "high"], lines)
    panels = {
        DISTANCES[name]: {run.name: tuple(run.found["distances"][name].values()) for run in runs}
        for name in ("kl", "wasserstein")
    }
    caption = "Whiskers: 95 % intervals over users. Shorter is closer."
    yield figure(folder, "distances", "Distances", caption, collapse_figures.bars, panels)
    note = (
        "Levels of the scale after clipping and rounding. In brackets: 95 % intervals from 1,000 draws of users. KL "
        "and Jensen-Shannon in nats, Wasserstein in units of the ratings."
    )
    note += " Published: DGRM paper, Table 2." if published else ""
    yield Table("Distances of the rating distributions", columns, rows, note=note)
    yield _closest(runs)


def _closest(runs: list[Watched]) -> str:
    """A sentence that orders the runs by the divergence of their predictions."""
    ordered = sorted(runs, key=lambda run: run.found["distances"]["kl"]["value"])
    best = ordered[0].found["distances"]["kl"]
    told = [f"By KL {ordered[0].name} is closest to the given ratings ({best['value']:.3f})"]
    for run in ordered[1:]:
        other = run.found["distances"]["kl"]
        apart = "apart from it" if other["low"] > best["high"] else "their intervals overlap"
        told.append(f"{run.name} has {other['value']:.3f}, {apart}")
    return "; ".join(told) + "."


def ks_test(runs: list[Watched], folder: Path) -> Iterator[Any]:
    """For how many users the KS test does not tell predictions and ratings of the test pairs apart (Fig. 8)."""
    yield Heading("Kolmogorov-Smirnov test by user (Fig. 8)")
    alphas = runs[0].found["ks"]["alphas"]
    runs = [run for run in runs if run.found["ks"]["alphas"] == alphas]  # of one version
    shares = {run.name: (alphas, np.array(run.found["ks"]["hits"]) / run.found["ks"]["users"]) for run in runs}
    columns = ["", *(f"α = {alpha:g}" for alpha in alphas)]
    rows = [[Value(run.name), *(number(hits, "{:,}") for hits in run.found["ks"]["hits"])] for run in runs]
    lines = [
        [run.name, alpha, hits, run.found["ks"]["users"]]
        for run in runs
        for alpha, hits in zip(alphas, run.found["ks"]["hits"], strict=True)
    ]
    write_csv(folder, "ks", ["model", "alpha", "hits", "users"], lines)
    users = runs[0].found["ks"]["users"]
    caption = f"Users of {users:,} whose test ratings and predictions are not told apart."
    yield figure(folder, "ks", "KS hits", caption, collapse_figures.ks_hits, shares)
    note = f"Of {users:,} users; two-sample test, p ≥ α is a hit."
    yield Table("Hits by significance level", columns, rows, note=note)
    if ALPHA not in alphas:
        return
    place = alphas.index(ALPHA)
    ordered = sorted(runs, key=lambda run: -run.found["ks"]["hits"][place])
    told = listed(f"{run.name} {run.found['ks']['hits'][place] / users:.0%}" for run in ordered)
    yield (
        f"Hits at α = {ALPHA:g}: {told}. A hit says that a user's few test ratings do not suffice to tell the two "
        "distributions apart, not that the predictions are right: shuffled ratings would hit everywhere."
    )


def recommendation_lists(runs: list[Watched], folder: Path) -> Iterator[Any]:
    """How many of the recommendation lists and of the items differ."""
    title = "Recommendation lists"
    yield Heading(title)
    rows, lines = [], []
    for run in runs:
        lists, between = run.lists, run.found[DISTRIBUTION].get("between_users")
        values = [number(lists[key], form) for key, (_, form) in LISTS.items()]
        rows.append([Value(run.name), *values, number(between, "{:.1%}")])
        lines.append([run.name, *(lists[key] for key in LISTS), between, lists.get("users")])
    write_csv(folder, "lists", ["model", *LISTS, "between_users", "users"], lines)
    panels = {LISTS[key][0]: {run.name: (run.lists[key] or 0.0,) * 3 for run in runs} for key in ("distinct", "items")}
    yield figure(folder, "lists", title, "Share of all lists, and of all items.", collapse_figures.bars, panels)
    columns = ["", *(heading for heading, _ in LISTS.values()), "variance between users"]
    yield Table(title, columns, rows, note=_lists_note(runs))
    ordered = sorted(runs, key=lambda run: -(run.lists["distinct"] or 0.0))
    ends = ordered if len(runs) < 3 else [ordered[0], ordered[-1]]
    yield " ".join(f"{run.name}: {collapse.lists_line(run.lists)}." for run in ends)


def _lists_note(runs: list[Watched]) -> str:
    """Whose lists are compared, which old records do not say."""
    seen: dict[str, list[str]] = {}
    for run in runs:
        seen.setdefault(collapse.users_line(run.lists), []).append(run.name)
    told = next(iter(seen)) if len(seen) == 1 else "; ".join(f"{', '.join(names)}: {of}" for of, names in seen.items())
    said = ["the same for every model" if len(seen) == 1 and "users" in runs[0].lists else "so compare with care"]
    note = f"Top {runs[0].lists['n']} of the unseen items for each user, by the tested model; {told}, {said[0]}."
    outside = [run.name for run in runs if not run.bins]
    return note + (f" {', '.join(outside)}: the scores are no ratings, only lists can be compared." if outside else "")


def on_ml_100k(runs: Sequence[Watched]) -> bool:
    """Whether the runs are of the data set that the paper's numbers are of."""
    return runs[0].record["dataset"].startswith("ml-100k")


def _with_interval(found: dict[str, float]) -> Value:
    return Value(f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]", found["value"])


def number(value: float | None, form: str = "{}") -> Value:
    """The number in a table, a dash where there is none."""
    return Value("–") if value is None or not math.isfinite(value) else Value(form.format(value), value)


def figure(folder: Path, name: str, title: str, caption: str, draw: Callable, *what: Any) -> Figure | str:
    """Draw ``figures/<name>`` of ``what``; see ``recbole_dgrm.reports.figures.drawn``."""
    return figures.drawn(Figure(f"figures/{name}", title, caption), partial(draw, *what), folder)


def write_csv(folder: Path, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write ``csv/<name>.csv``, unrounded."""

    def write(path: Path) -> None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([in_spreadsheet(value) for value in row] for row in rows)

    make_folder(folder / "csv")
    write_whole(folder / "csv" / f"{name}.csv", write)
