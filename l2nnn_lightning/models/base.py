"""What every network can be asked, and the one thing that is evaluated: a folded network with the rule of its proof."""

# ruff: noqa: ARG002 (what a network that proves nothing is asked)

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.certificates import Certificate, NothingProved, Rule, SignedRadius
from l2nnn_lightning.nn.parametrization import fold, harden, is_hard
from l2nnn_lightning.nn.precision import full_precision
from l2nnn_lightning.nn.soft import SoftRule

__all__ = ["Certified", "ImageShape", "Network", "NetworkFactory", "SignedRadius", "certify", "prove"]

ImageShape = tuple[int, int, int]


class Network(nn.Module):
    """A network from images to logits. This base proves nothing; what proves something says so in its methods.

    A subclass takes ``(image_shape, num_labels, **options)``: (channels, height, width) of the images, the number K of
    labels, and what can be set in a config under ``model.network.init_args``; a ValueError where they do not fit.

    Shape:
        (B, C, H, W) in [0, 1] -> (B, K).
    """

    #: Whether it proves something once it is hard.
    can_prove = False
    #: Whether it knows radii for images that stay in [0, 1].
    has_box = False
    #: How many training images its start looks at; None for all.
    start_images: int | None = 0

    @property
    def is_hard(self) -> bool:
        """Whether certificates hold: every nonexpansive layer is hard."""
        return is_hard(self)

    def rule(self, *, quick: bool = False) -> Rule:
        """Say what its logits prove while the weights stay as they are; quickly, with perhaps smaller radii."""
        return NothingProved()

    def soft_rule(self) -> SoftRule:
        """Say what is true of its logits in penalty mode, by the product of its own norms; only where it is asked for.

        Raises:
            ValueError: if it is not in penalty mode, or such a product is not known.
        """
        raise ValueError(
            f"{type(self).__name__} has no certificate in penalty mode: its constant is no product of exact norms"
        )

    def signed_radius(
        self, image: Tensor, label_B: Tensor, logits_BK: Tensor | None = None, *, in_box: bool = False
    ) -> SignedRadius:
        """Measure the certified radius of the true label, negative where another one wins; for training.

        Args:
            image: (B, C, H, W) in [0, 1].
            label_B: the true labels.
            logits_BK: the network's outputs for them, where they are known already.
            in_box: the radius for images that stay in [0, 1]; a ValueError where the network has none such.
        """
        raise ValueError(f"{type(self).__name__} proves no radius to train on: use another network or objective")

    def start(self, images: Tensor, labels: Tensor, seed: int) -> None:
        """Set fresh weights from the first ``start_images`` images, (N, C, H, W), and labels, (N,), of training.

        Alike on every process, by the seed.
        """

    def harden(self) -> Tensor | None:
        """Make every nonexpansive layer hard.

        Returns:
            By what each logit was divided, (1,) or (K,), where the function is otherwise what it was; else None.
        """
        harden(self)
        return None


NetworkFactory = Callable[[ImageShape, int], Network]


class Certified(nn.Module):
    """A network as it is shipped: plain layers, and the rule that says what they prove.

    The one thing that is evaluated, attacked, predicted with and exported. It is a copy: the network can go on
    training.

    Attributes:
        network: the folded network, from images to logits.
        rule: what its logits prove.
        is_hard: whether the network was hard.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        frozen = copy.deepcopy(network).eval()
        with torch.no_grad():
            self.rule = frozen.rule()
        self.is_hard = frozen.is_hard
        self.network: nn.Module = fold(frozen)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Certificate:
        """Predict and prove: label, confidence gap and certified L2 radius of each image, see :func:`certify`."""
        return certify(self.network, self.rule, image)[0]

    def in_box(self, image: Tensor) -> tuple[Certificate, Tensor | None]:
        """Predict and prove, also for an attacker whose images stay in [0, 1], see :meth:`Rule.in_box`."""
        return certify(self.network, self.rule, image, in_box=True)


@torch.no_grad()
def certify(
    network: nn.Module, rule: Rule, image: Tensor, *, in_box: bool = False
) -> tuple[Certificate, Tensor | None]:
    """Predict and prove by a network in evaluation mode, without autocast and TF32, in the precision of its weights.

    The images are (B, C, H, W) in [0, 1]; with ``in_box`` there are radii inside the image box too.
    """
    with full_precision(image.device):
        image = image.to(next(network.parameters()).dtype)
        return prove(rule, network(image), image, in_box=in_box)


def prove(rule: Rule, logits_BK: Tensor, image: Tensor, *, in_box: bool = False) -> tuple[Certificate, Tensor | None]:
    """Say what logits computed in full precision prove: nothing in half precision, whose rounding no bound covers."""
    if logits_BK.dtype not in (torch.float32, torch.float64):
        rule = NothingProved()
    return rule.in_box(logits_BK, image) if in_box else (rule(logits_BK, image), None)
