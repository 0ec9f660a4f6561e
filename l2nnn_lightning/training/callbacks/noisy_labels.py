"""Watch memorisation: accuracy and gap on the clean and on the changed labels while training (section 3.3)."""

import pytorch_lightning as pl
import torch

from l2nnn_lightning.data import ImageSet, to_float
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["NoisyLabelMonitor"]


class NoisyLabelMonitor(pl.Callback):
    """Log what the network makes of noisy training labels, after every epoch, to all loggers.

    On a sample of the training images: ``noisy/clean_accuracy``, on labels that are as they were;
    ``noisy/memorised``, how often a changed label is repeated; ``noisy/corrected``, how often the original label is
    answered instead; and ``noisy/gap_mean``. It looks at original labels, so nothing may be chosen by it.

    Args:
        images: size of the sample, the first training images, >= 1.
        batch_size: images at once, >= 1.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, images: int = 2000, batch_size: int = 500) -> None:
        super().__init__()
        for name, value in (("images", images), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.images, self.batch_size = images, batch_size

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Measure and log; every process measures the same sample."""
        train: ImageSet | None = getattr(getattr(trainer, "datamodule", None), "train_set", None)
        if train is None:
            raise UserError("NoisyLabelMonitor needs one of this package's DataModules")
        given, clean = train.labels[: self.images].cpu(), train.clean_labels[: self.images].cpu()
        certified = pl_module.certified()
        parts = [
            certified(to_float(batch, pl_module.device))
            for batch in torch.split(train.images[: self.images], self.batch_size)
        ]
        label = torch.cat([part.label.cpu() for part in parts])
        gap = torch.cat([part.gap.cpu() for part in parts])
        changed = given != clean
        values = {"noisy/gap_mean": float(gap.double().mean())}
        if not bool(changed.all()):
            values["noisy/clean_accuracy"] = float((label == given)[~changed].double().mean())
        if bool(changed.any()):
            values["noisy/memorised"] = float((label == given)[changed].double().mean())
            values["noisy/corrected"] = float((label == clean)[changed].double().mean())
        pl_module.log_dict(values, rank_zero_only=True)
