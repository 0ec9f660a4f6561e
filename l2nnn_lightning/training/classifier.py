"""The classifiers, as LightningModules; they hold no mathematics and know no kinds of networks or objectives."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from l2nnn_lightning.data import Batch, to_float
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.models import Certified, ConvL2NNN, MadryNet, Network, NetworkFactory
from l2nnn_lightning.models.base import Program, prove
from l2nnn_lightning.nn import penalty
from l2nnn_lightning.nn.certificates import Certificate, confidence_gap
from l2nnn_lightning.nn.precision import full_precision
from l2nnn_lightning.training.factories import build, describe
from l2nnn_lightning.training.metrics import EvaluationMetrics
from l2nnn_lightning.training.objectives import CrossEntropy, Objective, ObjectiveFactory
from l2nnn_lightning.training.old_checkpoints import upgrade
from l2nnn_lightning.training.optimizers import ScaledAdam, parameter_groups
from l2nnn_lightning.training.paper_loss import PaperLoss
from l2nnn_lightning.training.schedule import CosineAfterSwitch, ScheduleFactory

__all__ = ["Classifier", "L2NNNClassifier", "OrdinaryClassifier"]

_FACTORIES: dict[str, type] = {
    "network": Network,
    "objective": Objective,
    "optimizer": torch.optim.Optimizer,
    "scheduler": LRScheduler,
}


class Classifier(pl.LightningModule):
    """A network with what trains it: objective, optimizer, schedule, metrics, checkpoints.

    The first four arguments are classes or ``functools.partial`` of them; in a config ``class_path`` and ``init_args``.
    Null stands for the classifier's own ``defaults``.

    Args:
        network: takes (image_shape, num_labels), such as :class:`ConvL2NNN`.
        objective: takes (num_labels), such as :class:`PaperLoss`.
        optimizer: takes the parameters, such as :class:`ScaledAdam` or any of ``torch.optim``; each nonexpansive weight
            comes as a group of its own, which names its ``columns`` and ``layout``, see :func:`parameter_groups`.
        scheduler: takes the optimizer, such as :class:`CosineAfterSwitch`; it is stepped once a batch.
        image_shape: (channels, height, width) of the images; set from the data by the command line.
        num_labels: the number of labels; set from the data by the command line.
        radii: the L2 radii at which certified accuracy is measured in validation.
        penalty_weight: lambda, the weight of the penalty (7) while the network is soft, >= 0.

    Shape:
        (B, C, H, W) in [0, 1] -> (B, K).
    """

    #: What null stands for. As defaults of the arguments, their options would be handed on to other classes.
    defaults: ClassVar[dict[str, Any]] = {
        "network": ConvL2NNN,
        "objective": PaperLoss,
        "optimizer": ScaledAdam,
        "scheduler": CosineAfterSwitch,
    }
    #: Whether this epoch is trained with the penalty.
    _penalised: bool | None = None

    def __init__(
        self,
        network: NetworkFactory | None = None,
        objective: ObjectiveFactory | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: ScheduleFactory | None = None,
        image_shape: Sequence[int] = (1, 28, 28),
        num_labels: int = 10,
        radii: Sequence[float] = (0.5, 1.0, 1.58),
        penalty_weight: float = 0.1,
    ) -> None:
        super().__init__()
        if num_labels < 2:
            raise ValueError(f"num_labels must be at least 2, got {num_labels}")
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(f"image_shape must be (channels, height, width), got {tuple(image_shape)}")
        if not penalty_weight >= 0:
            raise ValueError(f"penalty_weight must be at least 0, got {penalty_weight}")
        self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
        self.num_labels, self.radii = num_labels, tuple(radii)
        given: dict[str, Any] = {
            "network": network,
            "objective": objective,
            "optimizer": optimizer,
            "scheduler": scheduler,
        }
        made = {name: factory or self.defaults[name] for name, factory in given.items()}
        described = {name: describe(factory) for name, factory in made.items()}
        plain = {"image_shape": list(image_shape), "num_labels": num_labels, "radii": list(radii)}
        self.save_hyperparameters({**described, **plain, "penalty_weight": penalty_weight})
        self.network: Network = made["network"](self.image_shape, num_labels)
        self.objective: Objective = made["objective"](num_labels)
        self.objective.check(self.network)
        self.optimizer, self.scheduler = made["optimizer"], made["scheduler"]
        parameters = [{"params": [torch.nn.Parameter(torch.zeros(1))], "columns": 1}]
        self.scheduler(self.optimizer(parameters))  # refuses bad options
        self.penalty_weight, self.penalty_scale, self._is_fresh = penalty_weight, 1.0, True
        self.train_accuracy = MulticlassAccuracy(num_labels, average="micro")
        self.train_gap = MeanMetric()
        self.evaluated = EvaluationMetrics(num_labels, self.radii)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # never executes what a checkpoint holds
        cls, checkpoint_path: str | Path | IO[bytes], map_location: Any = "cpu", **changes: Any
    ) -> Self:
        """Build a classifier from a checkpoint, of this version or an earlier one; nothing in it is executed.

        Further arguments are constructor arguments that differ from the checkpoint's.
        """
        checkpoint = torch.load(checkpoint_path, map_location=map_location, weights_only=True)
        return cls.from_contents(checkpoint, **changes)

    @classmethod
    def from_contents(cls, checkpoint: Mapping[str, Any], **changes: Any) -> Self:
        """Build a classifier from what ``torch.load`` gives; a ValueError where it names what is not trusted."""
        checkpoint = upgrade(checkpoint)
        options = checkpoint["hyper_parameters"]
        factories = {name: build(options[name], kind) for name, kind in _FACTORIES.items()}
        classifier = cls(**{**options, **factories, **changes})
        classifier.load_state_dict(checkpoint["state_dict"])
        classifier.on_load_checkpoint(dict(checkpoint))
        return classifier

    @property
    def is_hard(self) -> bool:
        """Whether certificates hold."""
        return self.network.is_hard

    @property
    def is_soft(self) -> bool:
        """Whether certificates would hold, were the network made hard."""
        return self.network.can_prove and not self.is_hard

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits: (B, C, H, W) in [0, 1] -> (B, K).

        Raises:
            UserError: if the images have another size than the network was built for.
        """
        self._check(image)
        logits: Tensor = self.network(image)
        return logits

    def _check(self, image: Tensor) -> None:
        if image.dim() != 4 or tuple(image.shape[1:]) != self.image_shape:
            wanted = f"(batch, {', '.join(map(str, self.image_shape))})"
            raise UserError(f"this network takes images of shape {wanted}, got {tuple(image.shape)}: resize them")

    def certify(self, image: Tensor) -> Certificate:
        """Predict and prove: label, confidence gap and certified L2 radius of each image, (B,) each.

        Those of the weights in float64. A radius of 0 proves nothing. For many batches, use :meth:`certified`.
        """
        self._check(image)
        return self.certified().forward(image.to(self.device))

    def certified(self, program: Program = "float64") -> Certified:
        """Copy the network as it is shipped: plain layers with the rule of their proof, for one of two programs."""
        return Certified(self.network, program).to(self.device)

    def setup(self, stage: str) -> None:
        """Start fresh weights from training images, alike on every process."""
        datamodule = getattr(self.trainer, "datamodule", None)
        train_set = getattr(datamodule, "train_set", None)  # other DataModules have none
        if stage == "fit" and self._is_fresh and datamodule is not None and train_set is not None:
            count = self.network.start_images
            self.network.start(to_float(train_set.images[:count]), train_set.labels[:count], datamodule.seed)
        self._is_fresh = False

    def attack_logits(self, image: Tensor) -> Tensor:
        """Compute what adversarial training attacks: the logits as the objective sees them."""
        return self.objective.attacked(self(image))

    def on_train_epoch_start(self) -> None:
        """Tell the objective how far the training is."""
        epochs = self.trainer.max_epochs
        self.objective.begin_epoch(self.current_epoch / epochs if epochs is not None and epochs > 0 else 0.0)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Compute the loss of a batch and log it."""
        if batch_index == 0 or self._penalised is None:
            # Once an epoch, since reading the mode from the device stalls.
            self._penalised = self.is_soft
        logits, terms = self.objective(self.network, batch)
        self._penalise(terms, self._penalised)
        values = {f"train/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(values, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch.image))
        self.train_accuracy.update(logits.detach(), batch.label)
        self.train_gap.update(confidence_gap(logits.detach()))
        loss: Tensor = terms["loss"]
        return loss

    def on_train_epoch_end(self) -> None:
        """Log training accuracy and gap, and the learning rate."""
        self.log("train/accuracy", self.train_accuracy)
        self.log("train/gap_mean", self.train_gap)
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    def validation_step(self, batch: Batch, _batch_index: int) -> None:
        """Add a batch to the metrics of the epoch; radii, by the quick rule, are estimates of what is proven later."""
        is_soft = self.is_soft
        with full_precision(batch.image.device):
            image = batch.image.to(next(self.parameters()).dtype)
            logits = self(image)
            _, terms = self.objective(self.network, Batch(image, batch.label), logits)
            certificate, _ = prove(self.network.rule(quick=True), logits, image)
        self._penalise(terms, is_soft)
        self.evaluated.update(logits, batch.label, certificate, terms["loss"], self.is_hard)

    test_step = validation_step

    def on_predict_start(self) -> None:
        """Prove once."""
        self._predicting = (self.certified(),)  # a module's attribute would be one of its parts

    def predict_step(self, batch: Batch, _batch_index: int) -> Certificate:
        """Predict and prove."""
        return self._predicting[0].forward(batch.image)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the epoch."""
        stage = "test" if self.trainer.testing else "val"
        for name, value in self.evaluated.compute().items():
            self.log(f"{stage}/{name}", value, prog_bar=name in ("accuracy", "gap_mean"))
        self.evaluated.reset()

    on_test_epoch_end = on_validation_epoch_end

    def _penalise(self, terms: dict[str, Tensor], is_soft: bool) -> None:
        if is_soft:
            terms["penalty"] = penalty(self.network)
            terms["loss"] = terms["loss"] + self.penalty_weight * self.penalty_scale * terms["penalty"]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer, with one group per nonexpansive weight, and the schedule over the whole training."""
        optimizer = self.optimizer(parameter_groups(self))
        scheduler = self.scheduler(optimizer)
        if isinstance(scheduler, CosineAfterSwitch):
            scheduler.begin(int(self.trainer.estimated_stepping_batches), soft=self.is_soft)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def harden(self, lr_factor: float = 1.0) -> None:
        """Make the network hard, which stays what it was up to a factor per label; the learning rate begins anew."""
        divisor = self.network.harden()
        if divisor is not None:
            self.objective.follow_scaling(divisor)
        self._penalised = False
        scheduler = None if self._trainer is None else self.lr_schedulers()
        if isinstance(scheduler, CosineAfterSwitch):
            scheduler.restart(lr_factor)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what evaluation and resuming need, as plain values."""
        kind = type(self)
        data = getattr(self._trainer, "datamodule", None)
        describe_data, names = getattr(data, "describe", None), getattr(data, "label_names", None)
        checkpoint["l2nnn_lightning"] = {
            "version": metadata.version("l2nnn-lightning"),
            "classifier": kind.__name__ if kind.__module__ == __name__ else describe(kind)["class_path"],
            "data": None if describe_data is None else describe_data(),
            **({} if names is None else {"label_names": [str(name) for name in names]}),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002 (Lightning's hook)
        """Keep loaded weights: they are not set anew before training."""
        self._is_fresh = False


class L2NNNClassifier(Classifier):
    """An L2-nonexpansive classifier: its confidence gap is a guaranteed distance to the nearest adversarial example.

    Trains the paper's network with the paper's loss (3) by default, with the penalty (7) while soft;
    :class:`HardScalingSwitch` makes it hard. See :class:`Classifier` for the arguments.
    """


class OrdinaryClassifier(Classifier):
    """An ordinary classifier trained with cross-entropy, as a baseline: it proves nothing. See :class:`Classifier`.

    With adversarial batches it is trained on these alone, as Madry et al. (2017) do.
    """

    defaults: ClassVar[dict[str, Any]] = {
        **Classifier.defaults,
        "network": MadryNet,
        "objective": CrossEntropy,
        "optimizer": torch.optim.Adam,
    }
