"""Inference of a folded network against a plain one: folding leaves nothing behind."""

import argparse
import copy

from torch import nn

from l2nnn_lightning.experiments.benchmark.networks import built_networks, forward, made_up_batch
from l2nnn_lightning.experiments.benchmark.rows import Row
from l2nnn_lightning.experiments.benchmark.timing import compare
from l2nnn_lightning.nn import LabelwiseLinear, fold, harden

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part: none."""


def run(options: argparse.Namespace) -> list[Row]:
    """Time a forward pass of a folded network and of one that never had a parametrization."""
    rows = []
    for subject, network, shape in built_networks(options):
        image, _ = made_up_batch(shape, options)
        folded = fold(harden(network))
        rows.append(
            compare(
                "inference",
                subject,
                "inference, folded / plain",
                forward(folded, image),
                forward(_never_parametrized(folded), image),
                repeats=options.repeats,
                device=options.device,
                target="<= 1.02",
            )
        )
    return rows


def _never_parametrized(network: nn.Module) -> nn.Module:
    """Build the same network from fresh plain layers, with the same weights."""
    plain = copy.deepcopy(network)
    for module in list(plain.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear | nn.Conv2d | LabelwiseLinear):
                setattr(module, name, _fresh(layer))
    return plain


def _fresh(layer: nn.Linear | nn.Conv2d | LabelwiseLinear) -> nn.Module:
    bias = layer.bias is not None
    fresh: nn.Module
    if isinstance(layer, nn.Linear):
        fresh = nn.Linear(layer.in_features, layer.out_features, bias)
    elif isinstance(layer, LabelwiseLinear):
        labels, outputs, inputs = layer.weight.shape
        fresh = LabelwiseLinear(labels, inputs, outputs, bias)
    else:
        fresh = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            layer.groups,
            bias,
            layer.padding_mode,
        )
    fresh.load_state_dict(layer.state_dict())
    return fresh.to(layer.weight.device)
