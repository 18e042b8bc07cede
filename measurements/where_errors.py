"""Where the squared error of finished runs comes from: items that nobody has rated in training, and the scale's ends.

    python measurements/where_errors.py DIR [DIR ...]

Looks for runs in and below each ``DIR`` and prints a Markdown table. RMSE: as reported, of predictions clipped to the
scale, and of user + item means. Excess: the mean squared error of the clipped predictions above that of the means, and
the parts of it that are of test ratings whose item has no rating in training, and of all others; the parts add up.
Whoever has no prediction for such an item would give the user's mean, as the means do.
"""

from pathlib import Path

import numpy as np
from against_means import means_of, runs_below

from recbole_dgrm.evaluation.references import training_part
from recbole_dgrm.runs.trained_run import load_run


def row(path: Path) -> str:
    """A row of the table."""
    run = load_run(path)
    known = np.bincount(run.splits.triples(training_part(run.config))[1], minlength=run.splits.train.item_num) > 0
    user, item, rating = run.splits.triples("test")
    test = run.splits.test
    predicted = run.predict(test.id2token(test.uid_field, user), test.id2token(test.iid_field, item))
    clipped = np.square(np.clip(predicted, run.scale.low, run.scale.high) - rating)
    theirs = np.square(means_of(run).predict(user, item) - rating)
    new, excess = ~known[item], clipped - theirs
    parts = [excess.mean(), (excess * new).mean(), (excess * ~new).mean()]
    share = run.config["known_share"]
    about = [f"{run.config['dataset']} {share:g}".removesuffix(" 1"), run.record["label"], str(run.record["seed"])]
    errors = [f"{np.sqrt(np.mean(value)):.3f}" for value in (np.square(predicted - rating), clipped, theirs)]
    return f"| {' | '.join([*about, *errors, f'{new.mean():.1%}', *(f'{part:+.3f}' for part in parts)])} |"


def main() -> None:
    """Print the table of all runs below the folders."""
    paths = runs_below(__doc__ or "", "checkpoint.pt")
    print("| data | model | seed | RMSE | clipped | means | of new items | excess | of new items | of others |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for path in paths:
        print(row(path), flush=True)


if __name__ == "__main__":
    main()
