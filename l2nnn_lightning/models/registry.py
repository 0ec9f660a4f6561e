"""Networks by name, for configs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from l2nnn_lightning.models.cifar import separate_l2nnns
from l2nnn_lightning.models.mnist import conv_l2nnn
from l2nnn_lightning.models.ordinary import madry_mnist, plain_twin
from l2nnn_lightning.models.ordinary_resnet import plain_resnet
from l2nnn_lightning.models.parseval import parseval_mnist
from l2nnn_lightning.models.recurrent import rows_rnn
from l2nnn_lightning.models.resnet import resnet_l2nnn
from l2nnn_lightning.models.templates import template_net
from l2nnn_lightning.models.tight import cifar_tight, conv_tight

__all__ = ["L2NNNS", "ORDINARY", "build_network"]

# 22 layers as released: two convolutions, each with two-sided ReLU and norm-pooling (6), flatten (1), four shared
# dense layers and three in each head with two-sided ReLU (14), and the last scalar (1).
_PAPER_MNIST: dict[str, Any] = {"channels": (16, 32), "dense": (256, 128, 128, 128), "head_hidden": (32, 32, 32)}

L2NNNS: dict[str, Callable[..., nn.Module]] = {
    "mnist_small": conv_l2nnn,
    "mnist_paper": partial(conv_l2nnn, **_PAPER_MNIST),
    "cifar_paper": separate_l2nnns,
    "conv_tight": conv_tight,
    "cifar_tight": cifar_tight,
    "cifar_resnet": resnet_l2nnn,
    "rows_rnn": rows_rnn,
    "mlp": partial(conv_l2nnn, channels=(), dense=(256, 256)),
    "parseval_mnist": parseval_mnist,
    "templates": template_net,
}
ORDINARY: dict[str, Callable[..., nn.Module]] = {
    "madry_mnist": madry_mnist,
    "mnist_small_plain": plain_twin,
    "mnist_paper_plain": partial(plain_twin, **_PAPER_MNIST),
    "cifar_resnet_plain": plain_resnet,
}


def build_network(
    networks: Mapping[str, Callable[..., nn.Module]],
    name: str,
    image_shape: Sequence[int],
    num_labels: int,
    options: Mapping[str, Any] | None,
) -> nn.Module:
    """Build a network by name.

    Args:
        networks: the names to choose from, :data:`L2NNNS` or :data:`ORDINARY`.
        name: one of them.
        image_shape: (channels, height, width) of the images.
        num_labels: the number of labels, at least 2.
        options: the builder's keyword arguments that differ from its defaults.

    Returns:
        The network: (B, C, H, W) -> (B, K).

    Raises:
        ValueError: if the name or an option is unknown, or an option has a bad value.
    """
    if name not in networks:
        raise ValueError(f"network must be one of {', '.join(networks)}, got {name!r}")
    if num_labels < 2:
        raise ValueError(f"num_labels must be at least 2, got {num_labels}")
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (channels, height, width), got {tuple(image_shape)}")
    try:
        return networks[name](tuple(image_shape), num_labels, **(options or {}))
    except TypeError as error:
        raise ValueError(f"network_args of {name}: {error}") from error
