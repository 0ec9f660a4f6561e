"""``python -m l2nnn_lightning.study NAME``."""

import signal
import sys

from l2nnn_lightning.experiments.study.command import main

if __name__ == "__main__":
    # As Ctrl-C does, so that the runs end together with their study.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
