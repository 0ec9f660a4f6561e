"""Templates as a whole classifier: on raw pixels, or behind a trunk that begins as an isometry."""

# ruff: noqa: ARG002 (logits are found anew beside the radius)

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from l2nnn_lightning.models.base import IN_PENALTY_MODE, ImageShape, Network, SignedRadius, shape_of
from l2nnn_lightning.models.l2nnn import check_choice
from l2nnn_lightning.nn.activations import MaxMin
from l2nnn_lightning.nn.certificates import Certificate, NothingProved, Rule, confidence_gap, round_down
from l2nnn_lightning.nn.initialization import dirac_
from l2nnn_lightning.nn.parametrization import Bound, fold, harden, nonexpansive
from l2nnn_lightning.nn.pooling import PixelUnshuffle
from l2nnn_lightning.nn.proof.arithmetic import Arithmetic
from l2nnn_lightning.nn.proof.heads import bound_features
from l2nnn_lightning.nn.proof.program import exact_copy, program_of
from l2nnn_lightning.nn.proof.radius import image_norm
from l2nnn_lightning.nn.proof.signal import UnprovableError, refuse_changes
from l2nnn_lightning.nn.templates import Templates

__all__ = ["Features", "TemplateNet", "TemplateRule"]

Trunk = Literal["identity", "conv"]

_CHUNK = 1000
# A trunk that hardly moves at all may not make a radius infinite.
_SMALLEST_NORM = 1e-6
_ULPS = 8


class TemplateNet(Network):
    """A trunk, nonexpansive or none at all, and templates on its features.

    On raw pixels it is nonexpansive as it is, and its radii hold from the start; with a trunk it begins soft.

    Args:
        templates_per_label: the number of templates of each label.
        nearest: the label is that of the nearest template; otherwise every template has an offset of its own.
        dropout: the chance that a template is not taken for its own label's samples in a step of training.
        trunk: ``identity``: the pixels; ``conv``: 2x2 pixels regrouped into channels, then twice a 3x3 convolution
            with a delta kernel at first, and MaxMin.
        channels: filters of the convolutions of the trunk.
        bound: the bound of their weights.
        hard: begin with hard scaling instead of the penalty.
    """

    can_prove = True
    start_images = None

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        templates_per_label: int = 60,
        nearest: bool = True,
        dropout: float = 0.0,
        trunk: Trunk = "identity",
        channels: int = 8,
        bound: Bound = "operator_columns",
        hard: bool = False,
    ) -> None:
        super().__init__()
        check_choice("trunk", trunk, Trunk)
        inputs, height, width = image_shape
        features = inputs * height * width
        layers: list[nn.Module] = []
        if trunk == "conv":
            if height % 2 or width % 2:
                raise ValueError(f"trunk 'conv' needs images with even sides, got {height}x{width}")
            if channels < 2 or channels % 2:
                raise ValueError(f"channels must be even for MaxMin, got {channels}")
            layers.append(PixelUnshuffle(2))
            for read in (4 * inputs, channels):
                layers += [nonexpansive(nn.Conv2d(read, channels, 3, padding=1), bound), MaxMin()]
            features = channels * (height // 2) * (width // 2)
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.head = Templates(features, num_labels, templates_per_label, nearest, dropout)
        dirac_(self)
        #: Whether the templates see the raw pixels: then certificates hold from the start, and in the image box too.
        self.has_box = trunk == "identity"
        if hard:
            harden(self)

    @property
    def is_hard(self) -> bool:
        """Whether certificates hold: raw pixels have no layer to be hardened."""
        return self.has_box or super().is_hard

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.head(self.trunk(image))
        return logits

    def rule(self, *, quick: bool = False) -> Rule:
        """Prove the distance to the cells of rival templates, once hard.

        Quickly, by the nearest hyperplanes and as if the trunk had norm 1, with an allowance for rounding as it occurs.
        """
        if not self.is_hard:
            return NothingProved(IN_PENALTY_MODE)
        if not quick:
            return self.rule_of(program_of(fold(self).eval(), self.head.weight.dtype))
        usual = 0.0 if self.has_box else _ULPS * torch.finfo(self.head.weight.dtype).eps
        return TemplateRule(fold(self.trunk), self.head, Features(1.0, usual), has_box=self.has_box, quick=True)

    def rule_of(self, program: nn.Module) -> Rule:
        """Prove what this program does, see :class:`TemplateRule`."""
        if not self.is_hard:
            return NothingProved(IN_PENALTY_MODE)
        if type(self).rule is not TemplateNet.rule:
            return self.rule()
        trunk: nn.Sequential = program.trunk  # type: ignore[assignment]
        head: Templates = program.head  # type: ignore[assignment]
        try:
            refuse_changes(program, TemplateNet, "forward")
            refuse_changes(head, Templates, "forward", "scores", "offsets", "certify")
            found = bound_features([exact_copy(trunk)], shape_of(self), Arithmetic.of(head.weight.dtype))
        except UnprovableError as error:
            return NothingProved(str(error))
        norm = max(float(found.lipschitz), _SMALLEST_NORM)
        features = Features(norm, *(float(part) for part in (*found.error, *found.peak)))
        return TemplateRule(trunk, head, features, has_box=self.has_box)

    def signed_radius(
        self, image: Tensor, label_B: Tensor, logits_BK: Tensor | None = None, *, in_box: bool = False
    ) -> SignedRadius:
        """Measure the radius, see :meth:`Templates.signed_radius`."""
        if in_box and not self.has_box:
            raise ValueError("radii inside the image box need templates on raw pixels: trunk: identity")
        return self.head.signed_radius(self.trunk(image), label_B, box=in_box)

    @torch.no_grad()
    def start(self, images: Tensor, labels: Tensor, seed: int) -> None:
        """Put the templates at the k-means centres of each label's features."""
        generator = torch.Generator().manual_seed(seed)
        for label in range(len(self.head.weight)):
            chosen = images[labels == label]
            features = [self.trunk(part.to(self.head.weight.device)) for part in torch.split(chosen, _CHUNK)]
            if len(chosen):
                self.head.place(label, torch.cat(features), generator)


class Features(NamedTuple):
    """What is known of the features: how far they move per unit of the image x, and how far off they are computed.

    The error is at most ``slope |x| + offset``; no number exceeds ``peak |x| + peak_offset`` times the largest one.
    """

    norm: float
    slope: float = 0.0
    offset: float = 0.0
    peak: float = 1e-30
    peak_offset: float = 0.0


class TemplateRule(Rule):
    """The distance to the cells that rival templates could win, see :mod:`l2nnn_lightning.nn.template_radius`.

    Args:
        trunk: the program's, from images to features.
        head: the program's templates.
        features: what is known of the features.
        has_box: whether they are the images' own pixels.
        quick: whether the nearest hyperplanes will do.
    """

    name = "distance to rival templates' cells"
    is_graph = False

    def __init__(
        self, trunk: nn.Sequential, head: Templates, features: Features, *, has_box: bool, quick: bool = False
    ) -> None:
        super().__init__()
        self.trunk, self.head, self.features, self.has_box, self.quick = trunk, head, features, has_box, quick

    def forward(self, logits_BK: Tensor, image: Tensor) -> Certificate:
        """Prove radii in the whole space."""
        return self._prove(logits_BK, image, in_box=False)[0]

    def in_box(self, logits_BK: Tensor, image: Tensor) -> tuple[Certificate, Tensor | None]:
        """Prove radii in the whole space, and on raw pixels also in the box."""
        return self._prove(logits_BK, image, in_box=self.has_box)

    def _prove(self, logits_BK: Tensor, image: Tensor, *, in_box: bool) -> tuple[Certificate, Tensor | None]:
        """Prove that the features which the program computes stay in the label's cell.

        At an image x' at distance r they are within ``L r + d(|x|) + d(|x| + r)`` of those of x, where ``d`` bounds
        their rounding; and the cell holds whatever is within R of these.
        """
        label_B, dtype = logits_BK.argmax(1), logits_BK.dtype
        cell_B, box_B = self.head.certify(
            self.trunk(image.to(self.head.weight.dtype)), label_B, box=in_box, quick=self.quick
        )
        norm_B = image_norm(image).to(cell_B)
        known = self.features
        lost_B = 2 * (known.slope * norm_B + known.offset) * (1 + 1e-14)
        most_B = (1 - known.peak_offset) / known.peak * (1 - 1e-14) - norm_B
        # What is not finite compares as false: it proves nothing.
        proved_B = logits_BK.isfinite().all(1).to(cell_B.device) & (most_B > 0)

        def within(radius_B: Tensor) -> Tensor:
            moved_B = (radius_B - lost_B).clamp_min(0) / (known.norm + known.slope) * (1 - 1e-14)
            proven_B = torch.where(proved_B & (moved_B >= 0), torch.minimum(moved_B, most_B), 0)
            return round_down(proven_B, dtype).to(image.device)

        certificate = Certificate(label_B, confidence_gap(logits_BK), within(cell_B))
        return certificate, None if box_B is None else within(box_B)
