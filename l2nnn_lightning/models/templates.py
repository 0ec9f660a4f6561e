"""Templates as a whole classifier: on raw pixels, or behind a trunk that begins as an isometry."""

# ruff: noqa: ARG002 (logits are found anew beside the radius)

from typing import Literal

import torch
from torch import Tensor, nn

from l2nnn_lightning.models.base import ImageShape, Network, SignedRadius
from l2nnn_lightning.models.l2nnn import check_choice
from l2nnn_lightning.nn.activations import MaxMin
from l2nnn_lightning.nn.certificates import Certificate, NothingProved, Rule, confidence_gap, round_down
from l2nnn_lightning.nn.initialization import dirac_
from l2nnn_lightning.nn.norms import chain_norm
from l2nnn_lightning.nn.parametrization import Bound, fold, harden, nonexpansive
from l2nnn_lightning.nn.pooling import PixelUnshuffle
from l2nnn_lightning.nn.templates import Templates

__all__ = ["TemplateNet", "TemplateRule"]

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
        """Prove the distance to the cells of rival templates, once hard."""
        return TemplateRule(self, quick=quick) if self.is_hard else NothingProved()

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


class TemplateRule(Rule):
    """The distance to the cells that rival templates could win, see :mod:`l2nnn_lightning.nn.template_radius`."""

    name = "distance to rival templates' cells"
    is_graph = False

    def __init__(self, network: TemplateNet, *, quick: bool = False) -> None:
        super().__init__()
        self.trunk, self.head, self.has_box, self.quick = fold(network.trunk), network.head, network.has_box, quick
        self.norm = 1.0 if quick or self.has_box else max(chain_norm(network.trunk), _SMALLEST_NORM)

    def forward(self, logits_BK: Tensor, image: Tensor) -> Certificate:
        """Prove radii in the whole space."""
        return self._prove(logits_BK, image, in_box=False)[0]

    def in_box(self, logits_BK: Tensor, image: Tensor) -> tuple[Certificate, Tensor | None]:
        """Prove radii in the whole space, and on raw pixels also in the box."""
        return self._prove(logits_BK, image, in_box=self.has_box)

    def _prove(self, logits_BK: Tensor, image: Tensor, *, in_box: bool) -> tuple[Certificate, Tensor | None]:
        label_B, dtype = logits_BK.argmax(1), logits_BK.dtype
        radius_B, box_B = self.head.certify(self.trunk(image), label_B, box=in_box, quick=self.quick)
        if not self.has_box:
            # The trunk's own rounding, a few ulp of its signals, at the image and at an attacked one.
            ulps = 2 * _ULPS * torch.finfo(image.dtype).eps
            lost_B = ulps * (torch.linalg.vector_norm(image.flatten(1), dim=1).to(radius_B) + radius_B)
            # An image that is not finite compares as false: it proves nothing.
            radius_B = torch.where(radius_B > lost_B, radius_B - lost_B, 0) / self.norm
        radius_B = round_down(radius_B, dtype).to(image.device)
        box_B = None if box_B is None else round_down(box_B, dtype).to(image.device)
        return Certificate(label_B, confidence_gap(logits_BK), radius_B), box_B
