"""A nonexpansive trunk and a head that turns its features into logits; and what trunks are built of, by name."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from l2nnn_lightning.models.base import IN_PENALTY_MODE, Network, shape_of
from l2nnn_lightning.nn.activations import MaxMin, ScaledSigmoid, TwoSided, TwoSidedReLU
from l2nnn_lightning.nn.certificates import GapRule, NothingProved, PairRule, Rule, SignedRadius
from l2nnn_lightning.nn.continuity import keep_biases_in_scale
from l2nnn_lightning.nn.heads import MultiHead, SingleHead
from l2nnn_lightning.nn.initialization import orthogonal_, principal_
from l2nnn_lightning.nn.labelwise import RepeatPerLabel
from l2nnn_lightning.nn.nonlinearities import NONLINEARITIES, UnitSlope
from l2nnn_lightning.nn.parametrization import Bound, fold, harden, nonexpansive, plain_class
from l2nnn_lightning.nn.proof.arithmetic import Arithmetic
from l2nnn_lightning.nn.proof.heads import PairBounds, bound_features, bound_pairs
from l2nnn_lightning.nn.proof.program import exact_copy, program_of
from l2nnn_lightning.nn.proof.signal import UnprovableError, is_known, name_of, refuse_changes
from l2nnn_lightning.nn.soft import SoftRule, lipschitz_product

__all__ = ["L2NNN", "Activation", "CertificateKind", "Initialization", "activation_of", "check_choice", "check_kernel"]
__all__ += ["dense_layers"]

CertificateKind = Literal["paper", "pairwise"]
Initialization = Literal["principal", "orthogonal"]
#: ``two_sided_NAME`` is ``(f(x), f(x) - x)`` (Lemma 4); ``sigmoid`` is (8), with one height per neuron; the others are
#: divided by their largest slope (A.2). All but ``maxmin`` act entry by entry and are 0 at 0.
Activation = Literal[
    "two_sided_relu",
    "maxmin",
    "relu",
    "sigmoid",
    "two_sided_sigmoid",
    "tanh",
    "two_sided_tanh",
    "elu",
    "two_sided_elu",
    "softplus",
    "two_sided_softplus",
    "softsign",
    "two_sided_softsign",
    "atan",
    "two_sided_atan",
    "gelu",
    "silu",
]

_TINY = 1e-6


class L2NNN(Network):
    """A trunk whose features are nonexpansive in the image, and a head that turns them into logits.

    Args:
        trunk: images (B, C, H, W) to features (B, F), or (B, K, F) with a trunk per label.
        head: features to logits.
        certificate: how a radius follows from the logits: ``paper``: gap / 2 for K overlapping L2NNNs, gap / sqrt(2)
            for a single one; ``pairwise``: the minimum over the other labels of ``(y_i - y_j) / c_ij`` with c_ij the
            norm of the difference of two rows (or the sum of two stacks' norms) times the exact norm of the trunk.
        hard: begin with hard scaling instead of the penalty.
        init: the initial weights: orthonormal rows, at random or along the principal directions of training images.
    """

    can_prove = True
    #: Enough for the directions of a dense layer of 512 outputs, few enough for a second's work.
    start_images = 600

    def __init__(
        self,
        trunk: nn.Sequential,
        head: MultiHead | SingleHead,
        certificate: CertificateKind = "paper",
        hard: bool = False,
        init: Initialization = "principal",
    ) -> None:
        super().__init__()
        check_choice("certificate", certificate, CertificateKind)
        check_choice("init", init, Initialization)
        self.trunk, self.head, self.certificate, self.init = trunk, head, certificate, init
        self.layout = _ChannelsLast() if any(isinstance(layer, nn.Conv2d) for layer in trunk.modules()) else None
        orthogonal_(self)
        if hard:
            harden(self)
        # Launchers of several processes seed anew before training, where the directions are rotated at random.
        self._random_state = torch.get_rng_state()

    @property
    def shares_trunk(self) -> bool:
        """Whether all labels see the same features."""
        return not any(isinstance(module, RepeatPerLabel) for module in self.trunk)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.head(self.trunk(image if self.layout is None else self.layout(image)))
        return logits

    def rule(self, *, quick: bool = False) -> Rule:
        """Prove by the configured certificate, once hard, what the network does in the format of its weights.

        Quickly, as if its layers had norm 1, with an allowance for rounding as it usually occurs.
        """
        if not quick:
            return self.rule_of(program_of(fold(self).eval(), next(self.parameters()).dtype))
        if not self.is_hard:
            return NothingProved(IN_PENALTY_MODE)
        unknown = next((module for module in self.chain() if not is_known(plain_class(module))), None)
        if unknown is not None:
            return NothingProved(f"nothing is known of how {name_of(unknown)} rounds, or of how far it moves its input")
        if self.certificate == "paper":
            return GapRule(self.head.gap_lipschitz)
        return PairRule(self.head.pair_constants(self.shares_trunk))

    def rule_of(self, program: nn.Module) -> Rule:
        """Prove what a program of this network does, with all that it rounds."""
        if not self.is_hard:
            return NothingProved(IN_PENALTY_MODE)
        if type(self).rule is not L2NNN.rule:
            return self.rule()
        try:
            bounds = self.bounds_of(program)
        except UnprovableError as error:
            return NothingProved(str(error))
        if self.certificate == "paper":
            return GapRule(self.head.gap_lipschitz, bounds)
        return PairRule(bounds.constant, bounds)

    def bounds_of(self, program: nn.Module) -> PairBounds:
        """Bound how far each difference of two logits moves in a program of this network, and how far it is off.

        Raises:
            UnprovableError: if nothing is known of a part of it.
        """
        refuse_changes(program, L2NNN, "forward", "chain")
        exact = exact_copy(program)
        arithmetic, shape = Arithmetic.of(next(program.parameters()).dtype), shape_of(self)
        if exact.layout is not None:
            refuse_changes(exact.layout, _ChannelsLast, "forward")  # type: ignore[arg-type]
        features = bound_features([exact.trunk], shape, arithmetic)  # type: ignore[list-item]
        return bound_pairs(features, exact.head, shape, arithmetic)  # type: ignore[arg-type]

    def soft_rule(self) -> SoftRule:
        """Prove by the configured certificate, with the exact norms of the layers as they are, see :mod:`.nn.soft`."""
        if self.is_hard:
            raise ValueError("the network is hard, and its own certificate says more")
        frozen = copy.deepcopy(self).eval()
        trunk, head = lipschitz_product(frozen.trunk), frozen.head
        product = trunk * head.norm()
        if self.certificate == "pairwise" and math.isfinite(product):
            constants = trunk * head.pair_constants(self.shares_trunk, math.inf)
            return SoftRule("pairwise by products of exact norms", frozen.chain(), constants, product)
        divisor = "2" if head.gap_lipschitz == 2 else "sqrt(2)"
        constant = torch.tensor(head.gap_lipschitz * product, dtype=torch.float64)
        return SoftRule(f"gap/({divisor} x product of exact norms)", frozen.chain(), constant, product)

    def signed_radius(
        self, image: Tensor, label_B: Tensor, logits_BK: Tensor | None = None, *, in_box: bool = False
    ) -> SignedRadius:
        """Divide the leads over the other labels by the certificate's constants, differentiable also through rows."""
        if in_box:
            raise ValueError("radii inside the image box need templates on raw pixels")
        logits_BK = self(image) if logits_BK is None else logits_BK
        lead_BK = logits_BK.gather(1, label_B[:, None]) - logits_BK
        rows_KF = self.head.rows() if self.certificate == "pairwise" and self.shares_trunk else None
        if rows_KF is None:
            lead_BK = lead_BK / self.head.gap_lipschitz
        else:
            own_BF = rows_KF[label_B]
            apart_BK = torch.stack([torch.linalg.vector_norm(own_BF - row_F, dim=1) for row_F in rows_KF], dim=1)
            # The label's own distance is 0, and its derivative is not a number.
            own_BK = torch.zeros_like(lead_BK, dtype=torch.bool).scatter(1, label_B[:, None], True)
            lead_BK = lead_BK / torch.where(own_BK, 1, apart_BK).clamp_min(_TINY)
        return SignedRadius(lead_BK.scatter(1, label_B[:, None], torch.inf).amin(1), logits_BK)

    def start(self, images: Tensor, labels: Tensor, seed: int) -> None:  # noqa: ARG002 (the network's own draws)
        """Point the rows along the principal directions of the first images, if asked to."""
        if self.init == "principal":
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(self._random_state)
                principal_(self, images)

    def harden(self) -> Tensor | None:
        """Make every layer hard; a positively homogeneous chain stays what it was, up to a factor per logit."""
        divisor = keep_biases_in_scale(self.chain())
        harden(self)
        return divisor

    def chain(self) -> Iterator[nn.Module]:
        """Iterate over the layers in the order in which a signal passes them."""
        yield from self.trunk
        yield from self.head.layers()


class _ChannelsLast(nn.Module):
    """Lay images out with their channels last: maps then pool a good deal faster on a CPU. Gradients are as before."""

    def forward(self, image: Tensor) -> Tensor:
        if image.device.type != "cpu":
            return image
        # A clone, because an image of one channel counts as either layout and would be left as it is.
        laid_out = image.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)
        if laid_out.requires_grad:
            # Attacks of other libraries view gradients as vectors.
            laid_out.register_hook(torch.Tensor.contiguous)  # type: ignore[no-untyped-call]
        return laid_out


def activation_of(name: Activation, widths: Iterable[int] = (), dim: int = 1) -> tuple[Callable[..., nn.Module], int]:
    """Look up what builds an activation for ``widths`` channels, in dimension ``dim``, and by what it multiplies them.

    What builds it takes the shape of one sample's input, for a parameter per neuron; without, all neurons share one.
    One-sided ones lose the gradient where they are flat (table 3: ReLU).
    """
    check_choice("activation", name, Activation)
    if min(widths := tuple(widths), default=1) < 1:
        raise ValueError(f"widths must be at least 1, got {min(widths)}")
    odd = next((width for width in widths if width % 2), None)
    if name == "maxmin" and odd is not None:
        raise ValueError(f"maxmin sorts pairs of channels: widths must be even, got {odd}")
    scalar = name.removeprefix("two_sided_")

    def build(shape: Sequence[int] = (1,)) -> nn.Module:
        if name == "maxmin":
            return MaxMin(dim)
        if name == "two_sided_relu":
            return TwoSidedReLU(dim)
        if name == "relu":
            return nn.ReLU()
        f = ScaledSigmoid(shape, centred=True) if scalar == "sigmoid" else UnitSlope(*NONLINEARITIES[scalar])
        return f if scalar == name else TwoSided(f, dim)

    return build, 1 if scalar == name else 2


def dense_layers(
    features: int, widths: Iterable[int], build: Callable[..., nn.Module], widening: int, bound: Bound
) -> tuple[list[nn.Module], int]:
    """Stack dense layers, each followed by an activation; also say how many features result."""
    layers: list[nn.Module] = []
    for outputs in widths:
        layers += [nonexpansive(nn.Linear(features, outputs), bound), build((outputs,))]
        features = outputs * widening
    return layers, features


def check_choice(option: str, value: str, choices: Any) -> None:
    """Refuse, by a ValueError that names them, a value that is none of a Literal's choices."""
    if value not in get_args(choices):
        raise ValueError(f"{option} must be one of {', '.join(get_args(choices))}, got {value!r}")


def check_kernel(kernel_size: int, image_shape: Sequence[int], poolings: int) -> None:
    """Refuse, by a ValueError, an even kernel, and images that are too small to be halved so often."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}")
    _, height, width = image_shape
    if min(height, width) >> poolings == 0:
        raise ValueError(f"images of {height}x{width} are too small for {poolings} poolings")
