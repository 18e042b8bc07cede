"""What a program in Python calls: one function for each task, under the names that ``recbole_dgrm`` gives it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data.frames import write_frame
from recbole_dgrm.errors import OptionError
from recbole_dgrm.runs import experiment
from recbole_dgrm.runs.trained_run import TrainedRun, load_run
from recbole_dgrm.system.files import plain

if TYPE_CHECKING:
    from recbole_dgrm.reports.benchmark_report import Report
    from recbole_dgrm.tuning.tune import Search

FRAMES = "data"  # folder in ``output_dir`` of the data sets that were given as DataFrames


def train(
    model: str,
    data: str | pd.DataFrame,
    *,
    config_files: Iterable[Path | str] | Path | str = (),
    show_progress: bool = False,
    **keys: Any,
) -> TrainedRun:
    """Train, validate and test a model.

    Args:
        model: a name as in ``--model``: ours, one of RecBole's, or ``mypackage.linear:Linear``.
        data: the name of a data set, or a DataFrame of ratings with the columns user, item, rating and perhaps
            timestamp. A DataFrame is written to ``<output_dir>/data/``, so that the run can be loaded again later.
        config_files: YAML files, later ones above earlier ones.
        show_progress: show bars on the terminal.
        keys: any config key, such as ``seed=2021`` or ``output_dir="runs"``.

    Returns:
        The finished run, with its record and its best model.

    Raises:
        UserError: what cannot be used, and the remedy.
    """
    config = load_config(config_files, run_keys(model, data, keys))
    _, path = experiment.run_one(config, show_progress=show_progress)
    return load_run(path)


def resume(path: Path | str, show_progress: bool = False) -> TrainedRun:
    """Continue a run that was stopped, from its last checkpoint; nothing is trained if it is finished.

    Raises:
        CheckpointError: ``path`` is not the directory of a run.
    """
    experiment.resume(Path(path), show_progress)
    return load_run(path)


def tune(
    model: str,
    data: str | pd.DataFrame,
    *,
    space: Path | str | Mapping[str, Any] | None = None,
    trials: int | None = None,
    sampler: str | None = None,
    workers: int = 1,
    timeout: float | None = None,
    prune: bool = True,
    study: str | None = None,
    storage: str | None = None,
    output_dir: Path | str | None = None,
    **keys: Any,
) -> "Search":
    """Search the hyper-parameters of a model on the validation part; called again, the search goes on.

    Args:
        model, data: see ``train``.
        space: a YAML file, its content, or None for the space that comes with the model.
        output_dir: where the search lies; ``runs/tune/<study>`` by default.
        keys: any config key, for all trials.

    The other arguments are those of ``recbole_dgrm.tuning.tune.tune``.

    Raises:
        UserError: what cannot be used, and the remedy.
    """
    from recbole_dgrm.tuning.tune import tune as search  # Optuna loads slowly; training need not wait for it

    keys = run_keys(model, data, keys if output_dir is None else {**keys, "output_dir": output_dir})
    keys.pop("output_dir", None)
    return search(
        keys,
        Path(space) if isinstance(space, str) else space,
        None if output_dir is None else Path(output_dir),
        trials=trials,
        sampler=sampler,
        workers=workers,
        timeout=timeout,
        prune=prune,
        study=study,
        storage=storage,
    )


def report(folder: Path | str, baseline: str | None = None, output_dir: Path | str | None = None) -> "Report":
    """Write tables and figures of the runs below a folder.

    Args:
        baseline: label that the others are tested against; by default that of the plan.
        output_dir: where the report is written; the folder itself by default.

    Raises:
        DataError: there is nothing to report, or the runs cannot be compared.
    """
    from recbole_dgrm.reports.benchmark_report import Report, write_report  # training need not wait for it

    return Report(write_report(Path(folder), Path(output_dir or folder), baseline))


def run_keys(model: str, data: str | pd.DataFrame, keys: dict[str, Any]) -> dict[str, Any]:
    """Config keys with the model and the data set, after a DataFrame is written as one."""
    keys = {key: plain(value) for key, value in keys.items()}
    if not isinstance(data, pd.DataFrame):
        return {**keys, "model": model, "dataset": data}
    if "data_path" in keys:
        raise OptionError(f"data_path={keys['data_path']} names data sets on disk; leave it out with a DataFrame")
    data_path = Path(keys.get("output_dir") or "runs").resolve() / FRAMES
    return {**keys, "model": model, "dataset": write_frame(data, data_path), "data_path": str(data_path)}
