"""What the launchers start: train.py, several times over if asked, in a process that may be told to die.

``worker.py ARGUMENTS [-- ARGUMENTS ...]``. With ``DIE=RANK:STEP`` in the environment that process kills itself there,
as a machine that loses its power: no handler runs, nothing is flushed.
"""

import os
import sys
from typing import Any

import pytorch_lightning as pl

from l2nnn_lightning.__main__ import train
from l2nnn_lightning.training.command import TrainCLI


class Death(pl.Callback):
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if os.environ.get("DIE") == f"{trainer.global_rank}:{trainer.global_step}":
            os.kill(os.getpid(), 9)


def main() -> int:
    build = TrainCLI.instantiate_trainer

    def with_death(self: TrainCLI, **kwargs: Any) -> pl.Trainer:
        trainer = build(self, **kwargs)
        trainer.callbacks.insert(0, Death())  # type: ignore[attr-defined]
        return trainer

    TrainCLI.instantiate_trainer = with_death  # type: ignore[method-assign]
    code, left = 0, sys.argv[1:]
    while left and code == 0:
        end = left.index("--") if "--" in left else len(left)
        code, left = train(left[:end]), left[end + 1 :]
    return code


if __name__ == "__main__":
    sys.exit(main())
