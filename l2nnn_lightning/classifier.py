"""The L2NNN classifier and the ordinary baseline, as LightningModules. They hold no mathematics of their own."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from l2nnn_lightning.certificates import Certificate, certify_logits, no_certificate
from l2nnn_lightning.classifier_base import Classifier, Optimizer
from l2nnn_lightning.data import Batch, ImageDataModule
from l2nnn_lightning.losses import L2NNNLoss
from l2nnn_lightning.models import L2NNN, L2NNNS, ORDINARY, build_network
from l2nnn_lightning.nn import harden, penalty
from l2nnn_lightning.nn.continuity import keep_biases_in_scale
from l2nnn_lightning.nn.initialization import principal_
from l2nnn_lightning.nn.nonexpansive import nonexpansive_layers
from l2nnn_lightning.schedules import Schedule

__all__ = ["Classifier", "L2NNNClassifier", "OrdinaryClassifier"]

# Enough for the directions of a dense layer of 512 outputs, few enough for a second's work.
_DIRECTION_IMAGES = 600


class L2NNNClassifier(Classifier):
    """An L2-nonexpansive classifier: its confidence gap is a guaranteed distance to the nearest adversarial example.

    Trains the paper's loss (3) with the penalty (7) while soft; :class:`HardScalingSwitch` makes it hard.

    Args:
        network: name of the network, see ``l2nnn_lightning.models.L2NNNS``.
        network_args: its options that differ from the defaults.
        image_shape: (channels, height, width) of the images; set from the data by the command line.
        num_labels: the number of labels; set from the data by the command line.
        init: the initial weights: orthonormal rows, at random or along the principal directions of training images.
        start_hard: begin with hard scaling instead of the penalty.
        penalty_weight: lambda, the weight of the penalty (7) while soft, >= 0.
        gamma: the weight of L_b (5).
        omega: the weight of L_c (6), which rewards the gap.
        omega_late: its weight in the late part of the training, if another: first the gap, then accuracy.
        late: the fraction of the epochs after which that part begins, in [0, 1].
        z: the sharpness of L_c.
        u: the initial scales of L_a (4).
        v: the (initial) scale of L_b.
        train_v: whether v is trained.
        adversarial_terms: the loss terms that see adversarial images, where the data has them: L_a, or L_a and L_b.
        radii: the L2 radii at which certified accuracy is measured in validation.
        optimizer: the optimizer.
        learning_rate: the base learning rate.
        scale_lr: multiply it by ``16 / sqrt(inputs)`` for each nonexpansive weight, so that a step of Adam turns the
            rows of every layer by the same angle; noise in long rows would inflate b(W).
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
        init: Literal["orthogonal", "principal"] = "principal",
        start_hard: bool = False,
        penalty_weight: float = 0.1,
        gamma: float = 1.0,
        omega: float = 0.5,
        omega_late: float | None = None,
        late: float = 0.7,
        z: float = 10.0,
        u: float = 1.0,
        v: float = 1.0,
        train_v: bool = True,
        adversarial_terms: Literal["a", "ab"] = "a",
        radii: Sequence[float] = (0.5, 1.0, 1.58),
        optimizer: Optimizer = "adam",
        learning_rate: float = 1e-3,
        scale_lr: bool = True,
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
        if init not in ("orthogonal", "principal"):
            raise ValueError(f"init must be 'orthogonal' or 'principal', got {init!r}")
        self.save_hyperparameters(ignore=["_class_path", "_instantiator"])
        if omega_late is not None and not omega_late >= 0:
            raise ValueError(f"omega_late must be at least 0, got {omega_late}")
        if not 0 <= late <= 1:
            raise ValueError(f"late must be in [0, 1], got {late}")
        self.penalty_weight = penalty_weight
        self.omega_late, self.late = omega_late, late
        self.loss = L2NNNLoss(num_labels, gamma, omega, z, u, v, train_v, adversarial_terms)
        if start_hard:
            harden(self.network)
        else:
            self.schedule_start = None
        self._penalised = not start_hard
        self.scale_lr = scale_lr
        self._needs_directions = init == "principal"

    def setup(self, stage: str) -> None:
        """Point fresh weights along the principal directions of the first training images, alike on every process."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and self._needs_directions and isinstance(datamodule, ImageDataModule):
            assert datamodule.train_set is not None
            principal_(self.network, datamodule.train_set.images[:_DIRECTION_IMAGES].float() / 255)
        self._needs_directions = False

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Group the parameters by learning rate: one group per nonexpansive weight, and the rest."""
        if not self.scale_lr:
            return super().parameter_groups()
        groups: list[dict[str, Any]] = []
        for layer, scaling in nonexpansive_layers(self.network):
            raw = layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
            columns = scaling.matrices(raw).shape[-1]
            groups.append({"params": [raw], "lr": self.learning_rate * 16 / columns**0.5})
        weights = {id(group["params"][0]) for group in groups}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in weights]
        return [*groups, {"params": rest}]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the schedule; loaded weights are not initialised again."""
        super().on_load_checkpoint(checkpoint)
        self._needs_directions = False

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
        """Look up the mode once an epoch, since reading it from the device would stall every step; set omega."""
        self._penalised = not self.is_hard
        epochs = self.trainer.max_epochs
        if self.omega_late is not None and epochs and self.current_epoch >= self.late * epochs:
            self.loss.omega = self.omega_late

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
