"""A search from its beginning to its report, in one call."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pandas as pd
from narwhals.stable.v2.typing import IntoFrame

from recbole_dgrm.benchmarks.executors import DaskExecutor, LocalExecutor, executor_of
from recbole_dgrm.benchmarks.queue import Queue
from recbole_dgrm.config.layers import load_config, read_yaml
from recbole_dgrm.data.convert import run_keys
from recbole_dgrm.errors import OptionError, UserError
from recbole_dgrm.models.registry import space_file
from recbole_dgrm.options import check_name
from recbole_dgrm.records import run_name
from recbole_dgrm.reports.table_repr import TableRepr
from recbole_dgrm.system.files import check_writable
from recbole_dgrm.system.processes import alone_in, threads_of_each
from recbole_dgrm.tuning import search_report
from recbole_dgrm.tuning.plan import SearchPlan, plan_search
from recbole_dgrm.tuning.space import read_space_file
from recbole_dgrm.tuning.study import Study

STARTS = 2  # a trial whose process died is started once more, and goes on from its checkpoint
LOSSES = 3  # trials in a row that were lost: no other would be made either
Show = Callable[[Study], None]


@dataclass(frozen=True, repr=False)
class Search(TableRepr):
    """What a search has found so far; shown as its best trials.

    Attributes:
        config: the keys of all trials, with ``model``, ``dataset``, ``protocol`` and ``seed``.
        best: the keys of the best trial; None where no trial finished.
        trials: a row per trial, as in ``trials.csv``.
        path: the folder of the search, with ``best.yaml`` and ``report.html``.
        study: the trials.
    """

    config: dict[str, Any]
    best: dict[str, Any] | None
    trials: pd.DataFrame
    path: Path
    study: Study

    def shown(self) -> pd.DataFrame:
        """The best finished trials with their scores and keys."""
        return search_report.trials_table(self.study).texts()


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
    study: str | None = None,
    show: Show = lambda study: None,
    **keys: Any,
) -> Search:
    """Search the hyper-parameters of a model on the validation part; called again, the search goes on.

    A search that is called again after its data has changed begins anew; the old one is put into ``.aside/``.

    Args:
        model, data: see ``recbole_dgrm.runs.trained_run.train``.
        space: a file, its content, or None for the space that comes with the model.
        output_dir: where the search lies; ``runs/tune/<study>`` by default.
        trials: how many in all, those of earlier calls included; by default the whole grid, or 50.
        sampler: ``grid``, ``random`` or ``tpe``; by default the one that the space names, or ``tpe``.
        workers: trials at a time on this machine.
        scheduler: address of a Dask cluster that makes the trials instead.
        timeout: seconds.
        prune: end trials early whose best score is below the median of the trials before.
        study: name of the search.
        show: called whenever a trial begins or ends.
        keys: any config key, for all trials.

    Raises:
        UserError: what cannot be used, and the remedy.
    """
    for key, number in {"trials": trials, "workers": workers, "timeout": timeout}.items():
        if number is not None and not number > 0:
            raise OptionError(f"{key}={number} must be above 0")
    config = run_keys(model, data, keys if output_dir is None else {**keys, "output_dir": output_dir})
    config.pop("output_dir", None)
    given = load_config(config_dict=config).given
    config |= {key: given[key] for key in ("model", "dataset", "protocol", "seed")}
    if not isinstance(space, Mapping):
        space = read_space_file(Path(space or space_file(model)), read_yaml)
    name = check_name("study", study or run_name(given))
    folder = Path(output_dir or Path("runs") / "tune" / name)
    check_writable(folder)
    planned = plan_search(config, space, sampler, trials, prune, name)
    threads = 1 if scheduler else threads_of_each(workers)
    found = run_search(planned, folder, executor_of(workers, scheduler), threads, timeout, show)
    search_report.write_search(found, folder)
    best = found.best()
    point = None if best is None else found.space.point(best.params)
    return Search(config, point, search_report.trials_frame(found), folder, found)


def run_search(
    search: SearchPlan,
    folder: Path,
    executor: LocalExecutor | DaskExecutor,
    threads: int = 1,
    timeout: float | None = None,
    show: Show = lambda study: None,
) -> Study:
    """Make the trials of a search that are missing, each when a worker is free, until none is or the time is over.

    Args:
        folder: where ``search.json`` and the trials lie.
        threads: of each trial.
        timeout: seconds; trials at work then go on another time.

    Raises:
        UserError: another search is at work in ``folder``, or its processes cannot work.
    """
    deadline = monotonic() + (timeout or math.inf)
    with Queue[int](executor) as queue, alone_in(folder, "search"):
        search.open(folder)
        study, starts, lost = Study(search, folder), Counter[int](), 0
        show(study)
        todo = study.waiting()
        while (todo or queue) and monotonic() < deadline:
            while todo and queue.has_room:
                starts[number := todo.pop(0)] += 1
                queue.submit(number, study.job(number, threads))
                show(study)
            for number, run in queue.ended():
                if run.lost and starts[number] < STARTS:
                    todo.insert(0, number)
                    continue
                study.settle(number)
                show(study)
                lost = lost + 1 if run.lost else 0
                if lost >= LOSSES or run.unfinished:
                    raise UserError(f"trial {number} could not be made, and the search stops: {run.record['error']}")
    return study
