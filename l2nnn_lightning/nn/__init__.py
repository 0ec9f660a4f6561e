"""Nonexpansive pieces in pure PyTorch, one idea of the paper a file."""

from l2nnn_lightning.nn.activations import MaxMin, ScaledSigmoid, TwoSided, TwoSidedReLU
from l2nnn_lightning.nn.bounds import weight_bound, weight_penalty
from l2nnn_lightning.nn.labelwise import LabelwiseLinear
from l2nnn_lightning.nn.nonlinearities import UnitSlope
from l2nnn_lightning.nn.normalization import (
    BatchScaling,
    BoundedScaling,
    SubtractBatchMean,
    SubtractMean,
    SubtractSampleMean,
    SubtractSubsetMeans,
)
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
from l2nnn_lightning.nn.pooling import LpPool2d, NormPool2d
from l2nnn_lightning.nn.recurrent import Recurrent
from l2nnn_lightning.nn.residual import Residual

__all__ = ["BatchScaling", "BoundedScaling", "LabelwiseLinear", "LpPool2d", "MaxMin", "NormPool2d", "Recurrent"]
__all__ += ["Residual", "ScaledSigmoid", "SubtractBatchMean", "SubtractMean", "SubtractSampleMean"]
__all__ += ["SubtractSubsetMeans", "TwoSided", "TwoSidedReLU", "UnitSlope", "chain_norm", "fold", "harden", "is_hard"]
__all__ += ["largest_bound", "nonexpansive", "penalty", "soften", "tight_norm", "weight_bound", "weight_penalty"]
