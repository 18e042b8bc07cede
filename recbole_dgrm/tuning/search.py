"""Run a search, write its report, and test its best configuration."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import yaml
from matplotlib.ticker import MaxNLocator
from narwhals.stable.v2.typing import IntoFrame
from optuna.distributions import CategoricalDistribution
from pydantic import PositiveFloat

from recbole_dgrm.benchmarks.executors import LocalExecutor, executor_for
from recbole_dgrm.benchmarks.plan import make_plan
from recbole_dgrm.benchmarks.session import Benchmark
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data.convert import run_keys
from recbole_dgrm.errors import UserError
from recbole_dgrm.evaluation.metric_names import STILL, metric_label
from recbole_dgrm.identity import config_hash
from recbole_dgrm.models.registry import space_file
from recbole_dgrm.options import check
from recbole_dgrm.records import run_name, short_name
from recbole_dgrm.reports import figures
from recbole_dgrm.reports.document import Document, Figure, Table, write_document
from recbole_dgrm.system.files import check_writable, plain, write_text, write_whole
from recbole_dgrm.system.processes import locked_folder
from recbole_dgrm.system.texts import in_figure, in_spreadsheet
from recbole_dgrm.tuning.plan import SearchPlan, plan_search
from recbole_dgrm.tuning.space import Distribution, read_space_file
from recbole_dgrm.tuning.study import Search

STARTS = 2  # a trial whose process died is started once more, and continues from its checkpoint
LOSSES = 3  # the search stops after so many consecutive trials whose processes died
BEST, TRIALS = "best.yaml", "trials.csv"


def tune(
    model: str,
    data: str | IntoFrame,
    *,
    space: Path | str | Mapping[str, Any] | None = None,
    output_dir: Path | str | None = None,
    trials: int | None = None,
    sampler: str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    timeout: float | None = None,
    prune: bool = True,
    show: Callable[[Search], object] = lambda search: None,
    **keys: Any,
) -> Search:
    """Search the hyper-parameters of a model on the validation part; if called again, the search continues.

    If its data has changed since, the search starts again, and the old one is moved into ``.aside/``.

    Args:
        model, data: see ``recbole_dgrm.runs.trained_run.train``.
        space: a YAML file, its content, or None for the space that the package has for the model.
        output_dir: the folder of the search; ``runs/tune/<model>-<dataset>-<protocol>-<seed>`` by default.
        trials: the total number of trials, including those of earlier calls; by default the whole grid, or 50.
        sampler: ``grid``, ``random`` or ``tpe``; by default that of the space, or ``tpe``.
        workers: the number of simultaneous trials on this machine.
        scheduler: address of a Dask cluster that makes the trials instead.
        timeout: the time limit of this call, in seconds.
        prune: end trials early whose best score is worse than the median of the earlier trials.
        show: called whenever a trial begins or ends.
        keys: any config key, for all trials.

    Raises:
        UserError: something cannot be used; the message has the remedy.
    """
    for key, number in {"trials": trials, "workers": workers, "timeout": timeout}.items():
        check(key, number, PositiveFloat | None)
    check_writable(Path(output_dir or "runs"))
    config = run_keys(model, data, keys if output_dir is None else {**keys, "output_dir": output_dir})
    config.pop("output_dir", None)
    if not isinstance(space, Mapping):
        space = read_space_file(Path(space or space_file(model)), read_yaml)
    plan = plan_search(config, space, sampler, trials, prune)
    folder = Path(output_dir or Path("runs") / "tune" / run_name(plan.config))
    search = run_search(plan, folder, executor_for(workers, scheduler), timeout, show)
    write_search(search)
    return search


def run_search(
    plan: SearchPlan,
    folder: Path,
    executor: LocalExecutor,
    timeout: float | None = None,
    show: Callable[[Search], object] = lambda search: None,
) -> Search:
    """Make the missing trials of a search, until none is missing or ``timeout`` seconds are over.

    Trials that are active then are continued by the next call.
    """
    deadline = monotonic() + (timeout or math.inf)
    with executor, locked_folder(folder, "search"):
        plan.open(folder)
        search, starts, lost = Search(plan, folder), Counter[int](), 0
        show(search)
        todo = search.waiting()
        while (todo or executor) and monotonic() < deadline:
            while todo and len(executor) < executor.workers:
                starts[number := todo.pop(0)] += 1
                executor.submit(number, search.job(number, executor.threads), search.folder(number))
                show(search)
            for number, run in executor.ended():
                if run.lost and starts[number] < STARTS:
                    todo.insert(0, number)
                    continue
                search.settle(number, run)
                show(search)
                lost = lost + 1 if run.lost else 0
                if lost >= LOSSES or run.unfinished:
                    raise UserError(f"trial {number} could not be made, and the search stops: {run.record['error']}")
    return search


def best_against_defaults(search: Search, seeds: list[int]) -> Benchmark:
    """The benchmark of the best configuration and the model's defaults with each seed, in the folder ``test``.

    If the best configuration is the default one, there is only one row.
    """
    config = dict(search.config)
    where = {f"{key}s": [config.pop(key)] for key in ("model", "dataset", "protocol")}
    defaults, tuned = (load_config(config_dict={**search.config, **point}).given for point in ({}, search.best or {}))
    name = short_name(defaults["model"])
    rows = [{"model": defaults["model"], "label": f"{name}, defaults"}]
    if config_hash(tuned) != config_hash(defaults):
        rows.insert(0, {"model": defaults["model"], "label": f"{name}, tuned", "config": search.best})
    plan = {**where, "models": rows, "seeds": seeds, "config": config, "baseline": f"{name}, defaults"}
    return Benchmark(make_plan(plan), search.path / "test")


def write_search(search: Search) -> None:
    """Write ``trials.csv`` and, if a trial has finished, ``best.yaml`` and the report."""
    table, finished = search.trials.map(in_spreadsheet), search.finished()
    write_whole(search.path / TRIALS, lambda path: table.to_csv(path, index=False))
    if not finished:
        return
    best, plan, frame = finished[0], search.plan, search.shown()
    where = "{model} on {dataset}, protocol {protocol}, seed {seed}".format(**search.config)
    about = f"# {where}: validation {search.metric} {best.value:.4f}, the best of {search.counts()}.\n"
    write_text(search.path / BEST, about + yaml.safe_dump(plain(search.best), sort_keys=False, allow_unicode=True))
    introduction = (
        f"{where}; sampler {plan.sampler}, {'median pruner' if plan.prune else 'no pruner'}. Trials are compared on "
        f"the validation part; the test part was not used. Best: trial {best.number}, {best.value:.4f}; its keys are "
        f"in {BEST}."
    )
    note = f"All trials are in {TRIALS}. {STILL}: the best epoch is the last one; more epochs (--epochs) may be better."
    caption = "Scores of the finished trials by trial number and by each key; later trials are darker."
    table = Table.of_frame(f"Best of {search.counts()}", frame, ".4g", note)
    figure = Figure("figures/trials", "Trials", caption, partial(draw_trials, search))
    write_document(Document(f"Search {run_name(plan.config)}", [introduction, table, figure]), search.path, "report")


@figures.styled
def draw_trials(search: Search, path: Path) -> None:
    """Draw the scores of the finished trials: by trial number, with the best so far, and by each key."""
    trials = sorted(search.finished(), key=lambda trial: trial.number)
    numbers, scores = [trial.number for trial in trials], [trial.value for trial in trials]
    n_panels = 1 + len(search.space.distributions)
    figure = figures.new_figure(2.6 * math.ceil(n_panels / 2))
    panels = figure.subplots(math.ceil(n_panels / 2), 2, sharey=True, squeeze=False)
    for axes in panels.flat[n_panels:]:
        axes.remove()
    best = (np.maximum if search.bigger else np.minimum).accumulate(np.array(scores, float))
    panels[0, 0].step(numbers, best, where="post", color=figures.COLOURS[1])
    panels[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    keys: dict[str, Distribution | None] = {"trial": None, **search.space.distributions}
    for axes, (key, distribution) in zip(panels.flat, keys.items(), strict=False):
        values = [trial.params[key] for trial in trials] if distribution else numbers
        if isinstance(distribution, CategoricalDistribution):  # side by side, in the order of the space
            names = [in_figure(choice) for choice in distribution.choices]
            axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 2 else 0)
            axes.set_xlim(-0.5, len(names) - 0.5)
            values = [distribution.choices.index(value) for value in values]
        elif distribution and distribution.log:
            axes.set_xscale("log")
        axes.scatter(values, scores, c=numbers, cmap="Blues", edgecolors="grey", linewidths=0.5, zorder=3)
        axes.set_xlabel(in_figure(key))
    figure.supylabel(f"validation {metric_label(search.metric)}", fontsize="medium")
    figures.save(figure, path)
