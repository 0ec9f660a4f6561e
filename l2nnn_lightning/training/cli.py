"""The two commands: train and evaluate."""

import logging
import re
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from l2nnn_lightning.data.errors import LostProcessError, UserError
from l2nnn_lightning.evaluation.tracking.wandb_run import finish_run, refuse_wandb
from l2nnn_lightning.training.checkpoints import read_checkpoint, run_folder_of
from l2nnn_lightning.training.classifier import L2NNNClassifier
from l2nnn_lightning.training.command_line import main
from l2nnn_lightning.training.train_cli import TrainCLI

if TYPE_CHECKING:
    from l2nnn_lightning.evaluation.measure.processes import StartMethod

__all__ = ["TrainCLI", "evaluate", "main", "train"]

DEFAULT_CONFIG = "configs/mnist5k.yaml"

# What Lightning says in every run whatever happens: nothing to act on, and it would hide the one line of an error.
_CHATTER = re.compile(r"(\[rank: \d+\] )?Seed set to|GPU available|TPU available|💡|Loading `train_dataloader`")
_IGNORED_WARNINGS = (
    ".*does not have many workers.*",  # few, large batches from memory need no worker processes
    ".*log_every_n_steps.*",  # metrics are logged once an epoch
    ".*Experiment logs directory.*|.*Checkpoint directory.*",  # a resumed run goes on in its own folder
    ".*args parameter is intended to run from within Python.*",  # which is what train() does
    ".*LeafSpec.*",  # Lightning 2.6 calls torch by a name that it has deprecated since
    "Total length of `list` across ranks is zero.*",  # val_size: 0 asks for it
    ".*sync_dist=True.*",  # what is logged has been summed over the processes, or is the same on all of them
)
# How a backend says that another process is gone: gloo in words, NCCL by the type of the error.
_LOST_CONTACT = re.compile(r"gloo|Connection (closed|reset|refused)|remote process exited", re.I)


def train(args: Sequence[str] | None = None) -> int:
    """Run ``train.py [fit] --config FILE [overrides]``; return the exit code."""
    return main(_train, args)


def evaluate(args: Sequence[str] | None = None) -> int:
    """Run ``evaluate.py --ckpt_path FILE [options]``; return the exit code."""
    from l2nnn_lightning.evaluation.command import run_evaluation

    # As a program of its own it has computed nothing yet, so that it may fork.
    start_method: StartMethod = "fork" if args is None and sys.platform == "linux" else "spawn"
    return main(partial(run_evaluation, start_method=start_method), args)


def _train(args: Sequence[str]) -> None:
    args = list(args)
    if args and args[0] == "fit":
        args = args[1:]
    elif args and not args[0].startswith("-"):
        raise UserError(f"train.py has no command {args[0]!r}: use 'fit', or nothing; evaluate with evaluate.py")
    configs = _options(args, "--config", "-c")
    if not configs and not {"-h", "--help"} & set(args):
        args = ["--config", _default_config(args), *args]
    for config in configs:
        if not Path(config).is_file():
            raise UserError(f"there is no config {config}: see the folder configs/")
    _silence()
    cli = TrainCLI(args, name=Path(next(iter(_options(args, "--config", "-c")), "run")).stem)
    _fit(cli)
    if cli.trainer.is_global_zero:
        if isinstance(cli.model, L2NNNClassifier) and not cli.model.is_hard:
            print("the network is still in penalty mode and proves nothing: add the callback HardScalingSwitch")
        if not (cli.run_folder / "checkpoints" / "best.ckpt").is_file():
            print("no checkpoint was the best of hard, validated ones: evaluate last.ckpt")
        print(f"run folder: {cli.run_folder}")


def _fit(cli: TrainCLI) -> None:
    """Train; end the run's tracking, and say so if another process is gone."""
    succeeded = False
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
        succeeded = True
    except Exception as error:
        refuse_wandb(error)
        is_lost = isinstance(error, torch.distributed.DistError) or _LOST_CONTACT.search(str(error))
        if cli.trainer.world_size == 1 or not (isinstance(error, RuntimeError) and is_lost):
            raise
        last = cli.run_folder / "checkpoints" / "last.ckpt"
        what_next = f"resume with --ckpt_path {last}" if last.is_file() else "no epoch was finished: start again"
        raise LostProcessError(
            f"process {cli.trainer.global_rank} lost contact with another one, which was killed or failed; {what_next}"
        ) from error
    finally:
        finish_run(cli.trainer.loggers, succeeded)


def _default_config(args: Sequence[str]) -> str:
    """A resumed run goes on with its own config; otherwise the one that works offline."""
    checkpoints = _options(args, "--ckpt_path")
    if not checkpoints:
        return DEFAULT_CONFIG
    checkpoint = checkpoints[0]
    read_checkpoint(checkpoint)
    folder = run_folder_of(checkpoint)
    if folder is None or not (folder / "config.yaml").is_file():
        raise UserError(f"there is no config.yaml in the run folder of {checkpoint}: give one with --config")
    return str(folder / "config.yaml")


def _options(args: Sequence[str], *names: str) -> list[str]:
    """Look up an option's values before the real parser is built: ``--name VALUE`` or ``--name=VALUE``."""
    values = []
    for i, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name in names and (equals or i + 1 < len(args)):
            values.append(value if equals else args[i + 1])
    return values


def _silence() -> None:
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed"):
        logger = logging.getLogger(name)
        if _is_news not in logger.filters:
            logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return _CHATTER.match(record.getMessage()) is None
