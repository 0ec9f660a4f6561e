"""Whole networks, built from ``nn`` alone; each proves what it can by itself."""

from l2nnn_lightning.models.base import Certified, ImageShape, Network, NetworkFactory, SignedRadius
from l2nnn_lightning.models.cifar import SeparateL2NNNs
from l2nnn_lightning.models.conv import ConvL2NNN
from l2nnn_lightning.models.l2nnn import L2NNN
from l2nnn_lightning.models.ordinary import MadryNet, PlainTwin
from l2nnn_lightning.models.ordinary_resnet import PlainResNet
from l2nnn_lightning.models.parseval import ConvexAggregation, ParsevalNet, parseval_retraction_
from l2nnn_lightning.models.recurrent import RowsRNN
from l2nnn_lightning.models.registry import NETWORKS
from l2nnn_lightning.models.resnet import ResNetL2NNN
from l2nnn_lightning.models.templates import TemplateNet

__all__ = [
    "L2NNN",
    "NETWORKS",
    "Certified",
    "ConvL2NNN",
    "ConvexAggregation",
    "ImageShape",
    "MadryNet",
    "Network",
    "NetworkFactory",
    "ParsevalNet",
    "PlainResNet",
    "PlainTwin",
    "ResNetL2NNN",
    "RowsRNN",
    "SeparateL2NNNs",
    "SignedRadius",
    "TemplateNet",
    "parseval_retraction_",
]
