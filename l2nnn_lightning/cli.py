"""The two commands: train (LightningCLI with a run folder) and evaluate."""

import argparse
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from l2nnn_lightning.callbacks import BestCheckpoint, EpochLines, EpochSeed, LastCheckpoint
from l2nnn_lightning.checkpoints import check_resumable, read_checkpoint, run_folder_of
from l2nnn_lightning.classifier import Classifier, L2NNNClassifier
from l2nnn_lightning.data import ImageDataModule
from l2nnn_lightning.errors import UserError
from l2nnn_lightning.run_folder import RunLogger, check_free, new_run_folder

__all__ = ["evaluate", "main", "train"]

DEFAULT_CONFIG = "configs/mnist5k.yaml"

# What Lightning says in every run whatever happens: nothing to act on, and it would hide the one line of an error.
_CHATTER = re.compile(r"Seed set to|GPU available|TPU available|💡|Loading `train_dataloader`")
_IGNORED_WARNINGS = (
    ".*does not have many workers.*",  # few, large batches from memory need no worker processes
    ".*log_every_n_steps.*",  # metrics are logged once an epoch
    ".*Experiment logs directory.*|.*Checkpoint directory.*",  # a resumed run goes on in its own folder
    ".*args parameter is intended to run from within Python.*",  # which is what train() does
    ".*LeafSpec.*",  # Lightning 2.6 calls torch by a name that it has deprecated since
    "Total length of `list` across ranks is zero.*",  # val_size: 0 asks for it
)


def train(args: Sequence[str] | None = None) -> int:
    """Run ``train.py [fit] --config FILE [overrides]``; return the exit code."""
    return main(_train, args)


def evaluate(args: Sequence[str] | None = None) -> int:
    """Run ``evaluate.py --ckpt_path FILE [options]``; return the exit code."""
    from l2nnn_lightning.evaluation.command import run_evaluation

    return main(run_evaluation, args)


def main(command: Callable[[Sequence[str]], object], args: Sequence[str] | None = None) -> int:
    """Run a command; turn bad input into one line on standard error and exit code 2.

    With ``L2NNN_DEBUG=1`` in the environment the traceback is shown as well.
    """
    try:
        command(sys.argv[1:] if args is None else args)
    except (ValueError, OSError, argparse.ArgumentError, MisconfigurationException) as error:
        if os.environ.get("L2NNN_DEBUG") == "1":
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


class RunConfig(SaveConfigCallback):
    """Write ``config.yaml`` without where the run is and what it was resumed from, so that it can start another one."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **kwargs: Any) -> None:
        config = config.clone()
        config.run_dir = config.ckpt_path = None
        super().__init__(parser, config, **kwargs)


class TrainCLI(LightningCLI):
    """LightningCLI with a run folder, our callbacks and resuming; model, data and trainer come from the config.

    Args:
        args: the command line, after ``fit``.
    """

    def __init__(self, args: Sequence[str]) -> None:
        self.name = Path(_option(args, "--config", "-c") or "run").stem
        self.checkpoint: dict[str, Any] | None = None
        super().__init__(
            Classifier,
            ImageDataModule,
            args=list(args),
            run=False,
            subclass_mode_model=True,
            subclass_mode_data=True,
            load_from_checkpoint_support=False,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=RunConfig,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"exit_on_error": False, "prog": "train.py"},
            trainer_defaults={
                "max_epochs": 10,
                "num_sanity_val_steps": 0,
                "use_distributed_sampler": False,
                "enable_model_summary": False,
                "log_every_n_steps": 50,
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder and the checkpoint; fill the model's shapes from the data."""
        parser.add_argument("--run_dir", type=str | None, default=None, help="the run folder, else runs/NAME/VERSION")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="the checkpoint to resume from")
        parser.add_argument(
            "--best_metric",
            type=str | None,
            default=None,
            help="what best.ckpt is best in (default: val/radius_mean, or val/accuracy for an ordinary classifier)",
        )
        parser.link_arguments("data.num_labels", "model.init_args.num_labels", apply_on="instantiate")
        parser.link_arguments("data.image_shape", "model.init_args.image_shape", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def before_instantiate_classes(self) -> None:
        """Find the run folder, before anything is built or written."""
        config: Namespace = self.config
        folder = Path(config.run_dir) if config.run_dir else None
        if config.ckpt_path is not None:
            self.checkpoint = read_checkpoint(config.ckpt_path)
            resumed = run_folder_of(config.ckpt_path)
            folder = folder or resumed
            if folder is not None and (resumed is None or folder.resolve() != resumed.resolve()):
                check_free(folder)
        elif folder is not None and int(os.environ.get("LOCAL_RANK", 0)) == 0:
            check_free(folder)
        self.run_folder = folder or new_run_folder(self.name)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with the run folder's files and callbacks before the user's own."""
        config = self.config_init.trainer
        loggers = config.logger if isinstance(config.logger, list) else [config.logger]
        loggers = [logger for logger in loggers if isinstance(logger, pl.loggers.Logger)]
        callbacks = config.callbacks if isinstance(config.callbacks, list) else [config.callbacks]
        ordinary = not isinstance(self.model, L2NNNClassifier)
        metric = self.config.best_metric or ("val/accuracy" if ordinary else "val/radius_mean")
        checkpoints = self.run_folder / "checkpoints"
        resumed_at: int | None = None
        if self.checkpoint is not None:
            check_resumable(self.model, self.checkpoint, self.config.ckpt_path)
            resumed_at = self.checkpoint["global_step"]
        ours: list[pl.Callback] = [
            EpochSeed(int(self.config.seed_everything)),
            EpochLines(),
            BestCheckpoint(checkpoints, metric),
            LastCheckpoint(checkpoints),
        ]
        if sys.stdout.isatty():
            ours.append(RichProgressBar())
        else:
            kwargs["enable_progress_bar"] = False
        return super().instantiate_trainer(
            logger=[RunLogger(self.run_folder, resumed_at), *loggers],
            callbacks=[callback for callback in callbacks if callback is not None] + ours,
            default_root_dir=str(self.run_folder),
            **kwargs,
        )


def _train(args: Sequence[str]) -> None:
    args = list(args)
    if args and args[0] == "fit":
        args = args[1:]
    elif args and not args[0].startswith("-"):
        raise UserError(f"train.py has no command {args[0]!r}: use 'fit', or nothing; evaluate with evaluate.py")
    config = _option(args, "--config", "-c")
    if config is None and not {"-h", "--help"} & set(args):
        args = ["--config", _default_config(args), *args]
    elif config is not None and not Path(config).is_file():
        raise UserError(f"there is no config {config}: see the folder configs/")
    _silence()
    cli = TrainCLI(args)
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
    if cli.trainer.is_global_zero:
        if isinstance(cli.model, L2NNNClassifier) and not cli.model.is_hard:
            print("the network is still in penalty mode and proves nothing: add the callback HardScalingSwitch")
        if not (cli.run_folder / "checkpoints" / "best.ckpt").is_file():
            print("no checkpoint was the best of hard, validated ones: evaluate last.ckpt")
        print(f"run folder: {cli.run_folder}")


def _default_config(args: Sequence[str]) -> str:
    """A resumed run goes on with its own config; otherwise the one that works offline."""
    checkpoint = _option(args, "--ckpt_path")
    if checkpoint is None:
        return DEFAULT_CONFIG
    read_checkpoint(checkpoint)
    folder = run_folder_of(checkpoint)
    if folder is None or not (folder / "config.yaml").is_file():
        raise UserError(f"there is no config.yaml in the run folder of {checkpoint}: give one with --config")
    return str(folder / "config.yaml")


def _option(args: Sequence[str], *names: str) -> str | None:
    """Look up an option's first value before the real parser is built: ``--name VALUE`` or ``--name=VALUE``."""
    for i, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name in names:
            return value if equals else (args[i + 1] if i + 1 < len(args) else None)
    return None


def _silence() -> None:
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed"):
        logger = logging.getLogger(name)
        if _is_news not in logger.filters:
            logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return _CHATTER.match(record.getMessage()) is None


def _one_line(error: BaseException) -> str:
    """Cut jsonargparse's report on a value that fits none of several types down to the reasons that matter."""
    text = str(error)
    head = re.match(r'Parser key "[^"]*":', text)
    given = re.search(r"^ *Given value: (.*)", text, re.MULTILINE)
    while block := re.search(r"^ *Errors:\n( +)- ", text, re.MULTILINE):
        errors = text[block.start() :].split(f"\n{block[1]}- ")[1:]
        errors[-1] = errors[-1].split("\n")[0]
        text = errors[0]
        if given is not None and all(error.startswith("Expected a ") for error in errors):
            types = [error.removeprefix("Expected a ") for error in errors if "NoneType" not in error]
            text = f"expected {' or '.join(types)}, got {given[1]}"
    words = [head[0] if head and head[0] not in text else "", *text.split()]
    return " ".join(words).strip() or type(error).__name__
