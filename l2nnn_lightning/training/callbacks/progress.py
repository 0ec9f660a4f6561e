"""One line an epoch, for terminals and log files alike."""

import time

import pytorch_lightning as pl
from rich.console import Console

__all__ = ["EpochLines"]


class EpochLines(pl.Callback):
    """Print loss, accuracy, mean gap and mean certified radius after every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line."""
        if not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        words = [f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}", f"loss {metrics['train/loss']:.4f}"]
        for name, text, form in (
            ("val/accuracy", "val accuracy", ".2%"),
            ("val/gap_mean", "mean gap", ".3f"),
            ("val/radius_mean", "mean radius", ".3f"),
        ):
            if name in metrics:
                words.append(f"{text} {metrics[name]:{form}}")
        words.append("hard" if pl_module.is_hard else "soft")
        words.append(f"{time.perf_counter() - self._started:.1f} s")
        self._console.print("  ".join(words))
