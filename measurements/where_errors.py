"""Where the squared error of finished runs comes from: items that nobody has rated in training, and the scale's ends.

    python measurements/where_errors.py DIR [DIR ...]

Looks for runs in and below each ``DIR`` and prints a Markdown table. RMSE: as reported, of predictions clipped to the
scale, and of user + item means. Excess: the mean squared error of the clipped predictions above that of the means, and
the parts of it that are of test ratings whose item has no rating in training, and of all others; the parts add up.
Whoever has no prediction for such an item would give the user's mean, as the means do.
"""

import argparse
from pathlib import Path

import numpy as np

from recbole_dgrm.evaluation.references import training_part
from recbole_dgrm.maths.biases import fit_biases
from recbole_dgrm.runs.trained_run import load_run


def row(path: Path) -> str:
    """A row of the table."""
    run = load_run(path)
    user, item, rating = run.splits.triples(training_part(run.config))
    n_users, n_items = run.splits.train.user_num, run.splits.train.item_num
    means = fit_biases(user, item, rating, n_users, n_items, run.config.run.bias_shrinkage)
    known = np.bincount(item, minlength=n_items) > 0
    user, item, rating = run.splits.triples("test")
    test = run.splits.test
    predicted = run.predict(test.id2token(test.uid_field, user), test.id2token(test.iid_field, item))
    clipped = np.square(np.clip(predicted, run.scale.low, run.scale.high) - rating)
    theirs = np.square(means.predict(user, item) - rating)
    new, excess = ~known[item], clipped - theirs
    parts = [excess.mean(), (excess * new).mean(), (excess * ~new).mean()]
    record = run.record
    share = record["config"].get("known_share", 1)
    about = [
        f"{record['config']['dataset']}{f' {share:g}' if share != 1 else ''}",
        record["label"],
        str(record["seed"]),
    ]
    errors = [f"{np.sqrt(np.mean(value)):.3f}" for value in (np.square(predicted - rating), clipped, theirs)]
    return f"| {' | '.join([*about, *errors, f'{new.mean():.1%}', *(f'{part:+.3f}' for part in parts)])} |"


def main() -> None:
    """Print the table of all runs below the folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    paths = sorted({path.parent for folder in parser.parse_args().folders for path in folder.rglob("checkpoint.pt")})
    if not paths:
        parser.error("no run with a checkpoint lies there; name folders of runs")
    print("| data | model | seed | RMSE | clipped | means | of new items | excess | of new items | of others |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for path in paths:
        print(row(path), flush=True)


if __name__ == "__main__":
    main()
