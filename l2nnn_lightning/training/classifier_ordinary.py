"""The ordinary baseline, as a LightningModule."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from l2nnn_lightning.data import Batch
from l2nnn_lightning.models import ORDINARY, build_network
from l2nnn_lightning.training.classifier_base import Classifier, Optimizer
from l2nnn_lightning.training.schedules import Schedule

__all__ = ["OrdinaryClassifier"]


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
