"""torch.export: a program that PyTorch loads without this package."""

from pathlib import Path

import torch
from torch import Tensor

from l2nnn_lightning.evaluation.export.graph import CertifiedNetwork

__all__ = ["run_program", "write_program"]


def write_program(network: CertifiedNetwork, image: Tensor, path: Path) -> None:
    """Write a network for batches of any size.

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
