"""A worker of a search that makes one trial and stays in the midst of its next until the file ``$GO`` is there."""

import os
import sys
import time
from itertools import count
from pathlib import Path

from recbole_dgrm.runs import experiment
from recbole_dgrm.system import processes
from recbole_dgrm.tuning import workers

validate, turns = experiment.validate_one, count()


def validate_with_a_pause(config, run_dir, callback):
    turn = next(turns)

    def paused(epoch, score):
        while turn and not Path(os.environ["GO"]).exists():
            time.sleep(0.05)
        callback(epoch, score)

    return validate(config, run_dir, paused)


experiment.validate_one = validate_with_a_pause
sys.exit(processes.worker_main(lambda folder: workers.work(Path(folder))))
