"""``python -m l2nnn_lightning.study NAME``: exit code 0, 1 if a run failed, or 2 for bad input."""

import sys
from collections.abc import Sequence

from l2nnn_lightning.experiments.study.run import StudyError, run_study
from l2nnn_lightning.training import command_line


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    try:
        return command_line.main(run_study, args)
    except StudyError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
