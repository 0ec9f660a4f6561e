"""The radii that are true of a network in penalty mode, kept apart from those of hard networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from l2nnn_lightning.data import to_float
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.measure.base import Measure
from l2nnn_lightning.evaluation.measure.subject import Subject, device_of, watched
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.evaluation.report.tables import Row, percent, radius_name
from l2nnn_lightning.models.base import certify
from l2nnn_lightning.nn.soft import SoftRule

__all__ = ["SoftCertificate"]


@dataclass(frozen=True)
class SoftCertificate(Measure):
    """``--soft_certificate``: radii by the product of a soft network's exact norms, see :mod:`l2nnn_lightning.nn.soft`.

    They are a column ``radius_soft`` of their own; ``radius`` stays 0, as for every network that is not hard.
    """

    name = "soft_certificate"
    before_attacks = True
    radius = "radius_soft"
    rule: SoftRule

    @classmethod
    def asked(cls, options: EvaluateOptions, subject: Subject) -> Self | None:
        """Build it for ``--soft_certificate``.

        Raises:
            UserError: if the network is hard, or its Lipschitz constant is not a product of norms.
        """
        if not options.soft_certificate:
            return None
        if subject.classifier.is_hard:
            raise UserError(
                f"{options.ckpt_path} is hard, and its own certificate says more: leave out --soft_certificate"
            )
        try:
            return cls(subject.classifier.network.soft_rule().to(device_of(subject.certified)))
        except ValueError as error:
            raise UserError(f"--soft_certificate: {error}") from error

    def whole(self, subject: Subject) -> dict[str, Any]:  # noqa: ARG002 (as Measure)
        """Say what the radii follow from: ``radius_kind``, and the ``product`` in it."""
        return {"radius_kind": self.rule.name, "product": self.rule.product}

    def columns(self, subject: Subject, images: Tensor, index: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Certify some images."""
        device, network = device_of(subject.certified), subject.certified.network
        parts = [
            certify(network, self.rule, to_float(part, device))[0].radius.cpu()
            for part in watched(torch.split(images, subject.batch_size), "soft certificate")
        ]
        return {self.radius: torch.cat(parts)}

    @staticmethod
    def rows(numbers: Mapping[str, Any]) -> list[Row]:
        """Return its rows, each of which says that it is about penalty mode."""
        return [
            ("product of exact norms, penalty mode", f"{numbers['product']:.4g}"),
            (f"mean radius, {numbers['radius_kind']}", f"{numbers['radius_mean']:.3f}"),
            *(
                (f"accuracy proved by that radius, L2 radius {radius_name(r)}, penalty mode", percent(a))
                for r, a in numbers["certified"].items()
            ),
        ]
