"""Whether the squared error of finished runs is below that of user + item means, by a paired test over users.

    python measurements/against_means.py DIR [DIR ...]

Looks for runs in and below each ``DIR`` and prints a Markdown table: test RMSE of the model and of the means, the
difference of the mean squared errors with its standard error over users, and p of a two-sided test that it is 0,
corrected over all rows (Holm). The means are those of the run's own reference row.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from recbole_dgrm.evaluation.references import training_part
from recbole_dgrm.maths.biases import Biases, fit_biases
from recbole_dgrm.reports.significance import holm
from recbole_dgrm.runs.trained_run import TrainedRun, load_run


def means_of(run: TrainedRun) -> Biases:
    """The user + item means of a run's own reference row."""
    user, item, rating = run.splits.triples(training_part(run.config))
    n_users, n_items = run.splits.train.user_num, run.splits.train.item_num
    return fit_biases(user, item, rating, n_users, n_items, run.config.run.bias_shrinkage)


def squared_errors_of_means(run: TrainedRun) -> tuple[NDArray, NDArray]:
    """The sum of squared errors and the number of the test ratings, ``(n_users,)`` each, of the means."""
    user, item, rating = run.splits.triples("test")
    squares, n_users = np.square(means_of(run).predict(user, item) - rating), run.splits.train.user_num
    return np.bincount(user, squares, n_users), np.bincount(user, minlength=n_users)


def runs_below(description: str, file: str) -> list[Path]:
    """The runs that have the file, in and below the folders that the command line names."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    paths = sorted({path.parent for folder in parser.parse_args().folders for path in folder.rglob(file)})
    if not paths:
        parser.error(f"no run with a {file} lies there; name folders of runs")
    return paths


def row(path: Path) -> tuple[str, float, float]:
    """The beginning of a row of the table, the standard score, and the difference."""
    run = load_run(path)
    ours = np.load(path / "per_user.npz", allow_pickle=False)
    theirs, count = squared_errors_of_means(run)
    users = run.ids("users", ours["user"]).numpy()
    squares, count = theirs[users], count[users]
    difference = ours["rmse"] * count - squares  # a user's "rmse" is the mean squared error
    total, error = difference.sum() / count.sum(), difference.std(ddof=1) * np.sqrt(len(count)) / count.sum()
    record = run.record
    cells = [record["config"]["dataset"], record["label"], str(record["config"]["seed"])]
    cells += [f"{record['test']['rmse']:.4f}", f"{np.sqrt(squares.sum() / count.sum()):.4f}"]
    return " | ".join([*cells, f"{total:+.4f} ± {error:.4f}"]), total / error, total


def main() -> None:
    """Print the table of all runs below the folders."""
    rows = [row(path) for path in runs_below(__doc__ or "", "per_user.npz")]
    p_values = holm(np.array([2 * norm.sf(abs(score)) for _, score, _ in rows]))
    print("| data set | model | seed | RMSE | means | squared error, difference | p | |")
    print("|---|---|---|---:|---:|---:|---:|---|")
    for (cells, _, difference), p in zip(rows, p_values, strict=True):
        said = "level" if p >= 0.05 else "below the means" if difference < 0 else "**above the means**"
        print(f"| {cells} | {p:.2g} | {said} |")


if __name__ == "__main__":
    main()
