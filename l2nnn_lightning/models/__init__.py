"""Whole networks by name, built from ``nn`` alone."""

from l2nnn_lightning.models.cifar import separate_l2nnns
from l2nnn_lightning.models.l2nnn import L2NNN
from l2nnn_lightning.models.mnist import conv_l2nnn
from l2nnn_lightning.models.ordinary import madry_mnist, plain_twin
from l2nnn_lightning.models.registry import L2NNNS, ORDINARY, build_network

__all__ = [
    "L2NNN",
    "L2NNNS",
    "ORDINARY",
    "build_network",
    "conv_l2nnn",
    "madry_mnist",
    "plain_twin",
    "separate_l2nnns",
]
