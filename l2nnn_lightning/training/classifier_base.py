"""What both classifiers share, as a LightningModule: optimizer, schedule, metrics, checkpoints."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from l2nnn_lightning import __version__
from l2nnn_lightning.data import Batch, ImageDataModule
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.nn import is_hard
from l2nnn_lightning.nn.certificates import Certificate, confidence_gap, no_certificate
from l2nnn_lightning.nn.precision import full_precision
from l2nnn_lightning.training.metrics import CertifiedAccuracy, ConfidenceGap, MeanRadius, radius_key
from l2nnn_lightning.training.schedules import Schedule, learning_rate_factor

__all__ = ["Classifier", "Optimizer"]

Optimizer = Literal["adam", "adamw", "sgd"]


class Classifier(pl.LightningModule, ABC):
    """What both classifiers share: a network by name, optimizer, schedule, metrics, checkpoints.

    Args:
        network: the network, built already.
        image_shape: (channels, height, width) of the images.
        num_labels: the number of labels.
        radii: the L2 radii at which certified accuracy is measured in validation.
        optimizer: ``"adam"``, ``"adamw"`` or ``"sgd"`` (Nesterov, momentum 0.9).
        learning_rate: the base learning rate, > 0.
        weight_decay: as the optimizer defines it, >= 0.
        schedule: what the learning rate does after warm-up.
        warmup_steps: steps of linear warm-up.
        final_lr: the last learning rate as a fraction of the base.
    """

    network: nn.Module

    def __init__(
        self,
        network: nn.Module,
        image_shape: Sequence[int],
        num_labels: int,
        radii: Sequence[float],
        optimizer: Optimizer,
        learning_rate: float,
        weight_decay: float,
        schedule: Schedule,
        warmup_steps: int,
        final_lr: float,
    ) -> None:
        super().__init__()
        if optimizer not in ("adam", "adamw", "sgd"):
            raise ValueError(f"optimizer must be 'adam', 'adamw' or 'sgd', got {optimizer!r}")
        if schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule must be 'cosine' or 'constant', got {schedule!r}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        for name, value in (("weight_decay", weight_decay), ("warmup_steps", warmup_steps)):
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if not 0 <= final_lr <= 1:
            raise ValueError(f"final_lr must be in [0, 1], got {final_lr}")
        self.network = network
        self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
        self.num_labels = num_labels
        self.optimizer, self.learning_rate, self.weight_decay = optimizer, learning_rate, weight_decay
        self.schedule, self.warmup_steps, self.final_lr = schedule, warmup_steps, final_lr
        #: The step at which the falling part of the schedule begins, None while it is not known.
        self.schedule_start: int | None = 0
        #: What the base learning rate is multiplied with from there on.
        self.schedule_scale = 1.0
        self.radii = tuple(radii)
        self._was_hard = False
        self.train_accuracy = MulticlassAccuracy(num_labels, average="micro")
        self.train_gap = ConfidenceGap()
        self.eval_loss = MeanMetric()
        self.eval_accuracy = MulticlassAccuracy(num_labels, average="micro")
        self.eval_gap = ConfidenceGap()
        self.eval_radius = MeanRadius()
        self.eval_certified = CertifiedAccuracy(radii)

    @property
    def radius_kind(self) -> str:
        """The rule that gives the certified radius, for reports."""
        return "none"

    @property
    def is_hard(self) -> bool:
        """Whether every nonexpansive layer is scaled by its bound, so that certificates hold."""
        return is_hard(self.network)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits: (B, C, H, W) in [0, 1] -> (B, K).

        Raises:
            UserError: if the images have another size than the network was built for.
        """
        if image.dim() != 4 or tuple(image.shape[1:]) != self.image_shape:
            raise UserError(
                f"this network takes images of shape (batch, {', '.join(map(str, self.image_shape))}), "
                f"got {tuple(image.shape)}: use the data set it was trained on, or resize"
            )
        logits: Tensor = self.network(image)
        return logits

    def prove(
        self,
        image: Tensor,  # noqa: ARG002 (for networks that prove something)
        logits_BK: Tensor,
        *,
        in_box: bool = False,  # noqa: ARG002
        quick: bool = False,  # noqa: ARG002
    ) -> tuple[Certificate, Tensor | None]:
        """Say what these logits of these images prove: nothing, for an ordinary network.

        Args:
            image: (B, C, H, W).
            logits_BK: the network's outputs.
            in_box: whether radii for images in [0, 1] are wanted too.
            quick: whether smaller radii will do, for validation in every epoch.

        Returns:
            The certificate, and the radii inside the image box, (B,), or None.
        """
        return no_certificate(logits_BK), None

    def certify(self, image: Tensor) -> Certificate:
        """Predict and prove: label, confidence gap and certified L2 radius of each image.

        Runs in evaluation mode, without autocast and TF32, in the precision of the weights. A radius of 0 proves
        nothing; so it is wherever the network is not hard, and with weights of half precision, whose rounding no bound
        covers.

        Args:
            image: (B, C, H, W) in [0, 1].

        Returns:
            Tensors (B,).
        """
        return self._certify(image, box=False)[0]

    def certify_in_box(self, image: Tensor) -> tuple[Certificate, Tensor | None]:
        """Predict and prove as :meth:`certify` does, and prove radii for an attacker whose images stay in [0, 1].

        Returns:
            The certificate in the whole space, and the radii inside the image box, (B,), never below its own; None
            where the network has no such certificate.
        """
        return self._certify(image, box=True)

    @torch.no_grad()
    def _certify(self, image: Tensor, *, box: bool) -> tuple[Certificate, Tensor | None]:
        training = self.training
        self.eval()
        try:
            with full_precision(image.device):
                image = image.to(next(self.parameters()).dtype)
                return self._prove_exactly(image, self(image), in_box=box)
        finally:
            self.train(training)

    def _prove_exactly(self, image: Tensor, logits_BK: Tensor, **options: bool) -> tuple[Certificate, Tensor | None]:
        is_exact = logits_BK.dtype in (torch.float32, torch.float64)
        return self.prove(image, logits_BK, **options) if is_exact else (no_certificate(logits_BK), None)

    @abstractmethod
    def loss_terms(self, batch: Batch, logits_BK: Tensor) -> dict[str, Tensor]:
        """Compute ``loss`` and its terms, to be logged under their names."""

    def attack_logits(self, image: Tensor) -> Tensor:
        """Compute the logits that adversarial training attacks."""
        logits: Tensor = self(image)
        return logits

    def training_terms(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the logits of a training batch, and the loss with its terms."""
        logits = self(batch.image)
        return logits, self.loss_terms(batch, logits)

    def training_step(self, batch: Batch, _batch_index: int) -> Tensor:
        """Compute the loss of a batch and log it."""
        logits, terms = self.training_terms(batch)
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in terms.items()},
            on_step=False,
            on_epoch=True,
            sync_dist=True,
            batch_size=len(batch.image),
        )
        self.train_accuracy.update(logits.detach(), batch.label)
        self.train_gap.update(confidence_gap(logits.detach()))
        return terms["loss"]

    def on_train_epoch_end(self) -> None:
        """Log training accuracy and gap, and the learning rate."""
        self.log("train/accuracy", self.train_accuracy)
        self.log("train/gap_mean", self.train_gap)
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    def validation_step(self, batch: Batch, _batch_index: int) -> None:
        """Add a batch to the metrics of the epoch."""
        self._evaluate(batch)

    def test_step(self, batch: Batch, _batch_index: int) -> None:
        """Add a batch to the metrics of the epoch."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the epoch."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the epoch."""
        self._log_evaluation("test")

    def _evaluate(self, batch: Batch) -> None:
        # Noted here, since averaged weights may have been put back by the end of the epoch.
        self._was_hard = self.is_hard
        with full_precision(batch.image.device):
            image = batch.image.to(next(self.parameters()).dtype)
            logits = self(image)
            certificate, _ = self._prove_exactly(image, logits, quick=True)
        self.eval_loss.update(self.loss_terms(batch._replace(adversarial=None), logits)["loss"], len(batch.label))
        self.eval_accuracy.update(logits, batch.label)
        self.eval_gap.update(certificate.gap)
        self.eval_radius.update(certificate.label, batch.label, certificate.radius)
        self.eval_certified.update(certificate.label, batch.label, certificate.radius)

    def _log_evaluation(self, stage: str) -> None:
        self.log(f"{stage}/loss", self.eval_loss.compute())
        self.log(f"{stage}/accuracy", self.eval_accuracy.compute(), prog_bar=True)
        self.log(f"{stage}/gap_mean", self.eval_gap.compute(), prog_bar=True)
        self.log(f"{stage}/radius_mean", self.eval_radius.compute())
        self.log(f"{stage}/hard", float(self._was_hard))
        for radius, accuracy in zip(self.radii, self.eval_certified.compute(), strict=True):
            self.log(f"{stage}/certified_{radius_key(radius)}", accuracy)
        for metric in (self.eval_loss, self.eval_accuracy, self.eval_gap, self.eval_radius, self.eval_certified):
            metric.reset()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Group the parameters by learning rate."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer and the schedule over the steps of the whole training."""
        parameters = self.parameter_groups()
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                parameters, self.learning_rate, momentum=0.9, nesterov=True, weight_decay=self.weight_decay
            )
        else:
            adam = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
            optimizer = adam(parameters, self.learning_rate, weight_decay=self.weight_decay, fused=True)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._learning_rate_factor(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def restart_schedule(self, scale: float) -> None:
        """Begin the falling part of the schedule at the next step, at ``scale`` times the base learning rate."""
        self.schedule_start, self.schedule_scale = self.trainer.global_step, scale
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        for group, base in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True):
            group["lr"] = base * scheduler.lr_lambdas[0](self.trainer.global_step)

    def _learning_rate_factor(self, step: int, total: int) -> float:
        factor = learning_rate_factor(
            step,
            start=self.schedule_start,
            total=total,
            warmup=self.warmup_steps,
            final=self.final_lr,
            schedule=self.schedule,
        )
        return factor * (self.schedule_scale if self.schedule_start is not None else 1.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what evaluation and resuming need, as plain values."""
        datamodule = getattr(self._trainer, "datamodule", None) if self._trainer is not None else None
        checkpoint["l2nnn_lightning"] = {
            "version": __version__,
            "classifier": type(self).__name__,
            "data": datamodule.describe() if isinstance(datamodule, ImageDataModule) else None,
            "schedule_start": self.schedule_start,
            "schedule_scale": self.schedule_scale,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the schedule."""
        state = checkpoint.get("l2nnn_lightning", {})
        self.schedule_start = state.get("schedule_start", self.schedule_start)
        self.schedule_scale = state.get("schedule_scale", self.schedule_scale)
