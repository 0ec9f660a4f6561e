"""Heads: from features to one logit per label, and what the confidence gap then proves (section 2.4)."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.activations import TwoSidedReLU
from l2nnn_lightning.nn.labelwise import LabelwiseLinear
from l2nnn_lightning.nn.norms import layer_norms
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.precision import to_double

__all__ = ["MultiHead", "SingleHead"]

# Far above the rounding of a norm in float64.
_OUTWARD = 1 + 1e-9


class MultiHead(nn.Module):
    """Split into one stack per label, each ending in a scalar: K overlapping L2NNNs.

    Every logit alone is nonexpansive, so the difference of two of them moves at most 2 per unit of input, and the
    answer holds within half the gap (Lemma 6). A split that does not reconverge needs no scaling (A.3).

    Args:
        in_features: the features of the shared trunk.
        num_labels: the number K of labels.
        hidden: outputs of each stack's inner layers, each followed by the activation.
        bias: whether the last layer adds a bias.
        bound: the bound of every layer.
        activation: what builds it for channels in dimension 2, given the shape of one sample, and by what it multiplies
            their number.

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
        activation: tuple[Callable[[Sequence[int]], nn.Module], int] = (lambda _: TwoSidedReLU(dim=2), 2),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        build, widening = activation
        for width in hidden:
            layers += [nonexpansive(LabelwiseLinear(num_labels, in_features, width), bound), build((num_labels, width))]
            in_features = widening * width
        layers.append(nonexpansive(LabelwiseLinear(num_labels, in_features, 1, bias), bound))
        self.stacks = nn.Sequential(*layers)

    def layers(self) -> Iterator[nn.Module]:
        """Iterate over the layers in order."""
        return iter(self.stacks)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.stacks(features)
        return logits.squeeze(2)

    def rows(self) -> Tensor | None:
        """Return the weights (K, F) if every stack is a single row, else None."""
        if len(self.stacks) > 1:
            return None
        weight_K1F: Tensor = self.stacks[0].weight  # type: ignore[assignment]
        return weight_K1F[:, 0]

    def norm(self) -> float:
        """Bound the Lipschitz constant of each logit in the features, soft or hard: ``max_i L_i``, rounded up."""
        norms = [layer_norms(layer) for layer in self.stacks[::2]]  # every other module is an activation
        return float(torch.stack(norms).prod(0).max()) * _OUTWARD

    def pair_constants(self, shared: bool = True, largest: float = 1.0) -> Tensor:
        """Bound how much each difference of two logits moves per unit of the features: (K, K), rounded up.

        For single rows on features that are shared by all labels it is ``|w_i - w_j|``; for stacks, or features of
        each label's own, ``L_i + L_j``, with L_i the product of the exact norms of stack i.

        Args:
            shared: whether all labels see the same features.
            largest: what L_i cannot exceed: 1 where the layers are hard, ``math.inf`` where they are soft.
        """
        rows_KF = self.rows()
        if rows_KF is not None and shared:
            return _row_distances(rows_KF)
        # Every other module is an activation.
        weights: list[Tensor] = [layer.weight.detach() for layer in self.stacks[::2]]  # type: ignore[operator]
        norms = [torch.linalg.matrix_norm(to_double(weight_KOI), 2) for weight_KOI in weights]
        norm_K = torch.stack(norms).prod(0).clamp_max(largest)
        return (norm_K[:, None] + norm_K) * _OUTWARD


class SingleHead(nn.Module):
    """One jointly nonexpansive layer with K outputs: a single L2NNN.

    The whole logit vector moves at most 1 per unit of input, so a difference of two logits at most ``sqrt(2)``, and
    the answer holds within ``gap / sqrt(2)`` (Lemma 1).

    The arguments are those of :class:`MultiHead`.

    Shape:
        (B, F) -> (B, K).
    """

    gap_lipschitz: float = math.sqrt(2)

    def __init__(self, in_features: int, num_labels: int, bias: bool = True, bound: Bound = "gram") -> None:
        super().__init__()
        self.linear = nonexpansive(nn.Linear(in_features, num_labels, bias), bound)

    def layers(self) -> Iterator[nn.Module]:
        """Iterate over the only layer."""
        yield self.linear

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.linear(features)
        return logits

    def rows(self) -> Tensor:
        """Return the weights, (K, F)."""
        return self.linear.weight

    def norm(self) -> float:
        """Bound the Lipschitz constant of all logits together in the features, soft or hard, rounded up."""
        return float(layer_norms(self.linear).max()) * _OUTWARD

    def pair_constants(self, shared: bool = True, largest: float = 1.0) -> Tensor:  # noqa: ARG002 (as MultiHead)
        """Bound how much each difference of two logits moves per unit of the features: ``|w_i - w_j|``, (K, K)."""
        return _row_distances(self.rows())


def _row_distances(rows_KF: Tensor) -> Tensor:
    """Compute the distances between rows in float64, rounded up, without the cancellation of a Gram matrix."""
    exact_KF = to_double(rows_KF.detach())
    return torch.stack([torch.linalg.vector_norm(exact_KF - row_F, dim=1) for row_F in exact_KF]) * _OUTWARD
