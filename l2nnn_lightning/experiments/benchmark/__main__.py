"""``python -m l2nnn_lightning.benchmark [PART ...]``."""

import sys

from l2nnn_lightning.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
