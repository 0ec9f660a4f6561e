"""``python -m l2nnn_lightning.benchmark``."""

import sys

from l2nnn_lightning.experiments.benchmark.command import main

if __name__ == "__main__":
    sys.exit(main())
