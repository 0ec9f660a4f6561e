"""``python -m l2nnn_lightning.benchmark``."""

import sys

from l2nnn_lightning.__main__ import run

if __name__ == "__main__":
    sys.exit(run("benchmark", sys.argv[1:], is_program=True))
