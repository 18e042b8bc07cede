"""What a predictor that gives every rating the same score gets, under each way to break ties.

python measurements/constant.py ml-100k
python measurements/constant.py ml-100k-authors --data_path=DIR
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


def main() -> None:
    """Print a Markdown row per protocol: mean and deviation over five splits, or over one where the split is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--data_path")
    given = vars(parser.parse_args())
    logging.disable()
    print("| data set | protocol | RatedRecall@5 | RatedNDCG@5 |\n|---|---|---:|---:|")
    for protocol in ("rated", "table3", "eq23"):
        rows = []
        for seed in SEEDS:
            config = load_config(config_dict={"model": "MF", "protocol": protocol, "seed": seed, **given})
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
        print(f"| {given['dataset']} | {protocol} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
