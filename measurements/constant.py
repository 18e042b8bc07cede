"""What a predictor that gives every rating the same score gets, under each way to break ties.

python measurements/constant.py ml-100k
python measurements/constant.py ml-100k-authors ml-1m-authors --data_path=DIR
"""

import argparse
import logging

import numpy as np

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.evaluation import collector
from recbole_dgrm.evaluation.references import rated_row

SEEDS = range(2020, 2025)


def line(dataset: str, protocol: str, data_path: str | None) -> str:
    """A Markdown row: mean and deviation over five splits, or over one where the split is given."""
    rows = []
    for seed in SEEDS:
        keys = {"model": "MF", "dataset": dataset, "protocol": protocol, "seed": seed, "data_path": data_path}
        config = load_config(config_dict=keys)
        splits = build_splits(config)
        user, item, rating = splits.triples("test")
        rank = loaders.item_rank(splits.test).numpy()[item]
        scores = np.full(len(rating), splits.scale.high)
        rule = collector.rated_protocol(config, splits.scale)
        pairs = collector.RatedPredictions(user, rank, scores, rating, rule, splits.scale)
        rows.append(rated_row(config, pairs))
        if config["benchmark_filename"]:
            break
    cells = []
    for key in ("ratedrecall@5", "ratedndcg@5"):
        values = [row[key] for row in rows]
        cells.append(f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""))
    return f"| {dataset} | {protocol} | {' | '.join(cells)} |"


def main() -> None:
    """Print a row per data set and protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", metavar="dataset")
    parser.add_argument("--data_path")
    given = parser.parse_args()
    logging.disable()
    print("| data set | protocol | RatedRecall@5 | RatedNDCG@5 |\n|---|---|---:|---:|")
    for dataset in given.datasets:
        for protocol in ("rated", "table3", "eq23"):
            print(line(dataset, protocol, given.data_path))


if __name__ == "__main__":
    main()
