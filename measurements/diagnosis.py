"""What watching costs: training of a model with a look every five epochs, beside the seconds that the looks took.

    python measurements/diagnosis.py ml-1m DGRM CFGAN MF NCF --data_path=DIR

Prints per model the seconds of training, of all looks and of the final examination, their share, and the peak memory.
Each model runs in a process of its own, so that memory is its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = """
import sys, json
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.runs.experiment import run_one
record, _ = run_one(load_config(config_dict=json.loads(sys.argv[1])))
print(json.dumps({"train_s": record.timing["train_s"], "seconds": record.diagnosis["seconds"],
                  "peak_rss_mib": record.timing["peak_rss_mib"]}))
"""


def measure(config: dict) -> dict[str, float]:
    """Of one run in a fresh process."""
    done = subprocess.run([sys.executable, "-c", RUN, json.dumps(config)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Parse the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data_path")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    print("| model | training s | looking s | share | peak memory MiB |\n|---|---:|---:|---:|---:|")
    for model in given.models:
        with tempfile.TemporaryDirectory() as folder:
            config = {
                "model": model,
                "dataset": given.dataset,
                "epochs": given.epochs,
                "stopping_step": given.epochs,
                "refit": False,
                "diagnose_every": 5,
                "output_dir": str(Path(folder)),
            }
            found = measure(config | ({"data_path": given.data_path} if given.data_path else {}))
        share = found["seconds"] / found["train_s"]
        print(
            f"| {model} | {found['train_s']:.1f} | {found['seconds']:.1f} | {share:.1%} | {found['peak_rss_mib']:.0f} |"
        )


if __name__ == "__main__":
    main()
