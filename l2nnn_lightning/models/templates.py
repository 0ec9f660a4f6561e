"""Templates as a whole classifier: on raw pixels, or behind a trunk that begins as an isometry."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.activations import MaxMin
from l2nnn_lightning.nn.initialization import dirac_
from l2nnn_lightning.nn.norms import chain_norm
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.pooling import PixelUnshuffle
from l2nnn_lightning.nn.template_radius import TemplateRadius
from l2nnn_lightning.nn.templates import SignedRadius, Templates

__all__ = ["TemplateNet", "template_net"]

_CHUNK = 1000
# A trunk that hardly moves at all may not make a radius infinite.
_SMALLEST_NORM = 1e-6
_ULPS = 8


class TemplateNet(nn.Module):
    """A trunk, nonexpansive or none at all, and templates on its features.

    Args:
        trunk: images (B, C, H, W) to features (B, F); a lone ``nn.Flatten`` leaves the pixels as they are.
        head: the templates.

    Shape:
        (B, C, H, W) in [0, 1] -> (B, K).
    """

    def __init__(self, trunk: nn.Sequential, head: Templates) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    @property
    def sees_pixels(self) -> bool:
        """Whether the templates see the raw pixels: then certificates hold from the start, and in the image box too."""
        return all(isinstance(module, nn.Flatten) for module in self.trunk)

    def chain(self) -> Iterator[nn.Module]:
        """Iterate over the layers in the order in which a signal passes them."""
        yield from self.trunk
        yield self.head

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.head(self.trunk(image))
        return logits

    @torch.no_grad()
    def place(self, images: Tensor, label_N: Tensor, seed: int) -> None:
        """Put the templates at the k-means centres of each label's features; equal seeds give equal templates.

        Args:
            images: training images, uint8 (N, C, H, W).
            label_N: their labels.
            seed: of the draws.
        """
        generator = torch.Generator().manual_seed(seed)
        device = self.head.weight.device
        for label in range(len(self.head.weight)):
            chosen = images[label_N == label]
            features = [self.trunk(part.to(device).float() / 255) for part in torch.split(chosen, _CHUNK)]
            if len(chosen):
                self.head.place(label, torch.cat(features), generator)

    def certify(self, image: Tensor, label_B: Tensor, *, box: bool = False, quick: bool = False) -> TemplateRadius:
        """Prove radii around the images; the trunk must be hard.

        Args:
            image: (B, C, H, W).
            label_B: the predicted labels.
            box: whether the radius inside [0, 1] is wanted too; there is none behind a trunk.
            quick: whether the simplest bound will do.
        """
        radius_B, box_B = self.head.certify(self.trunk(image), label_B, box=box and self.sees_pixels, quick=quick)
        if self.sees_pixels:
            return TemplateRadius(radius_B, box_B)
        # The trunk's own rounding, a few ulp of its signals, at the image and at an attacked one.
        ulps = 2 * _ULPS * torch.finfo(image.dtype).eps
        lost_B = ulps * (torch.linalg.vector_norm(image.flatten(1), dim=1).to(radius_B) + radius_B)
        norm = max(chain_norm(self.trunk), _SMALLEST_NORM)
        return TemplateRadius((radius_B - lost_B).clamp_min(0) / norm, None)

    def signed_radius(self, image: Tensor, label_B: Tensor, *, box: bool = False) -> SignedRadius:
        """Measure the radius of the true labels for training, and the logits, see :meth:`Templates.signed_radius`."""
        return self.head.signed_radius(self.trunk(image), label_B, box=box and self.sees_pixels)


def template_net(
    image_shape: tuple[int, int, int],
    num_labels: int,
    *,
    templates_per_label: int = 60,
    nearest: bool = True,
    dropout: float = 0.0,
    trunk: Literal["identity", "conv"] = "identity",
    channels: int = 8,
    bound: Bound = "operator_columns",
) -> TemplateNet:
    """Build templates on raw pixels, or behind two convolutions that begin as the identity.

    Args:
        image_shape: (channels, height, width) of the images.
        num_labels: the number K of labels.
        templates_per_label: the number of templates of each label.
        nearest: the label is that of the nearest template; otherwise every template has an offset of its own.
        dropout: the chance that a template is not taken for its own label's samples in a step of training.
        trunk: ``"identity"``: the pixels; ``"conv"``: 2x2 pixels regrouped into channels, then twice a 3x3 convolution
            with a delta kernel at first, and MaxMin.
        channels: filters of the convolutions of the trunk.
        bound: the bound of their weights.

    Returns:
        The network. On raw pixels it is nonexpansive as it is; with a trunk it is soft.

    Raises:
        ValueError: if an option is out of range or the image's sides are odd where they are regrouped.
    """
    inputs, height, width = image_shape
    if trunk == "identity":
        return TemplateNet(
            nn.Sequential(nn.Flatten()),
            Templates(inputs * height * width, num_labels, templates_per_label, nearest, dropout),
        )
    if trunk != "conv":
        raise ValueError(f"trunk must be 'identity' or 'conv', got {trunk!r}")
    if height % 2 or width % 2:
        raise ValueError(f"trunk 'conv' needs images with even sides, got {height}x{width}")
    if channels < 2 or channels % 2:
        raise ValueError(f"channels must be even for MaxMin, got {channels}")
    layers: list[nn.Module] = [PixelUnshuffle(2)]
    for features in (4 * inputs, channels):
        layers += [nonexpansive(nn.Conv2d(features, channels, 3, padding=1), bound), MaxMin()]
    network = TemplateNet(
        nn.Sequential(*layers, nn.Flatten()),
        Templates(channels * (height // 2) * (width // 2), num_labels, templates_per_label, nearest, dropout),
    )
    dirac_(network)
    return network
