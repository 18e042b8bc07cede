"""Train and compare models from a checkout: ``python run_recbole_dgrm.py --model=DGRM --dataset=ml-100k``."""

import sys

from recbole_dgrm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
