"""The best epoch of a training: which metric chooses it, what is kept of it, and what is said of it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from l2nnn_lightning.data import ImageSet
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.classifier import Classifier
from l2nnn_lightning.training.metrics import radius_key

__all__ = ["BestCheckpoint", "best_metrics"]

_ACCURACY = "val/accuracy"


def best_metrics(classifier: Classifier) -> list[str]:
    """Name what the best epoch of a classifier is best in, and by what ties are broken.

    Of a network that can prove something, certified accuracy at the smallest of its ``radii``, then accuracy, then the
    mean radius; of an ordinary one accuracy alone. The mean radius comes last, since a network that has learnt nothing
    can have a large one.
    """
    if not classifier.network.can_prove:
        return [_ACCURACY]
    return [f"val/certified_{radius_key(min(classifier.radii))}", _ACCURACY, "val/radius_mean"]


class BestCheckpoint(ModelCheckpoint):
    """Keep ``best.ckpt``, by a metric of the validation images. An L2NNN in penalty mode is never best.

    With metrics for ties the choice is guarded: an epoch that is no more accurate than to answer with the most
    frequent label every time is best only until there is one that is. The checkpoint is written at the end of its
    epoch, so that a training can be resumed from it.

    Args:
        dirpath: the folder of the checkpoints.
        monitor: the metric.
        mode: whether it should rise (``"max"``) or fall (``"min"``).
        ties: the metrics that decide, by rising, where those before them are equal; in the end the earlier epoch.
    """

    def __init__(self, dirpath: str | Path, monitor: str, mode: str = "max", ties: Sequence[str] = ()) -> None:
        super().__init__(
            dirpath, "best", monitor, mode=mode, enable_version_counter=False, save_on_train_epoch_end=True
        )
        self.ties = tuple(ties)
        #: What the best epoch is compared by, larger is better; its number, counted from 1, and its metrics.
        self._rank: list[float] = []
        self._epoch, self._metrics = 0, dict[str, float]()
        self._is_validated, self._replaced = False, ""

    @property
    def file(self) -> Path:
        """Where the checkpoint is, or will be."""
        return Path(str(self.dirpath)) / "best.ckpt"

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Note that there is something to compare; a UserError if it is not the metric."""
        self._is_validated = not trainer.sanity_checking
        monitored, metrics = str(self.monitor), trainer.callback_metrics
        if self._is_validated and monitored.startswith("val/") and monitored not in metrics:
            known = ", ".join(sorted(name for name in metrics if name.startswith("val/")))
            raise UserError(f"there is no metric {monitored!r} for best.ckpt (--best_metric); there are: {known}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch if it has been validated and is the best."""
        if self._is_validated:
            self._is_validated = False
            super().on_train_epoch_end(trainer, pl_module)

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Tensor | None = None) -> bool:
        """Compare an epoch with the best one; refuse every checkpoint of a network that proves nothing yet."""
        module: Classifier = trainer.lightning_module  # type: ignore[assignment]
        metrics = trainer.callback_metrics
        # What was validated, and is saved, may be an average of weights that is not hard yet.
        was_hard = bool(metrics.get("val/hard", True))
        if current is None or module.is_soft or (module.network.can_prove and not was_hard):
            return False
        rank = [_finite(current) * (1 if self.mode == "max" else -1)]
        if self.ties:
            accuracy = metrics.get(_ACCURACY)
            is_guess = accuracy is not None and float(accuracy) <= _most_frequent(trainer, module)
            rank = [float(not is_guess), *rank, *(_finite(metrics.get(tie)) for tie in self.ties)]
        # Whoever forgets the best of earlier epochs, as the switch to hard scaling does, clears Lightning's own list.
        is_best = not self.best_k_models or rank > self._rank
        if not trainer.strategy.reduce_boolean_decision(is_best):
            return False
        self._rank, self._epoch = rank, trainer.current_epoch + 1
        self._metrics = {name: float(value) for name, value in metrics.items() if name.startswith("val/")}
        self._put_aside(trainer)
        return True

    def describe(self) -> str | None:
        """Say in one line which epoch is best, and how accurate; None where there is none."""
        if not self.best_k_models or not self._metrics:
            return None
        words = [f"accuracy {self._metrics[_ACCURACY]:.1%}"] if _ACCURACY in self._metrics else []
        monitored = str(self.monitor)
        if monitored.startswith("val/certified_"):
            radius = monitored.removeprefix("val/certified_").replace("_", ".")
            words.append(f"certified@{radius} {self._metrics.get(monitored, math.nan):.1%}")
        elif monitored != _ACCURACY:
            words.append(f"{monitored} {self._metrics.get(monitored, math.nan):.4g}")
        return f"best epoch {self._epoch}: {', '.join(words)}"

    def state_dict(self) -> dict[str, Any]:
        """Lightning's state, with the best epoch, what it is compared by, and its metrics."""
        return {**super().state_dict(), "rank": self._rank, "epoch": self._epoch, "metrics": self._metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, of this metric; also where the run's folder has been moved."""
        best = str(self.file)
        if state_dict.get("dirpath") != self.dirpath and state_dict["best_k_models"] and self.file.is_file():
            score = state_dict["best_model_score"]
            paths = {"dirpath": self.dirpath, "best_model_path": best, "kth_best_model_path": best}
            state_dict = {**state_dict, **paths, "best_k_models": {best: score}}
        super().load_state_dict(state_dict)
        self._epoch, self._metrics = state_dict.get("epoch", 0), dict(state_dict.get("metrics", {}))
        self._rank = list(state_dict.get("rank", []))
        if not self._rank and not self.ties and self.best_model_score is not None:
            # Written by an earlier version, which kept the score alone.
            self._rank = [_finite(self.best_model_score) * (1 if self.mode == "max" else -1)]
        if len(self._rank) != (len(self.ties) + 2 if self.ties else 1):
            self._rank, self.best_k_models = [], {}
            self._replaced = str(self.monitor)

    def on_load_checkpoint(
        self,
        trainer: pl.Trainer,  # noqa: ARG002
        pl_module: pl.LightningModule,  # noqa: ARG002
        checkpoint: dict[str, Any],
    ) -> None:
        """Note that the best checkpoint of a resumed run is best in another metric."""
        others = [key for key in checkpoint.get("callbacks", {}) if key.startswith(f"{type(self).__name__}{{")]
        if others and self.state_key not in others:
            self._replaced = others[0].partition("'monitor': '")[2].partition("'")[0]

    def _put_aside(self, trainer: pl.Trainer) -> None:
        """Keep the best checkpoint in another metric under another name, before it is overwritten."""
        name, self._replaced = self._replaced, ""
        if name and trainer.is_global_zero and self.file.is_file():
            kept = self.file.with_name(f"best_{name.replace('/', '_')}.ckpt")
            self.file.replace(kept)
            rank_zero_info(f"best.ckpt is best in {self.monitor} from here on; what was best in {name} is {kept.name}")


def _finite(value: Tensor | None) -> float:
    """A number that can be compared: whatever is none counts least."""
    number = -math.inf if value is None else float(value)
    return -math.inf if math.isnan(number) else number


def _most_frequent(trainer: pl.Trainer, module: Classifier) -> float:
    """Return the accuracy on the validation images of answering with their most frequent label every time."""
    held: ImageSet | None = getattr(getattr(trainer, "datamodule", None), "val_set", None)
    if held is None:
        return 1 / module.num_labels
    return float(torch.bincount(held.labels.cpu()).max()) / len(held)
