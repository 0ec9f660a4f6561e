"""``python -m l2nnn_lightning.benchmark``."""

import sys

from l2nnn_lightning.experiments.benchmark.run import run_benchmark
from l2nnn_lightning.training.command_line import main

if __name__ == "__main__":
    sys.exit(main(run_benchmark))
