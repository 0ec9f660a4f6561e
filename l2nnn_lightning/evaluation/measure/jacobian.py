"""The norm of the Jacobian at an image: how steep the network is there (section 3.1).

A slope at one point, no Lipschitz constant of a ball around it, which is the largest norm over all the ball.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from l2nnn_lightning.attacks.base import undisturbed
from l2nnn_lightning.data import to_float
from l2nnn_lightning.evaluation.measure.base import Measure
from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.measure.subject import Subject, device_of, watched
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.evaluation.report.tables import Row

__all__ = ["Jacobian", "jacobian_norms"]


@dataclass(frozen=True)
class Jacobian(Measure):
    """``--jacobian COUNT``: the norm at the first images of the data set; the column is nan at the others."""

    name = "jacobian"
    before_attacks = True
    count: int

    @classmethod
    def asked(cls, options: EvaluateOptions, subject: Subject) -> Self | None:  # noqa: ARG003
        """Build it for ``--jacobian``."""
        return None if options.jacobian is None else cls(options.jacobian)

    def columns(self, subject: Subject, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Measure the images that are asked for."""
        norms = torch.full((len(images),), torch.nan)
        asked = torch.arange(len(images))[index < self.count]
        for rows in watched(torch.split(asked, subject.batch_size), "Jacobian"):
            image = to_float(images[rows], device_of(subject.certified))
            norms[rows] = jacobian_norms(subject.certified.network, image)
        return {"jacobian": norms}

    @classmethod
    def summary(cls, records: Records) -> Mapping[str, Any] | None:
        """Average over the ``n`` images at which it was measured."""
        column = records.get("jacobian")
        if column is None:
            return None
        measured = column[~np.isnan(column)]
        return {"mean_norm": float(measured.mean(dtype=np.float64)), "n": len(measured)}

    @staticmethod
    def rows(numbers: Mapping[str, Any]) -> list[Row]:
        """Return its row."""
        return [(f"mean norm of the Jacobian, {numbers['n']} images", f"{numbers['mean_norm']:.3f}")]


def jacobian_norms(network: nn.Module, images: Tensor) -> Tensor:
    """Compute the L2 norm, the largest singular value, of the Jacobian of the logits at every image, exactly.

    It is at most 1 for one jointly nonexpansive network, and at most sqrt(K) for K overlapping ones: each logit is
    nonexpansive, but they may all move at once. The network, from images (B, ...) to logits (B, K), is used in
    evaluation mode and left untouched; K gradients are held at once.

    Returns:
        The norms, (B,), float32, on the CPU.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
        >>> _ = network[1].weight.data.copy_(torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]))
        >>> jacobian_norms(network, torch.rand(2, 3))
        tensor([4., 4.])
    """
    with undisturbed(network):
        image = images.detach().clone().requires_grad_()
        logits = network(image)
        rows = [
            torch.autograd.grad(logit.sum(), image, retain_graph=k + 1 < logits.shape[1])[0].flatten(1)
            for k, logit in enumerate(logits.unbind(1))
        ]
        jacobian_BKD = torch.stack(rows, 1)
        exact = torch.float32 if image.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        gram_BKK = (jacobian_BKD.to(exact) @ jacobian_BKD.to(exact).mT).cpu()
        squares_B: Tensor = torch.linalg.eigvalsh(gram_BKK)[:, -1]
        return squares_B.clamp_min(0).sqrt().float()
