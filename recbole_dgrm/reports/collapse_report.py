"""A diagnosis of a folder of runs: what their records say about mode collapse, as a page, figures and CSV files.

Reads records only. Each section is a report of its own: figure, numbers (``csv/``), and a paragraph about what is seen.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import entr

from recbole_dgrm.evaluation import collapse
from recbole_dgrm.evaluation.diagnosis import DISTRIBUTION
from recbole_dgrm.evaluation.distribution import Sample, distances
from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.reports import collapse_figures, figures
from recbole_dgrm.reports.collapse_runs import Watched, watched
from recbole_dgrm.reports.document import Document, Figure, Heading, Table, Value, to_html, to_markdown
from recbole_dgrm.system.files import write_text, write_whole
from recbole_dgrm.system.texts import in_spreadsheet

GROUPS = ("rated", "unrated")
PANELS = 8  # epochs in a figure of distributions
ALPHA = 0.05
PUBLISHED_KL = {"DGRM": 0.041, "CFGAN": 0.229}  # Table 2, ML-100K
PUBLISHED_STEPS = {5: (0.547, 0.572), 1: (0.557, 0.583), None: (0.567, 0.593)}  # Table 4, ML-100K: Recall, NDCG
DISTANCES = {"kl": "KL(predicted ‖ given)", "reverse_kl": "KL(given ‖ predicted)", "js": "Jensen-Shannon",
             "wasserstein": "Wasserstein"}  # fmt: skip
MEASURES = ("KL(predicted ‖ given), nats", "entropy of the levels, nats", "share of the levels that are covered",
            "share at the ends of the scale")  # fmt: skip


def write_diagnosis(folder: Path) -> Path:
    """Write ``diagnosis.{html,md}``, ``figures/`` and ``csv/`` about the runs below ``folder``.

    Returns:
        Path of ``diagnosis.html``.

    Raises:
        DataError: no run there was watched.
    """
    runs = watched(folder)
    document = build(runs, folder)
    forms = {"md": to_markdown(document), "html": to_html(document, folder)}
    for kind, text in forms.items():
        write_text(folder / f"diagnosis.{kind}", text)
    return folder / "diagnosis.html"


def build(runs: list[Watched], folder: Path) -> Document:
    """The document; draws its figures and writes its CSV files on the way."""
    one = runs[0].record
    document = Document(f"Mode collapse on {one['dataset']}")
    add = document.blocks.extend
    rating = [run for run in runs if run.bins]
    add([_introduction(runs), verdict_table(runs)])
    if seen := [run for run in rating if run.looks]:
        add(_distributions(seen, folder))
        add(_course(seen, folder))
    if beside := [run for run in rating if "distances" in run.found]:
        add(_table_2(beside, folder))
        add(_ks(beside, folder))
    if swept := [run for run in rating if "sweep" in run.found]:
        add(_sweep(swept, folder))
    if any(run.record["config"].get("fixed_step") is not None for run in runs):
        add(_fixed_steps(runs, folder))
    add(_lists(runs, folder))
    add([Heading("How to read this"), *_explanations()])
    return document


def verdict_table(runs: list[Watched]) -> Table:
    """The verdict on each run."""
    columns = ["", "verdict", "tested epoch", "collapse since epoch", "why"]
    rows = [
        [Value(run.name), Value(run.verdict.status), _number(run.verdict.epoch), _number(run.verdict.since),
         Value(run.verdict.reason)]
        for run in runs
    ]  # fmt: skip
    return Table("Verdicts", columns, rows, note="Of the tested model; the fourth column is about its whole training.")


def _introduction(runs: list[Watched]) -> str:
    record = runs[0].record
    data, config = record["data"], record["config"]
    return (
        f"{data['n_users']:,} users, {data['n_items']:,} items, {data['n_train']:,} ratings to train; protocol "
        f"{record['protocol']}, seed {record['seed']}. Looked at after epoch 1 and every {config['diagnose_every']} "
        "epochs; training does not stop early, the tested model is the best of validation."
    )


def _distributions(runs: list[Watched], folder: Path) -> Iterator[Any]:
    given = runs[0].ratings
    yield Heading("Ratings and predictions (Figs. 2-6)")
    levels = zip(given.bins.levels, given.shares, strict=True)
    _write_csv(folder, "ratings", ["rating", "share"], [[level, share] for level, share in levels])
    yield figures.drawn(Figure("figures/ratings", "Ratings", f"The {given.n:,} ratings that are learnt from (Fig. 2)."),
                      partial(collapse_figures.ratings, given), folder)  # fmt: skip
    for group in GROUPS:
        histories = {run.name: _some(run.history(group)) for run in runs}
        rows = [
            [run.name, epoch, sample.mean, sample.std, centre, count]
            for run in runs
            for epoch, sample in run.history(group).items()
            for centre, count in zip(given.bins.centres, sample.counts, strict=True)
        ]
        _write_csv(folder, f"predictions-{group}", ["model", "epoch", "mean", "std", "bin", "count"], rows)
        figure = Figure(f"figures/predictions-{group}", f"Predictions for {group} pairs", (
            f"Predictions for {group} pairs by epoch (blue) before the given ratings (grey), each scaled to its "
            "highest bar; mean (line) and standard deviation above. What is more than one and a half steps beyond the "
            "scale is in the outermost bin."))  # fmt: skip
        yield figures.drawn(figure, partial(collapse_figures.panels, histories, given), folder)
        yield from (_story(run, group) for run in runs)


def _some(history: Mapping[int, Sample]) -> dict[int, Sample]:
    """At most ``PANELS`` epochs, the first and the last among them."""
    epochs = list(history)
    chosen = np.unique(np.linspace(0, len(epochs) - 1, min(PANELS, len(epochs))).round().astype(int))
    return {epochs[index]: history[epochs[index]] for index in chosen}


def _story(run: Watched, group: str) -> str:
    history = run.history(group)
    (first, start), (last, end) = (list(history.items())[index] for index in (0, -1))
    crossed = run.collapsed(group)
    words = f"{run.name}, {group}: {start.mean:.2f} ± {start.std:.2f} after epoch {first}, "
    words += f"{end.mean:.2f} ± {end.std:.2f} after epoch {last} (ratings {run.ratings.mean:.2f} ± "
    words += f"{run.ratings.std:.2f}); {end.ends:.0%} at the ends of the scale (ratings {run.ratings.ends:.0%}); "
    if not crossed:
        return words + "never collapsed."
    return (
        words
        + f"collapsed at {len(crossed)} of {len(history)} looks, first at epoch {crossed[0]}, last at {crossed[-1]}."
    )


def _course(runs: list[Watched], folder: Path) -> Iterator[Any]:
    yield Heading("Course of training")
    curves: dict[str, dict[tuple[str, str], collapse_figures.Curve]] = {measure: {} for measure in MEASURES}
    rows = []
    for run in runs:
        for group in GROUPS:
            history = run.history(group)
            values = [_measures(sample, run.ratings) for sample in history.values()]
            for measure, column in zip(MEASURES, zip(*values, strict=True), strict=True):
                curves[measure][run.name, group] = list(history), column
            rows += [[run.name, group, epoch, *line, epoch in run.collapsed(group)]
                     for epoch, line in zip(history, values, strict=True)]  # fmt: skip
    crossed = {(run.name, group): run.collapsed(group) for run in runs for group in GROUPS}
    given = dict(zip(MEASURES, _measures(runs[0].ratings, runs[0].ratings), strict=True))
    _write_csv(folder, "course", ["model", "group", "epoch", *MEASURES, "collapsed"], rows)
    figure = Figure("figures/course", "Course of training", (
        "Predictions for rated (solid) and unrated pairs (dashed). A cross: judged collapsed. Dash-dotted: the given "
        "ratings."))  # fmt: skip
    yield figures.drawn(figure, partial(collapse_figures.course, curves, crossed, given), folder)
    yield from (f"{run.name}: {run.verdict.line}." for run in runs)


def _measures(sample: Sample, given: Sample) -> tuple[float, float, float, float]:
    wanted = given.shares > 0
    covered = (wanted & ~collapse.lost(sample, given)).sum() / wanted.sum()
    kl = distances(sample.shares, given.shares, given.bins.levels)["kl"]
    return float(kl), float(entr(sample.shares).sum()), float(covered), sample.ends


def _table_2(runs: list[Watched], folder: Path) -> Iterator[Any]:
    yield Heading("Predicted and given ratings of the test pairs (Table 2)")
    published = _on_ml_100k(runs) and any(run.name in PUBLISHED_KL for run in runs)
    columns = ["", *DISTANCES.values(), *(["KL, published"] if published else [])]
    rows, lines = [], []
    for run in runs:
        found = run.found["distances"]
        row = [Value(run.name), *(_with_interval(found[name]) for name in DISTANCES)]
        rows.append(row + [_number(PUBLISHED_KL.get(run.name), "{:.3f}")] * published)
        lines += [[run.name, name, *found[name].values()] for name in DISTANCES]
    _write_csv(folder, "distances", ["model", "distance", "value", "low", "high"], lines)
    panels = {DISTANCES[name]: {run.name: tuple(run.found["distances"][name].values()) for run in runs}
              for name in ("kl", "wasserstein")}  # fmt: skip
    figure = Figure("figures/distances", "Distances", "Whiskers: 95 % intervals over users. Shorter is closer.")
    yield figures.drawn(figure, partial(collapse_figures.bars, panels), folder)
    yield Table("Distances of the rating distributions", columns, rows, note=(
        "Levels of the scale after clipping and rounding. In brackets: 95 % intervals from 1,000 draws of users. KL "
        "and Jensen-Shannon in nats, Wasserstein in units of the ratings." + (
            " Published: DGRM paper, Table 2." if published else "")))  # fmt: skip
    ordered = sorted(runs, key=lambda run: run.found["distances"]["kl"]["value"])
    best = ordered[0].found["distances"]["kl"]
    told = [f"By KL {ordered[0].name} is closest to the given ratings ({best['value']:.3f})"]
    for run in ordered[1:]:
        other = run.found["distances"]["kl"]
        apart = "apart from it" if other["low"] > best["high"] else "their intervals overlap"
        told.append(f"{run.name} has {other['value']:.3f}, {apart}")
    yield "; ".join(told) + "."


def _ks(runs: list[Watched], folder: Path) -> Iterator[Any]:
    yield Heading("Kolmogorov-Smirnov test by user (Fig. 8)")
    alphas = runs[0].found["ks"]["alphas"]
    runs = [run for run in runs if run.found["ks"]["alphas"] == alphas]  # of one version
    shares = {run.name: (alphas, np.array(run.found["ks"]["hits"]) / run.found["ks"]["users"]) for run in runs}
    columns = ["", *(f"α = {alpha:g}" for alpha in alphas)]
    rows = [[Value(run.name), *(_number(hits, "{:,}") for hits in run.found["ks"]["hits"])] for run in runs]
    lines = [[run.name, alpha, hits, run.found["ks"]["users"]] for run in runs
             for alpha, hits in zip(alphas, run.found["ks"]["hits"], strict=True)]  # fmt: skip
    _write_csv(folder, "ks", ["model", "alpha", "hits", "users"], lines)
    users = runs[0].found["ks"]["users"]
    caption = f"Users of {users:,} whose test ratings and predictions are not told apart."
    yield figures.drawn(Figure("figures/ks", "KS hits", caption), partial(collapse_figures.ks_hits, shares), folder)
    yield Table(
        "Hits by significance level", columns, rows, note=f"Of {users:,} users; two-sample test, p ≥ α is a hit."
    )
    if ALPHA not in alphas:
        return
    place = alphas.index(ALPHA)
    ordered = sorted(runs, key=lambda run: -run.found["ks"]["hits"][place])
    told = ", ".join(f"{run.name} {run.found['ks']['hits'][place] / users:.0%}" for run in ordered)
    yield (
        f"Hits at α = {ALPHA:g}: {told}. A hit says that a user's few test ratings do not suffice to tell the two "
        "distributions apart, not that the predictions are right: shuffled ratings would hit everywhere."
    )


def _sweep(runs: list[Watched], folder: Path) -> Iterator[Any]:
    yield Heading("Denoising steps T' (Fig. 7)")
    key = next(key for key in runs[0].found["sweep"][0] if key.startswith(("ratedndcg", "ndcg")))
    lines, rows = {}, []
    for run in runs:
        for prediction in ("posterior", "x_0_hat"):
            points = [point for point in run.found["sweep"] if point["prediction"] == prediction]
            if not points:
                continue
            steps, values = [point["denoising_steps"] for point in points], [point[key] for point in points]
            lines[f"{run.name}, {prediction}"] = steps, values
            rows += [[run.name, prediction, *pair] for pair in zip(steps, values, strict=True)]
    _write_csv(folder, "sweep", ["model", "prediction", "denoising_steps", f"validation {key}"], rows)
    top = runs[0].found["sweep"][0]["prediction_noise_steps"]
    figure = Figure("figures/sweep", "Denoising steps", (
        f"One trained model, prediction from the profile noised {top} times, T' steps back. posterior: the state "
        f"x_(T-T') of section 3.3; x_0_hat: the generator's last output. On validation; the test part is not used."
    ))  # fmt: skip
    yield figures.drawn(figure, partial(collapse_figures.sweep, lines, metric_label(key)[:-2]), folder)
    told = []
    for name, (steps, values) in lines.items():
        best, worst = (steps[int(choose(values))] for choose in (np.argmax, np.argmin))
        told.append(f"{name} is best at T' = {best} ({max(values):.3f}) and worst at {worst} ({min(values):.3f})")
    yield "; ".join(told) + "."


def _fixed_steps(runs: list[Watched], folder: Path) -> Iterator[Any]:
    yield Heading("Fixed noise steps in training (Table 4)")
    chosen = [run for run in runs if "fixed_step" in run.record["config"]]
    tests = [run.record["test"] for run in chosen]
    names = [name for name in tests[0] if name.startswith(("ratedrecall", "ratedndcg"))
             and all(test.get(name) is not None for test in tests)]  # fmt: skip
    if not names:
        yield "The runs have no ranking of rated items in common."
        return
    published = _on_ml_100k(chosen)
    columns = ["", *(metric_label(name) for name in names), *(["published Recall / NDCG"] if published else [])]
    rows = []
    for run in chosen:
        row = [Value(run.name), *(_number(run.record["test"][name], "{:.3f}") for name in names)]
        step = run.record["config"]["fixed_step"]
        pair = PUBLISHED_STEPS.get(step) if run.name == ("DGRM" if step is None else f"DGRM, t = {step}") else None
        rows.append(row + [Value(f"{pair[0]:.3f} / {pair[1]:.3f}" if pair else "")] * published)
    lines = [[run.name, run.record["config"]["fixed_step"], *(run.record["test"][name] for name in names)]
             for run in chosen]  # fmt: skip
    _write_csv(folder, "fixed_step", ["model", "fixed_step", *names], lines)
    panels = {metric_label(name): {run.name: (run.record["test"][name],) * 3 for run in chosen} for name in names}
    figure = Figure("figures/fixed_step", "Fixed noise steps", "Test part, one run each.")
    yield figures.drawn(figure, partial(collapse_figures.bars, panels), folder)
    note = "Test part, tied scores shared. Only training is fixed to t; prediction is as configured."
    yield Table("Fixed noise steps", columns, rows, note=note + (
        " Published numbers are of another protocol (table3)." if published else ""))  # fmt: skip
    name = names[-1]
    told = ", ".join(f"{run.name} {run.record['test'][name]:.3f}" for run in chosen)
    yield f"{metric_label(name)[:-2]}: {told}. From one seed: differences as small as the error over users say nothing."


def _lists(runs: list[Watched], folder: Path) -> Iterator[Any]:
    yield Heading("Recommendation lists")
    keys = {"distinct": "distinct lists", "items": "items in any list", "gini": "Gini", "entropy": "entropy, nats"}
    shown = {"distinct": "{:.1%}", "items": "{:.1%}", "gini": "{:.3f}", "entropy": "{:.2f}"}
    rows, lines = [], []
    for run in runs:
        lists, between = run.lists, run.found[DISTRIBUTION].get("between_users")
        rows.append([Value(run.name), *(_number(lists[key], shown[key]) for key in keys), _number(between, "{:.1%}")])
        lines.append([run.name, *(lists[key] for key in keys), between, lists.get("users")])
    _write_csv(folder, "lists", ["model", *keys, "between_users", "users"], lines)
    panels = {keys[key]: {run.name: (run.lists[key] or 0.0,) * 3 for run in runs} for key in ("distinct", "items")}
    yield figures.drawn(Figure("figures/lists", "Recommendation lists", "Share of all lists, and of all items."),
                      partial(collapse_figures.bars, panels), folder)  # fmt: skip
    yield Table("Recommendation lists", ["", *keys.values(), "variance between users"], rows, note=_lists_note(runs))
    ordered = sorted(runs, key=lambda run: -(run.lists["distinct"] or 0.0))
    ends = ordered if len(runs) < 3 else [ordered[0], ordered[-1]]
    yield " ".join(f"{run.name}: {collapse.lists_line(run.lists)}." for run in ends)


def _lists_note(runs: list[Watched]) -> str:
    """Over whose lists, for which old records have no answer."""
    seen: dict[str, list[str]] = {}
    for run in runs:
        seen.setdefault(collapse.users_line(run.lists), []).append(run.name)
    told = next(iter(seen)) if len(seen) == 1 else "; ".join(f"{', '.join(names)}: {of}" for of, names in seen.items())
    said = ["the same for every model" if len(seen) == 1 and "users" in runs[0].lists else "so compare with care"]
    note = f"Top {runs[0].lists['n']} of the unseen items for each user, by the tested model; {told}, {said[0]}."
    outside = [run.name for run in runs if not run.bins]
    return note + (f" {', '.join(outside)}: the scores are no ratings, only lists can be compared." if outside else "")


def _explanations() -> list[str]:
    return [
        f"Predictions are called collapsed if their standard deviation is below {collapse.CONSTANT:g} of the ratings'; "
        f"if they take fewer than {collapse.FEW:g} as many distinct values as the ratings (effective numbers, the "
        "exponential of the entropy; predictions in bins of a tenth of a step, ratings by levels); if of what should "
        f"lie inside the scale less than {collapse.INSIDE:.0%} does; or if less than {collapse.ALIKE:.0%} of their "
        "variance is between users.",
        f"They are narrow if a level of the ratings gets less than {collapse.COVERED:.0%} of its share. A model that "
        "predicts means is narrower than the ratings, so that is usual and no collapse.",
        "Where scores are no ratings the lists are judged: everybody gets the same if no more than "
        f"{collapse.ALIKE_LISTS:.0%} of them differ (of few users: if all have one list), or would not differ but for "
        "what users have seen.",
        "A collapse begins at the first of the looks, without a break to the end of training, at which it holds.",
        "What to do. Predictions hardly differ: weight decay or learning rate are too high. Few values or the ends of "
        "the scale: the adversary leads; give the reconstruction more weight, the critic fewer passes or a lower "
        "learning rate; zero reconstruction (CFGAN's ZR and ZP) pulls unrated pairs to 0 by design. Everybody gets the "
        "same: the generator does not read its condition; less noise at prediction, less dropout, more reconstruction.",
        "What the ratings of unrated pairs would be nobody knows: people rate what they like, so predictions below the "
        "given ratings are to be expected there.",
    ]


def _on_ml_100k(runs: Sequence[Watched]) -> bool:
    return runs[0].record["dataset"].startswith("ml-100k")


def _with_interval(found: dict[str, float]) -> Value:
    return Value(f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]", found["value"])


def _number(value: float | None, form: str = "{}") -> Value:
    return Value("–") if value is None or not math.isfinite(value) else Value(form.format(value), value)


def _write_csv(folder: Path, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    def write(path: Path) -> None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([in_spreadsheet(value) for value in row] for row in rows)

    (folder / "csv").mkdir(exist_ok=True)
    write_whole(folder / "csv" / f"{name}.csv", write)
