"""The LightningModules: the L2NNN classifier and the ordinary baseline. They hold no mathematics of their own."""

from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from l2nnn_lightning import __version__
from l2nnn_lightning.certificates import Certificate, certify_logits, confidence_gap, no_certificate
from l2nnn_lightning.data import Batch, ImageDataModule
from l2nnn_lightning.errors import UserError
from l2nnn_lightning.losses import L2NNNLoss
from l2nnn_lightning.metrics import CertifiedAccuracy, ConfidenceGap, MeanRadius, radius_key
from l2nnn_lightning.models import L2NNN, L2NNNS, ORDINARY, build_network
from l2nnn_lightning.nn import harden, is_hard, penalty
from l2nnn_lightning.nn.continuity import keep_biases_in_scale
from l2nnn_lightning.schedules import Schedule, learning_rate_factor

__all__ = ["Classifier", "L2NNNClassifier", "OrdinaryClassifier"]

Optimizer = Literal["adam", "adamw", "sgd"]


class Classifier(pl.LightningModule):
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
        for name, value, valid in (
            ("learning_rate", learning_rate, learning_rate > 0),
            ("weight_decay", weight_decay, weight_decay >= 0),
            ("warmup_steps", warmup_steps, warmup_steps >= 0),
        ):
            if not valid:
                raise ValueError(f"{name} must not be {value}")
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

    def certificate(self, logits_BK: Tensor) -> Certificate:
        """Say what these logits prove: nothing, for an ordinary network."""
        return no_certificate(logits_BK)

    @torch.no_grad()
    def certify(self, image: Tensor) -> Certificate:
        """Predict and prove: label, confidence gap and certified L2 radius of each image.

        Runs in evaluation mode and outside autocast, in the precision of the weights. A radius of 0 proves nothing;
        so it is wherever the network is not hard.

        Args:
            image: (B, C, H, W) in [0, 1].

        Returns:
            Tensors (B,).
        """
        training = self.training
        self.eval()
        try:
            with torch.autocast(image.device.type, enabled=False):
                return self.certificate(self(image.to(next(self.parameters()).dtype)))
        finally:
            self.train(training)

    def loss_terms(self, batch: Batch, logits_BK: Tensor) -> dict[str, Tensor]:
        """Compute ``loss`` and its terms, to be logged under their names."""
        raise NotImplementedError

    def attack_logits(self, image: Tensor) -> Tensor:
        """Compute the logits that adversarial training attacks."""
        logits: Tensor = self(image)
        return logits

    def training_step(self, batch: Batch, _batch_index: int) -> Tensor:
        """Compute the loss of a batch and log it."""
        logits = self(batch.image)
        terms = self.loss_terms(batch, logits)
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in terms.items()},
            on_step=False,
            on_epoch=True,
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
        logits = self(batch.image)
        certificate = self.certificate(logits.float())
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
        self.log(f"{stage}/hard", float(self.is_hard))
        for radius, accuracy in zip(self.radii, self.eval_certified.compute(), strict=True):
            self.log(f"{stage}/certified_{radius_key(radius)}", accuracy)
        for metric in (self.eval_loss, self.eval_accuracy, self.eval_gap, self.eval_radius, self.eval_certified):
            metric.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer and the schedule over the steps of the whole training."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                parameters, self.learning_rate, momentum=0.9, nesterov=True, weight_decay=self.weight_decay
            )
        else:
            kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
            optimizer = kind(parameters, self.learning_rate, weight_decay=self.weight_decay, fused=True)
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


class L2NNNClassifier(Classifier):
    """An L2-nonexpansive classifier: its confidence gap is a guaranteed distance to the nearest adversarial example.

    Trains the paper's loss (3) with the penalty (7) while soft; :class:`HardScalingSwitch` makes it hard.

    Args:
        network: name of the network, see ``l2nnn_lightning.models.L2NNNS``.
        network_args: its options that differ from the defaults.
        image_shape: (channels, height, width) of the images; set from the data by the command line.
        num_labels: the number of labels; set from the data by the command line.
        start_hard: begin with hard scaling instead of the penalty.
        penalty_weight: lambda, the weight of the penalty (7) while soft, >= 0.
        gamma: the weight of L_b (5).
        omega: the weight of L_c (6), which rewards the gap.
        z: the sharpness of L_c.
        u: the initial scales of L_a (4).
        v: the (initial) scale of L_b.
        train_v: whether v is trained.
        adversarial_terms: the loss terms that see adversarial images, where the data has them: L_a, or L_a and L_b.
        radii: the L2 radii at which certified accuracy is measured in validation.
        optimizer: the optimizer.
        learning_rate: the base learning rate.
        weight_decay: as the optimizer defines it.
        schedule: what the learning rate does after the switch.
        warmup_steps: steps of linear warm-up, at the start and at the switch.
        final_lr: the last learning rate as a fraction of the one after the switch.

    Shape:
        (B, C, H, W) in [0, 1] -> (B, K).

    Raises:
        ValueError: if an argument is out of range, or a name is unknown.
    """

    def __init__(
        self,
        network: str = "mnist_small",
        network_args: dict[str, Any] | None = None,
        image_shape: Sequence[int] = (1, 28, 28),
        num_labels: int = 10,
        start_hard: bool = False,
        penalty_weight: float = 0.1,
        gamma: float = 1.0,
        omega: float = 0.5,
        z: float = 10.0,
        u: float = 1.0,
        v: float = 1.0,
        train_v: bool = True,
        adversarial_terms: Literal["a", "ab"] = "a",
        radii: Sequence[float] = (0.5, 1.0, 1.58),
        optimizer: Optimizer = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "cosine",
        warmup_steps: int = 50,
        final_lr: float = 0.01,
    ) -> None:
        super().__init__(
            build_network(L2NNNS, network, image_shape, num_labels, network_args),
            image_shape,
            num_labels,
            radii,
            optimizer,
            learning_rate,
            weight_decay,
            schedule,
            warmup_steps,
            final_lr,
        )
        if not penalty_weight >= 0:
            raise ValueError(f"penalty_weight must be at least 0, got {penalty_weight}")
        self.save_hyperparameters(ignore=["_class_path", "_instantiator"])
        self.penalty_weight = penalty_weight
        self.loss = L2NNNLoss(num_labels, gamma, omega, z, u, v, train_v, adversarial_terms)
        if start_hard:
            harden(self.network)
        else:
            self.schedule_start = None
        self._penalised = not start_hard

    @property
    def radius_kind(self) -> str:
        """Half the gap for K overlapping L2NNNs (Lemma 6), gap / sqrt(2) for a single one (Lemma 1)."""
        return "gap/2" if self.network.gap_lipschitz == 2 else "gap/sqrt(2)"

    def certificate(self, logits_BK: Tensor) -> Certificate:
        """Say what these logits prove: half the gap for K overlapping L2NNNs, nothing while not hard."""
        if not self.is_hard:
            return no_certificate(logits_BK)
        return certify_logits(logits_BK, self.network.gap_lipschitz)  # type: ignore[arg-type]

    def attack_logits(self, image: Tensor) -> Tensor:
        """Compute the logits as L_a sees them, scaled by u."""
        return self.loss.scaled(self(image))

    def on_train_epoch_start(self) -> None:
        """Look up the mode once an epoch: reading it from the device would stall every step."""
        self._penalised = not self.is_hard

    def harden(self) -> None:
        """Make the network hard; the function, and with it L_a, stays what it was up to a factor per label."""
        divisor = keep_biases_in_scale(self.network.chain()) if isinstance(self.network, L2NNN) else None
        if divisor is not None:
            self.loss.follow_scaling(divisor)
        harden(self.network)
        self._penalised = False

    def loss_terms(self, batch: Batch, logits_BK: Tensor) -> dict[str, Tensor]:
        """Compute (3), plus the penalty (7) in penalty mode."""
        adversarial = None if batch.adversarial is None else self(batch.adversarial)
        terms: dict[str, Tensor] = self.loss(logits_BK, batch.label, adversarial)
        if self._penalised:
            terms["penalty"] = penalty(self.network)
            terms["loss"] = terms["loss"] + self.penalty_weight * terms["penalty"]
        return terms


class OrdinaryClassifier(Classifier):
    """An ordinary classifier trained with cross-entropy, as a baseline: it proves nothing.

    With adversarial batches it is trained on these alone, as Madry et al. (2017) do.

    Args:
        network: name of the network, see ``l2nnn_lightning.models.ORDINARY``.
        network_args: its options that differ from the defaults.
        image_shape: (channels, height, width) of the images; set from the data by the command line.
        num_labels: the number of labels; set from the data by the command line.
        radii: the L2 radii at which certified accuracy is reported (it is 0).
        optimizer: the optimizer.
        learning_rate: the base learning rate.
        weight_decay: as the optimizer defines it.
        schedule: what the learning rate does after warm-up.
        warmup_steps: steps of linear warm-up.
        final_lr: the last learning rate as a fraction of the base.

    Shape:
        (B, C, H, W) in [0, 1] -> (B, K).

    Raises:
        ValueError: if an argument is out of range, or a name is unknown.
    """

    def __init__(
        self,
        network: str = "madry_mnist",
        network_args: dict[str, Any] | None = None,
        image_shape: Sequence[int] = (1, 28, 28),
        num_labels: int = 10,
        radii: Sequence[float] = (0.5, 1.0, 1.58),
        optimizer: Optimizer = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "cosine",
        warmup_steps: int = 50,
        final_lr: float = 0.01,
    ) -> None:
        super().__init__(
            build_network(ORDINARY, network, image_shape, num_labels, network_args),
            image_shape,
            num_labels,
            radii,
            optimizer,
            learning_rate,
            weight_decay,
            schedule,
            warmup_steps,
            final_lr,
        )
        self.save_hyperparameters(ignore=["_class_path", "_instantiator"])

    def loss_terms(self, batch: Batch, logits_BK: Tensor) -> dict[str, Tensor]:
        """Compute the cross-entropy of the adversarial images where there are any, else of the images."""
        attacked_BK = logits_BK if batch.adversarial is None else self(batch.adversarial)
        return {"loss": F.cross_entropy(attacked_BK, batch.label)}
