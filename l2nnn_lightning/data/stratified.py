"""Choose the same share of every label."""

import torch
from torch import Tensor

__all__ = ["stratified_mask"]


def stratified_mask(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Choose a random ``round(fraction * N_c)`` of the ``N_c`` samples of each label, as a mask (N,).

    Example:
        >>> stratified_mask(torch.tensor([0, 0, 1, 1]), 0.5, seed=0).sum()
        tensor(2)
    """
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator)
        mask[members[order[: round(fraction * len(members))]]] = True
    return mask
