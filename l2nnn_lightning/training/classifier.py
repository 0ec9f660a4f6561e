"""The L2NNN classifier, as a LightningModule; it holds no mathematics of its own. Beside it, the baseline."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from l2nnn_lightning.data import Batch, ImageDataModule
from l2nnn_lightning.models import L2NNN, L2NNNS, TemplateNet, build_network
from l2nnn_lightning.nn import harden, penalty
from l2nnn_lightning.nn.certificates import (
    Certificate,
    certify_logits,
    certify_pairs,
    confidence_gap,
    no_certificate,
    round_down,
)
from l2nnn_lightning.nn.continuity import keep_biases_in_scale
from l2nnn_lightning.nn.initialization import principal_
from l2nnn_lightning.nn.parametrization import nonexpansive_layers
from l2nnn_lightning.training.classifier_base import Classifier, Optimizer
from l2nnn_lightning.training.classifier_ordinary import OrdinaryClassifier
from l2nnn_lightning.training.losses import L2NNNLoss, OffsetCrossEntropy, RadiusHinge, RadiusSigmoid
from l2nnn_lightning.training.schedules import Schedule

__all__ = ["Classifier", "L2NNNClassifier", "OrdinaryClassifier"]

# Enough for the directions of a dense layer of 512 outputs, few enough for a second's work.
_DIRECTION_IMAGES = 600


class L2NNNClassifier(Classifier):
    """An L2-nonexpansive classifier: its confidence gap is a guaranteed distance to the nearest adversarial example.

    Trains the paper's loss (3), or another objective, with the penalty (7) while soft; :class:`HardScalingSwitch` makes
    it hard. Templates on raw pixels have no layer to scale and prove their radii from the start.

    Args:
        network: name of the network, see ``l2nnn_lightning.models.L2NNNS``.
        network_args: its options that differ from the defaults.
        image_shape: (channels, height, width) of the images; set from the data by the command line.
        num_labels: the number of labels; set from the data by the command line.
        init: the initial weights: orthonormal rows, at random or along the principal directions of training images.
        start_hard: begin with hard scaling instead of the penalty.
        certificate: how a radius follows from the logits: the paper's rule, gap / 2 for K overlapping L2NNNs and
            gap / sqrt(2) for a single one; or the minimum over the other labels of ``(y_i - y_j) / c_ij`` with c_ij the
            norm of the difference of two rows (or the sum of two stacks' norms) times the exact norm of the trunk.
            Templates have a rule of their own, the distance to the cells of rival templates.
        objective: what is minimised: the paper's loss; the offset cross-entropy ``CE((y - u onehot) T) / T``; or, with
            r the certified radius of the true label, negative where another one wins, the hinge ``max(margin - r, 0)``
            or the smooth count ``sigmoid((margin - r) T) / T`` of what is not certified at the margin.
        offset: u of the offset cross-entropy.
        temperature: T of the offset cross-entropy and of the smooth count.
        margin: the radius that the last two ask for.
        margin_in_box: whether they ask for it inside the image box only (templates on raw pixels).
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
            The other objectives see these instead of the images.
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
        certificate: Literal["paper", "pairwise"] = "paper",
        objective: Literal["paper", "offset_cross_entropy", "radius_hinge", "radius_sigmoid"] = "paper",
        offset: float = 1.0,
        temperature: float = 4.0,
        margin: float = 2.0,
        margin_in_box: bool = False,
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
        if certificate not in ("paper", "pairwise"):
            raise ValueError(f"certificate must be 'paper' or 'pairwise', got {certificate!r}")
        if margin_in_box and not (isinstance(self.network, TemplateNet) and self.network.sees_pixels):
            raise ValueError("margin_in_box needs templates on raw pixels: network: templates, trunk: identity")
        self.pairwise, self.margin_in_box = certificate == "pairwise", margin_in_box
        self.loss: L2NNNLoss | OffsetCrossEntropy | RadiusHinge | RadiusSigmoid
        if objective == "paper":
            self.loss = L2NNNLoss(num_labels, gamma, omega, z, u, v, train_v, adversarial_terms)
        elif objective == "offset_cross_entropy":
            self.loss = OffsetCrossEntropy(offset, temperature)
        elif objective == "radius_hinge":
            self.loss = RadiusHinge(margin)
        elif objective == "radius_sigmoid":
            self.loss = RadiusSigmoid(margin, temperature)
        else:
            known = "'paper', 'offset_cross_entropy', 'radius_hinge' or 'radius_sigmoid'"
            raise ValueError(f"objective must be {known}, got {objective!r}")
        if start_hard:
            harden(self.network)
        if not self.is_hard:
            self.schedule_start = None
        self._penalised = not self.is_hard
        self.scale_lr = scale_lr
        self._is_fresh, self.init = True, init
        # Launchers of several processes seed anew before setup, where the directions are rotated at random.
        self._random_state = torch.get_rng_state()

    def setup(self, stage: str) -> None:
        """Start fresh weights from training images, alike on every process.

        Templates begin at k-means centres, other weights along the principal directions of the first images.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and self._is_fresh and isinstance(datamodule, ImageDataModule):
            assert datamodule.train_set is not None
            images, labels = datamodule.train_set.images, datamodule.train_set.labels
            if isinstance(self.network, TemplateNet):
                self.network.place(images, labels, datamodule.seed)
            elif self.init == "principal":
                with torch.random.fork_rng(devices=[]):
                    torch.set_rng_state(self._random_state)
                    principal_(self.network, images[:_DIRECTION_IMAGES].float() / 255)
        self._is_fresh = False

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
        self._is_fresh = False

    @property
    def is_hard(self) -> bool:
        """Whether certificates hold: every nonexpansive layer is hard, or there is none to be hardened."""
        return super().is_hard or (isinstance(self.network, TemplateNet) and self.network.sees_pixels)

    @property
    def radius_kind(self) -> str:
        """The rule that gives the radii: the paper's, pair by pair, or distances between templates' cells."""
        if isinstance(self.network, TemplateNet):
            return "distance to rival templates' cells"
        if self.pairwise:
            return "pairwise"
        return "gap/2" if self.network.gap_lipschitz == 2 else "gap/sqrt(2)"

    def prove(
        self, image: Tensor, logits_BK: Tensor, *, in_box: bool = False, quick: bool = False
    ) -> tuple[Certificate, Tensor | None]:
        """Say what these logits of these images prove, by the configured rule: nothing while not hard."""
        network = self.network
        if not self.is_hard:
            return no_certificate(logits_BK), None
        if isinstance(network, TemplateNet):
            label_B, dtype = logits_BK.argmax(1), logits_BK.dtype
            radius_B, box_B = network.certify(image, label_B, box=in_box, quick=quick)
            radius_B = round_down(radius_B, dtype).to(image.device)
            box_B = None if box_B is None else round_down(box_B, dtype).to(image.device)
            return Certificate(label_B, confidence_gap(logits_BK), radius_B), box_B
        signal_B = torch.linalg.vector_norm(image.flatten(1), dim=1)
        if self.pairwise and isinstance(network, L2NNN):
            return certify_pairs(logits_BK, network.pair_constants(quick=quick), signal_B), None
        gap_lipschitz: float = network.gap_lipschitz  # type: ignore[assignment]
        return certify_logits(logits_BK, gap_lipschitz, signal_B), None

    def attack_logits(self, image: Tensor) -> Tensor:
        """Compute the logits as the loss sees them: L_a scales them by u."""
        logits: Tensor = self(image)
        return self.loss.scaled(logits) if isinstance(self.loss, L2NNNLoss) else logits

    def on_train_epoch_start(self) -> None:
        """Look up the mode once an epoch, since reading it from the device would stall every step; set omega."""
        self._penalised = not self.is_hard
        epochs = self.trainer.max_epochs
        is_late = epochs is not None and epochs > 0 and self.current_epoch >= self.late * epochs
        if self.omega_late is not None and is_late and isinstance(self.loss, L2NNNLoss):
            self.loss.omega = self.omega_late

    def on_validation_epoch_start(self) -> None:
        """Look up the mode where nothing is trained: a loaded network has another one than a new one."""
        if self.trainer.validating:
            self._penalised = not self.is_hard

    def on_test_epoch_start(self) -> None:
        """Look up the mode."""
        self._penalised = not self.is_hard

    def harden(self) -> None:
        """Make the network hard; the function, and with it L_a, stays what it was up to a factor per label."""
        divisor = keep_biases_in_scale(self.network.chain()) if isinstance(self.network, L2NNN) else None
        if divisor is not None and isinstance(self.loss, L2NNNLoss):
            self.loss.follow_scaling(divisor)
        harden(self.network)
        self._penalised = False

    def training_terms(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute logits and loss; a template's radius finds both at once."""
        if isinstance(self.loss, (RadiusHinge, RadiusSigmoid)) and isinstance(self.network, TemplateNet):
            image = batch.image if batch.adversarial is None else batch.adversarial
            radius, logits = self.network.signed_radius(image, batch.label, box=self.margin_in_box)
            return logits, self._with_penalty(self.loss(radius))
        return super().training_terms(batch)

    def loss_terms(self, batch: Batch, logits_BK: Tensor) -> dict[str, Tensor]:
        """Compute the objective, plus the penalty (7) in penalty mode."""
        adversarial = None if batch.adversarial is None else self(batch.adversarial)
        if isinstance(self.loss, L2NNNLoss):
            return self._with_penalty(self.loss(logits_BK, batch.label, adversarial))
        attacked = logits_BK if adversarial is None else adversarial
        if isinstance(self.loss, OffsetCrossEntropy):
            return self._with_penalty(self.loss(attacked, batch.label))
        image = batch.image if batch.adversarial is None else batch.adversarial
        return self._with_penalty(self.loss(self._signed_radius(image, attacked, batch.label)))

    def _signed_radius(self, image: Tensor, logits_BK: Tensor, label_B: Tensor) -> Tensor:
        if isinstance(self.network, TemplateNet):
            return self.network.signed_radius(image, label_B, box=self.margin_in_box).radius
        assert isinstance(self.network, L2NNN)
        return self.network.signed_radius(logits_BK, label_B, pairwise=self.pairwise)

    def _with_penalty(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._penalised:
            terms["penalty"] = penalty(self.network)
            terms["loss"] = terms["loss"] + self.penalty_weight * terms["penalty"]
        return terms
