"""``make demo``: train the default config on embedded digits, evaluate it, name the report."""

import sys

from l2nnn_lightning.training import cli
from l2nnn_lightning.training.heap import keep_freed_memory
from l2nnn_lightning.training.run_folder import new_run_folder

__all__ = ["main"]


def main() -> int:
    """Run train.py and evaluate.py as a user would; return the exit code."""
    folder = new_run_folder("demo")
    code = cli.train(["--config", cli.DEFAULT_CONFIG, "--run_dir", str(folder)])
    return code or cli.evaluate(["--ckpt_path", str(folder / "checkpoints" / "best.ckpt")])


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
