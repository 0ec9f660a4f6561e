"""The command ``train.py``: LightningCLI with a run folder, our callbacks and resuming."""

import re
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml  # type: ignore[import-untyped]  # its types are a package of their own
from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.io import CheckpointIO
from rich.console import Console

from l2nnn_lightning.data import DATAMODULES, ImageDataModule
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.arguments import (
    MOVED,
    check_arguments,
    configs_first,
    option_values,
    program,
    with_plain_values,
)
from l2nnn_lightning.training.callbacks import (
    Banner,
    BestCheckpoint,
    EpochBar,
    EpochLines,
    EpochSeed,
    FiniteLoss,
    LastCheckpoint,
    best_metrics,
)
from l2nnn_lightning.training.checkpoints import Checkpoint, run_folder_of
from l2nnn_lightning.training.checks import check_trainer, notes, why_soft
from l2nnn_lightning.training.classifier import Classifier, L2NNNClassifier, OrdinaryClassifier
from l2nnn_lightning.training.configs import DEFAULT_CONFIG, find_config
from l2nnn_lightning.training.explain import explain
from l2nnn_lightning.training.factories import describe
from l2nnn_lightning.training.fitting import fit
from l2nnn_lightning.training.quiet import silence
from l2nnn_lightning.training.resuming import check_changes
from l2nnn_lightning.training.run_folder import (
    AtomicCheckpointIO,
    RunConfig,
    RunLogger,
    check_free,
    is_first_process,
    new_run_folder,
)

__all__ = ["TrainCLI", "run_training"]


def run_training(args: Sequence[str]) -> None:
    """Run ``train.py [fit] --config FILE [overrides]``.

    Raises:
        UserError: for bad input, in one line, before anything is written.
        FailedWorkError: if the disk is full, the training diverges, or another process of it is gone.
        SystemExit: on Ctrl-C or SIGTERM, once the run folder and how to resume have been named.
    """
    check_arguments(args)
    args = list(args[1:] if args[:1] == ["fit"] else args)
    args = configs_first(with_plain_values(args, {name: kind.__name__ for name, kind in DATAMODULES.items()}))
    configs = option_values(args, "--config", "-c")
    if not configs and not {"-h", "--help"} & set(args):
        configs = [_default_config(args)]
        args = [f"--config={configs[0]}", *args]
    args = _with_classes(args, [_read_model(Path(config)) for config in configs])
    silence()
    with _before_work():
        cli = TrainCLI(args, name=Path(configs[0]).stem if configs else "run")
        callbacks: Sequence[Callback] = cli.trainer.callbacks  # type: ignore[attr-defined]
        check_trainer(cli.config.trainer.precision, callbacks)
    if cli.trainer.is_global_zero:
        objective = cli.model.hparams["objective"]["init_args"]
        for note in notes(cli.model, callbacks, cli.trainer.max_epochs, args, objective):
            print(note, file=sys.stderr)
    fit(cli.trainer, cli.model, cli.datamodule, cli.run_folder, cli.config.ckpt_path)
    if cli.trainer.is_global_zero:
        if cli.model.is_soft:
            why = why_soft(callbacks, cli.trainer.max_epochs) or "the training ended before HardScalingSwitch came"
            print(f"the network is still in penalty mode and proves nothing: {why}")
        if not (cli.run_folder / "checkpoints" / "best.ckpt").is_file():
            print("no checkpoint was the best of hard, validated ones: evaluate last.ckpt")
        elif (said := cli.best.describe()) is not None:
            print(said)
        print(f"run folder: {cli.run_folder}")


class TrainCLI(LightningCLI):
    """LightningCLI with a run folder, our callbacks and resuming; model, data and trainer come from the config.

    Args:
        args: the command line, after ``fit``.
        name: what the run is called where no folder is given.
    """

    model: Classifier
    checkpoint: Checkpoint | None
    best: BestCheckpoint

    def __init__(self, args: Sequence[str], name: str) -> None:
        self.name = name
        quiet = {"num_sanity_val_steps": 0, "enable_model_summary": False, "log_every_n_steps": 50}
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
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={"exit_on_error": False, "prog": program("train"), "allow_abbrev": False},
            trainer_defaults={"max_epochs": 10, "use_distributed_sampler": False, **quiet},
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder and the checkpoint; fill the model's shapes from the data."""
        best = "what best.ckpt is best in (default: certified accuracy at the smallest of model.radii, then accuracy)"
        backend = "compile the network: true, or the name of a torch.compile backend"
        parser.add_argument("--run_dir", type=str | None, default=None, help="the run folder, else runs/NAME/VERSION")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="the checkpoint to resume from")
        parser.add_argument("--best_metric", type=str | None, default=None, help=best)
        parser.add_argument("--compile", type=bool | str, default=False, help=backend)
        parser.link_arguments("data.num_labels", "model.init_args.num_labels", apply_on="instantiate")
        parser.link_arguments("data.image_shape", "model.init_args.image_shape", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def before_instantiate_classes(self) -> None:
        """Find the run folder, before anything is built or written."""
        config: Namespace = self.config
        self.checkpoint = None if config.ckpt_path is None else Checkpoint.read(config.ckpt_path)
        resumed = None if self.checkpoint is None else self.checkpoint.run_folder
        folder = Path(config.run_dir) if config.run_dir else resumed
        is_new = folder is not None and (resumed is None or folder.resolve() != resumed.resolve())
        # The other processes may look when the first has begun to write.
        if folder is not None and is_new and is_first_process():
            check_free(folder)
        self._check_changes(is_own=not is_new)
        self.run_folder = folder or new_run_folder(self.name)
        self.save_config_kwargs |= {"asked": config.clone(), "folder": self.run_folder}

    def _check_changes(self, *, is_own: bool) -> None:
        """Compare what a run is resumed with, and what it was trained with."""
        run = None if self.checkpoint is None else self.checkpoint.run_folder
        if run is None or not (run / "config.yaml").is_file():
            return
        try:
            old = self.parser.parse_path(str(run / "config.yaml"))
        except ArgumentError as error:
            if not is_own:
                return
            raise UserError(
                f"{run / 'config.yaml'} cannot be read: resume in a folder of its own, --run_dir"
            ) from error
        old, new = (yaml.safe_load(self.parser.dump(one, skip_none=False)) for one in (old, self.config))
        check_changes(old, new, run, is_own=is_own)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with the run folder's files and callbacks before the user's own."""
        config = self.config_init.trainer
        metrics = [self.config.best_metric] if self.config.best_metric else best_metrics(self.model)
        checkpoints = self.run_folder / "checkpoints"
        resumed_at = None if self.checkpoint is None else self.checkpoint.check_resumable(self.model, self.datamodule)
        console = Console(stderr=True, highlight=False)
        # The bar's end comes before whatever the others print.
        first = [EpochBar(console)] if console.is_terminal else []
        ours = [EpochSeed(int(self.config.seed_everything)), Banner(console, str(self.run_folder))]
        ours += [EpochLines(console), FiniteLoss()]
        self.best = BestCheckpoint(checkpoints, metrics[0], ties=metrics[1:])
        ours += [self.best, LastCheckpoint(checkpoints)]
        plugins = _listed(config.plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        _compile(self.model, self.config.compile)
        return super().instantiate_trainer(
            logger=[RunLogger(self.run_folder, resumed_at), *_listed(config.logger)],
            callbacks=[*first, *_listed(config.callbacks), *ours],
            default_root_dir=str(self.run_folder),
            plugins=plugins,
            enable_progress_bar=bool(first),
            **kwargs,
        )


@contextmanager
def _before_work() -> Iterator[None]:
    """Turn what fails before the training begins into the user's error: nothing but their settings was at work."""
    try:
        yield
    except ArgumentError as error:
        raise ArgumentError(None, explain(str(error)) or str(error)) from error
    except (ValueError, TypeError, OSError, MisconfigurationException) as error:
        raise UserError(str(error)) from error


def _read_model(path: Path) -> dict[str, Any]:
    """Return a config's part on the model; refuse one that sets options where they no longer are."""
    try:
        model = dict(yaml.safe_load(path.read_text(encoding="utf-8"))["model"])
        options = dict(model.get("init_args") or {})
        moved = [name for name in options if name in MOVED]
        is_name = isinstance(options.get("network"), str) and "." not in options["network"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError):
        return {}  # the parser says what is wrong, or another config sets the model
    if moved:
        raise UserError(f"{path} is of an earlier version: model.{moved[0]} has moved to model.{MOVED[moved[0]]}")
    if is_name and options["network"][:1].islower():
        raise UserError(f"{path} is of an earlier version: networks are named by their class, such as ConvL2NNN")
    return {**model, "init_args": options}


def _with_classes(args: list[str], models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the classifier's own class where an option of it is given, such as --model.objective.omega, and no other.

    The parser could know it as the default, but would hand its options on to whatever class a config names instead.
    """
    names = [*(model["class_path"] for model in models if "class_path" in model), *option_values(args, "--model")]
    kind = OrdinaryClassifier if names and names[-1].endswith(OrdinaryClassifier.__name__) else L2NNNClassifier
    named = {part for model in models for part, value in model.get("init_args", {}).items() if value}
    missing = [
        f"--model.{part}={describe(factory)['class_path']}"
        for part, factory in kind.defaults.items()
        if part not in named
        and not option_values(args, f"--model.{part}")
        and any(re.match(rf"--model\.{part}\.(?!help)", arg) for arg in args)
    ]
    start = max((i + 1 for i, arg in enumerate(args) if re.match(r"--config=|--model=", arg)), default=0)
    start = max([start, *(i + 2 for i, arg in enumerate(args) if arg in ("--config", "-c", "--model"))])
    return [*args[:start], *missing, *args[start:]]


def _default_config(args: Sequence[str]) -> str:
    """A resumed run goes on with its own config; otherwise the one that works offline."""
    checkpoints = option_values(args, "--ckpt_path")
    if not checkpoints:
        return find_config(DEFAULT_CONFIG)
    Checkpoint.read(checkpoints[0])
    folder = run_folder_of(checkpoints[0])
    if folder is None or not (folder / "config.yaml").is_file():
        raise UserError(f"there is no config.yaml in the run folder of {checkpoints[0]}: give one with --config")
    return str(folder / "config.yaml")


def _listed(value: Any) -> list[Any]:
    """What the trainer is given of a kind: nothing, a switch, one or several."""
    return [one for one in (value if isinstance(value, list) else [value]) if one not in (None, True, False)]


def _compile(model: Classifier, backend: bool | str) -> None:
    """Compile a classifier's network in place, which leaves the names of its weights alone."""
    if backend is False:
        return
    name = "inductor" if backend is True else backend
    if name not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise UserError(f"--compile must be true, false or one of {', '.join(known)}, got {name!r}")
    model.network.compile(backend=name)
