"""The network that is exported, folded, with the certificate beside the logits; written as a torch.export program."""

from pathlib import Path

import torch
from torch import Tensor, nn

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.models.base import Certified

__all__ = ["OUTPUTS", "CertifiedNetwork", "run_program", "write_program"]

OUTPUTS = ("logits", "label", "gap", "radius")


class CertifiedNetwork(nn.Module):
    """A plain network that returns what it answers and what is proved, both from the same logits.

    Args:
        certified: on the CPU.

    Shape:
        (B, C, H, W) in [0, 1] -> logits (B, K), label int64 (B,), gap (B,), radius (B,), 0 where nothing is proved.

    Raises:
        UserError: if the certificate of this network is no formula.
    """

    def __init__(self, certified: Certified) -> None:
        super().__init__()
        if not certified.rule.is_graph:
            raise UserError(
                f"the radius of this network ({certified.rule.name}) is found by a search, which no graph holds: "
                "export with --format safetensors"
            )
        self.network, self.rule = certified.network, certified.rule
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute logits and certificate."""
        logits: Tensor = self.network(image)
        label, gap, radius = self.rule(logits, image)
        return logits, label, gap, radius


def write_program(network: CertifiedNetwork, image: Tensor, path: Path) -> None:
    """Write a network for batches of any size, as a program that PyTorch loads without this package.

    Args:
        network: what to export.
        image: an example, at least two images.
        path: the file.
    """
    batch = torch.export.Dim("batch", min=1)
    torch.export.save(torch.export.export(network, (image,), dynamic_shapes={"image": {0: batch}}), path)


def run_program(path: Path, image: Tensor) -> tuple[Tensor, ...]:
    """Run an exported network."""
    outputs: tuple[Tensor, ...] = torch.export.load(path).module()(image)
    return outputs
