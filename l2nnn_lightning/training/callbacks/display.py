"""What a training shows: what is trained on what, a bar while an epoch runs, and a line of each that stays."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from l2nnn_lightning.data import ImageDataModule, ImageSet
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["Banner", "EpochBar", "EpochLines", "epoch_name"]

# What a line says of an epoch, where it was measured: its name, its short name for narrow terminals, its form.
_LINE = (
    ("train/loss", "loss", "loss", ".4f"),
    ("val/accuracy", "val accuracy", "acc", ".2%"),
    ("val/gap_mean", "mean gap", "gap", ".3f"),
    ("val/radius_mean", "mean radius", "radius", ".3f"),
)


def epoch_name(trainer: pl.Trainer) -> str:
    """Name the current epoch, counted from 1 as everywhere."""
    last = "?" if trainer.max_epochs in (None, -1) else str(trainer.max_epochs)
    return f"epoch {trainer.current_epoch + 1:>{max(3, len(last))}}/{last}"


class Banner(pl.Callback):
    """Say what is trained, on what, where to, before the first step.

    Args:
        console: what is printed on.
        folder: the run folder.
    """

    def __init__(self, console: Console, folder: str) -> None:
        super().__init__()
        self.console, self.folder = console, folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Print it."""
        if not trainer.is_global_zero:
            return
        data: ImageDataModule | None = getattr(trainer, "datamodule", None)
        described = {} if data is None else {"data": _data(data)}
        count = sum(parameter.numel() for parameter in pl_module.network.parameters())
        mode = "" if not pl_module.network.can_prove else ", hard" if pl_module.is_hard else ", soft (penalty mode)"
        described["network"] = f"{type(pl_module.network).__name__}, {count:,} parameters{mode}"
        world = "" if trainer.world_size == 1 else f", {trainer.world_size} processes"
        described["training"] = (
            f"{type(pl_module.objective).__name__}, {type(trainer.optimizers[0]).__name__}, "
            f"{trainer.max_epochs} epochs of {trainer.num_training_batches} steps on {pl_module.device}{world}"
        )
        described["run folder"] = self.folder
        for name, text in described.items():
            self.console.print(f"{name:<10}  {text}", soft_wrap=True)


class EpochBar(ProgressBar):
    """Draw a bar while an epoch runs; it is gone before anything else is printed.

    Args:
        console: what is drawn on, which every line shares.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._is_enabled = True

    def disable(self) -> None:
        """Draw nothing, as on processes other than the first."""
        self._is_enabled = False

    def enable(self) -> None:
        """Draw again."""
        self._is_enabled = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Begin."""
        if not self._is_enabled:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self.console, transient=True)
        self._task = self._bar.add_task(epoch_name(trainer), total=float(self.total_train_batches))
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:  # noqa: ARG002
        """Go on."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """End, before any line is printed."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """End: what went wrong is not to be drawn over."""
        self._stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """End."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class EpochLines(pl.Callback):
    """Print loss, accuracy, mean gap and mean certified radius after every epoch, in one line.

    Args:
        console: what is printed on, by default standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console(stderr=True, highlight=False)
        self._started, self._was_hard = 0.0, False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Classifier) -> None:  # type: ignore[override]  # noqa: ARG002
        """Start the clock; note the mode that the epoch's figures will belong to."""
        self._started, self._was_hard = time.perf_counter(), pl_module.is_hard

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Print the line."""
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        # The end of an epoch may have switched to hard scaling; its figures are of before.
        is_hard = bool(metrics.get("val/hard", self._was_hard))
        mode = ["hard" if is_hard else "soft"] if pl_module.network.can_prove else []
        seconds = f"{time.perf_counter() - self._started:.1f} s"
        noisy = {"val/accuracy": "noisy "} if _is_noisy(trainer) else {}
        full, short = (
            "  ".join(
                [
                    epoch_name(trainer),
                    *(
                        f"{noisy.get(key, '')}{words[place]} {float(metrics[key]):{words[2]}}"
                        for key, *words in _LINE
                        if key in metrics
                    ),
                    *mode,
                    seconds,
                ]
            )
            for place in (0, 1)
        )
        fits = not self.console.is_terminal or len(full) < self.console.width
        self.console.print(full if fits else short, soft_wrap=True)


def _data(data: ImageDataModule) -> str:
    shape = "x".join(map(str, data.image_shape))
    train, held = data.train_set, data.val_set
    sizes = f"{0 if train is None else len(train):,} training images" + (
        "" if held is None else f", {len(held):,} held out"
    )
    return f"{data.name}, {sizes}, {shape}, {data.num_labels} labels"


def _is_noisy(trainer: pl.Trainer) -> bool:
    """Tell whether held-out images have wrong labels: their accuracy is not that on clean ones."""
    held: ImageSet | None = getattr(getattr(trainer, "datamodule", None), "val_set", None)
    return held is not None and not bool((held.labels == held.clean_labels).all())
