"""Nonexpansive pieces in pure PyTorch, one idea of the paper a file."""

from l2nnn_lightning.nn.activations import ScaledSigmoid, TwoSided, TwoSidedReLU
from l2nnn_lightning.nn.bounds import weight_bound, weight_penalty
from l2nnn_lightning.nn.nonexpansive import (
    LabelwiseLinear,
    fold,
    harden,
    is_hard,
    largest_bound,
    nonexpansive,
    penalty,
    soften,
)
from l2nnn_lightning.nn.pooling import NormPool2d

__all__ = [
    "LabelwiseLinear",
    "NormPool2d",
    "ScaledSigmoid",
    "TwoSided",
    "TwoSidedReLU",
    "fold",
    "harden",
    "is_hard",
    "largest_bound",
    "nonexpansive",
    "penalty",
    "soften",
    "weight_bound",
    "weight_penalty",
]
