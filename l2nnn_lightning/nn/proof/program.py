"""The program that a certificate is proven for: a folded network in one format, with nothing left to compute first."""

import copy

import torch
from torch import nn

from l2nnn_lightning.nn.blocked import sum_in_blocks
from l2nnn_lightning.nn.patches import read_patches

__all__ = ["exact_copy", "program_of"]


def program_of(folded: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Copy a folded network in a format, with its weights as they are stored, and factors and offsets as numbers.

    Where float32 is all there is, wide dense layers add up in blocks, which keeps what they round small; in
    float64 convolutions read patches.
    """
    program = copy.deepcopy(folded).to(dtype)
    if dtype == torch.float32:
        sum_in_blocks(program)
    elif dtype == torch.float64:
        read_patches(program)
    for module in program.modules():
        freeze = getattr(module, "freeze", None)
        if callable(freeze):
            freeze()
    return program.requires_grad_(False)


def exact_copy(program: nn.Module) -> nn.Module:
    """Copy a program's modules to where they are looked at: in float64, which holds its numbers, on the CPU."""
    return copy.deepcopy(program).cpu().double()
