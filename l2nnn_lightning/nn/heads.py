"""Heads: from features to one logit per label, and what the confidence gap then proves (section 2.4)."""

import math
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from l2nnn_lightning.nn.activations import TwoSidedReLU
from l2nnn_lightning.nn.nonexpansive import Bound, LabelwiseLinear, nonexpansive

__all__ = ["MultiHead", "SingleHead"]


class MultiHead(nn.Module):
    """Split into one stack per label, each ending in a scalar: K overlapping L2NNNs.

    Every logit alone is nonexpansive, so the difference of two of them moves at most 2 per unit of input, and the
    answer holds within half the gap (Lemma 6). A split that does not reconverge needs no scaling (A.3).

    Args:
        in_features: the features of the shared trunk.
        num_labels: the number K of labels.
        hidden: outputs of each stack's inner layers, each followed by the activation, which doubles them.
        bias: whether the last layer adds a bias.
        bound: the bound of every layer.
        two_sided: two-sided ReLU between the layers; ReLU otherwise.

    Shape:
        (B, F), or (B, K, F) where the stacks do not share their features, -> (B, K).
    """

    #: The Lipschitz constant of the difference of two logits: the radius is the gap divided by it.
    gap_lipschitz: float = 2.0

    def __init__(
        self,
        in_features: int,
        num_labels: int,
        hidden: Sequence[int] = (),
        bias: bool = True,
        bound: Bound = "gram",
        two_sided: bool = True,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers.append(nonexpansive(LabelwiseLinear(num_labels, in_features, width), bound))
            layers.append(TwoSidedReLU(dim=2) if two_sided else nn.ReLU())
            in_features = 2 * width if two_sided else width
        layers.append(nonexpansive(LabelwiseLinear(num_labels, in_features, 1, bias), bound))
        self.stacks = nn.Sequential(*layers)

    def layers(self) -> Iterator[nn.Module]:
        """Iterate over the layers in order."""
        yield from self.stacks

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.stacks(features)
        return logits.squeeze(2)


class SingleHead(nn.Module):
    """One jointly nonexpansive layer with K outputs: a single L2NNN.

    The whole logit vector moves at most 1 per unit of input, so a difference of two logits at most ``sqrt(2)``, and
    the answer holds within ``gap / sqrt(2)`` (Lemma 1).

    Args:
        in_features: the features of the trunk.
        num_labels: the number K of labels.
        bias: whether the layer adds a bias.
        bound: the bound of the layer.

    Shape:
        (B, F) -> (B, K).
    """

    gap_lipschitz: float = math.sqrt(2)

    def __init__(self, in_features: int, num_labels: int, bias: bool = True, bound: Bound = "gram") -> None:
        super().__init__()
        self.linear = nonexpansive(nn.Linear(in_features, num_labels, bias), bound)

    def layers(self) -> Iterator[nn.Module]:
        """Iterate over the layers in order."""
        yield self.linear

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.linear(features)
        return logits
