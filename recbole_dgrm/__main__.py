"""``python -m recbole_dgrm``: the command line."""

import sys

from recbole_dgrm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
