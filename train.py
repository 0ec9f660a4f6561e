"""Train a classifier: ``python train.py --config configs/NAME.yaml [overrides]``."""

import sys

from l2nnn_lightning.__main__ import train

if __name__ == "__main__":
    sys.exit(train())
