"""Evaluate a checkpoint: ``python evaluate.py --ckpt_path PATH [options]``."""

import sys

from l2nnn_lightning.__main__ import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
