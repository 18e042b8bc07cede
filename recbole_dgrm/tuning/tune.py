"""A search from its beginning to its report, in one call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from narwhals.stable.v2.typing import IntoFrame

from recbole_dgrm.config.layers import load_config, read_yaml
from recbole_dgrm.data.convert import run_keys
from recbole_dgrm.errors import OptionError
from recbole_dgrm.models.registry import space_file
from recbole_dgrm.options import check_name
from recbole_dgrm.records import run_name
from recbole_dgrm.reports.shown import Shown, frame_of
from recbole_dgrm.system import processes
from recbole_dgrm.system.files import check_writable
from recbole_dgrm.tuning import plan, search_report
from recbole_dgrm.tuning.space_file import read_space_file
from recbole_dgrm.tuning.study import Study
from recbole_dgrm.tuning.workers import run_search


@dataclass(frozen=True)
class Search(Shown):
    """What a search has found so far; ``print`` and a notebook show its best trials.

    Attributes:
        config: the keys of all trials, with ``model``, ``dataset``, ``protocol`` and ``seed``.
        best: the keys of the best trial; None where no trial finished.
        trials: a row per trial, as in ``trials.csv``.
        path: the folder of the search, with ``best.yaml`` and ``report.html``.
        study: the trials in their database.
    """

    config: dict[str, Any]
    best: dict[str, Any] | None
    trials: pd.DataFrame
    path: Path
    study: Study

    def shown(self) -> pd.DataFrame:
        """The best finished trials with their scores and keys."""
        return frame_of(search_report.trials_table(self.study))


def tune(
    model: str,
    data: str | IntoFrame,
    *,
    space: Path | str | Mapping[str, Any] | None = None,
    output_dir: Path | str | None = None,
    trials: int | None = None,
    sampler: str | None = None,
    workers: int = 1,
    timeout: float | None = None,
    prune: bool = True,
    study: str | None = None,
    storage: str | None = None,
    show: Callable[[Study], None] = lambda study: None,
    **keys: Any,
) -> Search:
    """Search the hyper-parameters of a model on the validation part; called again, the search goes on.

    Args:
        model, data: see ``recbole_dgrm.runs.trained_run.train``.
        space: a file, its content, or None for the space that comes with the model.
        output_dir: where the search lies; ``runs/tune/<study>`` by default.
        trials: how many in all, those of earlier calls included; by default the whole grid, or 50.
        sampler: ``grid``, ``random`` or ``tpe``; by default the one that the space names, or ``tpe``.
        workers: processes on this machine.
        timeout: seconds.
        prune: end trials early that fall behind the others.
        study: its name in the database.
        storage: the address of a database that several machines share; by default a file in ``output_dir``.
        show: called every second or so.
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
    planned = plan.plan_search(config, space, folder, sampler, trials, prune, name, storage)
    found = run_search(planned, folder, workers, processes.threads_of_each(workers), timeout, show)
    search_report.write_search(found, folder)
    best = found.best()
    point = None if best is None else found.space.point(best.params)
    return Search(config, point, search_report.trials_frame(found), folder, found)
