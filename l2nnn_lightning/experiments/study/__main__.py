"""``python -m l2nnn_lightning.study NAME``."""

import sys

from l2nnn_lightning.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["study", *sys.argv[1:]]))
