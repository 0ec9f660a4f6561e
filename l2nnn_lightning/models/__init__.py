"""Whole networks by name, built from ``nn`` alone."""

from l2nnn_lightning.models.cifar import separate_l2nnns
from l2nnn_lightning.models.l2nnn import L2NNN
from l2nnn_lightning.models.mnist import conv_l2nnn
from l2nnn_lightning.models.ordinary import madry_mnist, plain_twin
from l2nnn_lightning.models.parseval import ConvexAggregation, parseval_mnist, parseval_retraction_
from l2nnn_lightning.models.recurrent import rows_rnn
from l2nnn_lightning.models.registry import L2NNNS, ORDINARY, build_network
from l2nnn_lightning.models.resnet import resnet_l2nnn
from l2nnn_lightning.models.templates import TemplateNet, template_net
from l2nnn_lightning.models.tight import cifar_tight, conv_tight

__all__ = [
    "L2NNN",
    "L2NNNS",
    "ORDINARY",
    "ConvexAggregation",
    "TemplateNet",
    "build_network",
    "cifar_tight",
    "conv_l2nnn",
    "conv_tight",
    "madry_mnist",
    "parseval_mnist",
    "parseval_retraction_",
    "plain_twin",
    "resnet_l2nnn",
    "rows_rnn",
    "separate_l2nnns",
    "template_net",
]
