"""Whether an exported network says what its classifier says."""

from collections.abc import Callable

import torch
from torch import Tensor

from l2nnn_lightning.models.base import Certified, ImageShape

__all__ = ["ParityError", "check_parity", "random_images"]

_LOGITS_TOLERANCE, _RADIUS_TOLERANCE = 1e-5, 1e-6


class ParityError(RuntimeError):
    """An exported network differs from its classifier: the export is wrong and has been removed."""


def random_images(shape: ImageShape, count: int, seed: int) -> Tensor:
    """Draw images in [0, 1]: half of them noise, half of them smooth."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count - count // 2, channels, height, width, generator=generator)
    coarse = torch.rand(count // 2, channels, 4, 4, generator=generator)
    return torch.cat([noise, torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")])


@torch.no_grad()
def check_parity(
    certified: Certified, shape: ImageShape, run: Callable[[Tensor], tuple[Tensor, ...]]
) -> dict[str, float]:
    """Compare an exported network with its classifier on random images, in batches of one and of many.

    Logits beyond 1 in size are compared relatively: float32 has no more digits.

    Args:
        certified: on the CPU.
        shape: of its images.
        run: the exported network: images to logits, label, gap, radius.

    Returns:
        The number of images and the largest differences, for the card.

    Raises:
        ParityError: if logits differ by more than 1e-5, gaps or radii by more than 1e-6, or a label whose gap is
            larger than that.
    """
    counts = (1, 64)
    largest = {"logits": 0.0, "gap_and_radius": 0.0}
    for seed, count in enumerate(counts):
        image = random_images(shape, count, seed)
        expected, certificate = certified.network(image), certified(image)
        logits, label, gap, radius = run(image)
        scale = max(1.0, float(expected.abs().max()))
        difference = float((logits - expected).abs().max()) / scale
        gap_difference = float(torch.cat([gap - certificate.gap, radius - certificate.radius]).abs().max()) / scale
        # The negation also refuses what is not a number.
        if not (difference <= _LOGITS_TOLERANCE and gap_difference <= _RADIUS_TOLERANCE):
            raise ParityError(
                f"the exported network differs from the checkpoint: logits by {difference:.2g} "
                f"(at most {_LOGITS_TOLERANCE:g}), gap or radius by {gap_difference:.2g} "
                f"(at most {_RADIUS_TOLERANCE:g})"
            )
        if bool(((label != certificate.label) & (certificate.gap > _LOGITS_TOLERANCE * scale)).any()):
            raise ParityError("the exported network gives other labels than the checkpoint")
        largest["logits"] = max(largest["logits"], difference)
        largest["gap_and_radius"] = max(largest["gap_and_radius"], gap_difference)
    return {"images": sum(counts), **largest}
