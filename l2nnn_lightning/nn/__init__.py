"""Nonexpansive pieces in pure PyTorch, one idea of the paper a file."""

from l2nnn_lightning.nn.activations import MaxMin, ScaledSigmoid, TwoSided, TwoSidedReLU
from l2nnn_lightning.nn.bounds import weight_bound, weight_penalty
from l2nnn_lightning.nn.labelwise import LabelwiseLinear
from l2nnn_lightning.nn.normalization import BoundedScaling, SubtractBatchMean, SubtractMean, SubtractSampleMean
from l2nnn_lightning.nn.norms import chain_norm, tight_norm
from l2nnn_lightning.nn.parametrization import (
    fold,
    harden,
    is_hard,
    largest_bound,
    nonexpansive,
    penalty,
    soften,
)
from l2nnn_lightning.nn.pooling import NormPool2d
from l2nnn_lightning.nn.recurrent import Recurrent
from l2nnn_lightning.nn.residual import Residual

__all__ = ["BoundedScaling", "LabelwiseLinear", "MaxMin", "NormPool2d", "Recurrent", "Residual", "ScaledSigmoid"]
__all__ += ["SubtractBatchMean", "SubtractMean", "SubtractSampleMean", "TwoSided", "TwoSidedReLU", "chain_norm", "fold"]
__all__ += ["harden", "is_hard", "largest_bound", "nonexpansive", "penalty", "soften", "tight_norm", "weight_bound"]
__all__ += ["weight_penalty"]
