"""Whole networks, built from ``nn`` alone; each proves what it can by itself."""

from functools import partial
from typing import Any

from l2nnn_lightning.models.appendix import ResNetL2NNN, RowsRNN
from l2nnn_lightning.models.base import Certified, ImageShape, Network, NetworkFactory, SignedRadius
from l2nnn_lightning.models.conv import ConvL2NNN, SeparateL2NNNs
from l2nnn_lightning.models.l2nnn import L2NNN
from l2nnn_lightning.models.ordinary import MadryNet, PlainResNet, PlainTwin
from l2nnn_lightning.models.parseval import ConvexAggregation, ParsevalNet
from l2nnn_lightning.models.shift import ShiftNet
from l2nnn_lightning.models.templates import TemplateNet

__all__ = ["L2NNN", "NETWORKS", "Certified", "ConvL2NNN", "ConvexAggregation", "ImageShape", "MadryNet", "Network"]
__all__ += ["NetworkFactory", "ParsevalNet", "PlainResNet", "PlainTwin", "ResNetL2NNN", "RowsRNN", "SeparateL2NNNs"]
__all__ += ["ShiftNet", "SignedRadius", "TemplateNet"]

# 22 layers as released: two convolutions, each with two-sided ReLU and norm-pooling (6), flatten (1), four shared
# dense layers and three in each head with two-sided ReLU (14), and the last scalar (1).
_PAPER_MNIST: dict[str, Any] = {"channels": (16, 32), "dense": (256, 128, 128, 128), "head_hidden": (32, 32, 32)}
_TIGHT: dict[str, Any] = {"bound": "operator_columns"}
_CIFAR: dict[str, Any] = {"channels": (48, 96), "depth": 2, "kernel_size": 3, "activation": "maxmin", "mean": 0.5}

NETWORKS: dict[str, NetworkFactory] = {
    "mnist_small": ConvL2NNN,
    "mnist_paper": partial(ConvL2NNN, **_PAPER_MNIST),
    "cifar_paper": SeparateL2NNNs,
    "conv_tight": partial(ConvL2NNN, channels=(16, 32), mean=0.0, **_TIGHT),
    "cifar_tight": partial(ConvL2NNN, pooling="unshuffle", **_CIFAR, **_TIGHT),
    "cifar_resnet": ResNetL2NNN,
    "shift": ShiftNet,
    "rows_rnn": RowsRNN,
    "mlp": partial(ConvL2NNN, channels=(), dense=(256, 256)),
    "parseval_mnist": ParsevalNet,
    "templates": TemplateNet,
    "madry_mnist": MadryNet,
    "mnist_small_plain": PlainTwin,
    "mnist_paper_plain": partial(PlainTwin, **_PAPER_MNIST),
    "cifar_resnet_plain": PlainResNet,
}
