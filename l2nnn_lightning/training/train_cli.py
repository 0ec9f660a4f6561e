"""LightningCLI with a run folder, our callbacks and resuming."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.plugins.io import CheckpointIO

from l2nnn_lightning.data import ImageDataModule
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.tracking.wandb_run import keep_run
from l2nnn_lightning.training.callbacks import BestCheckpoint, EpochLines, EpochSeed, LastCheckpoint, WandbDashboard
from l2nnn_lightning.training.checkpoint_io import AtomicCheckpointIO
from l2nnn_lightning.training.checkpoints import check_resumable, read_checkpoint, run_folder_of
from l2nnn_lightning.training.classifier import Classifier, L2NNNClassifier
from l2nnn_lightning.training.run_folder import RunLogger, check_free, is_first_process, new_run_folder

__all__ = ["RunConfig", "TrainCLI"]


class RunConfig(SaveConfigCallback):
    """Write ``config.yaml`` without where the run is and what it was resumed from, so that it can start another one."""

    def __init__(self, parser: LightningArgumentParser, _config: Namespace, asked: Namespace, **kwargs: Any) -> None:
        asked.run_dir = asked.ckpt_path = None
        super().__init__(parser, asked, **kwargs)


class TrainCLI(LightningCLI):
    """LightningCLI with a run folder, our callbacks and resuming; model, data and trainer come from the config.

    Args:
        args: the command line, after ``fit``.
        name: what the run is called where no folder is given.
    """

    def __init__(self, args: Sequence[str], name: str) -> None:
        self.name = name
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
        parser.add_argument(
            "--compile",
            type=bool | str,
            default=False,
            help="compile the network: true, or the name of a torch.compile backend",
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
            is_new = folder is not None and (resumed is None or folder.resolve() != resumed.resolve())
        else:
            is_new = folder is not None
        # The other processes may look when the first has begun to write.
        if folder is not None and is_new and is_first_process():
            check_free(folder)
        self.run_folder = folder or new_run_folder(self.name)
        self.save_config_kwargs["asked"] = config.clone()
        keep_run(config.trainer.logger, self.run_folder)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with the run folder's files and callbacks before the user's own."""
        config = self.config_init.trainer
        loggers = [logger for logger in _listed(config.logger) if isinstance(logger, pl.loggers.Logger)]
        theirs = [callback for callback in _listed(config.callbacks) if callback is not None]
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
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            dashboard = next((callback for callback in theirs if isinstance(callback, WandbDashboard)), None)
            if dashboard is None:
                ours.append(dashboard := WandbDashboard())
            dashboard.run_folder = self.run_folder
            self.run_folder.mkdir(parents=True, exist_ok=True)  # else W&B writes elsewhere
        plugins = [plugin for plugin in _listed(config.plugins) if plugin is not None]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        _compile(self.model, self.config.compile)
        if sys.stdout.isatty():
            ours.append(RichProgressBar())
        else:
            kwargs["enable_progress_bar"] = False
        return super().instantiate_trainer(
            logger=[RunLogger(self.run_folder, resumed_at), *loggers],
            callbacks=theirs + ours,
            default_root_dir=str(self.run_folder),
            plugins=plugins,
            **kwargs,
        )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _compile(model: pl.LightningModule, backend: bool | str) -> None:
    """Compile a classifier's network in place, which leaves the names of its weights alone."""
    if backend is False:
        return
    name = "inductor" if backend is True else backend
    if name not in (known := torch.compiler.list_backends(exclude_tags=())):
        raise UserError(f"--compile must be true, false or one of {', '.join(known)}, got {name!r}")
    model.network.compile(backend=name)  # type: ignore[union-attr]
