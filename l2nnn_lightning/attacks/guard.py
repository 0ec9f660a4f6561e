"""Run an attack on a model without leaving a trace on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["undisturbed"]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Attack ``model`` in evaluation mode, with gradients, and restore it whatever happens.

    The mode of every submodule and ``requires_grad`` of every parameter are put back on exit. Parameters need no
    gradient inside, which spares the graph of parametrized weights; input gradients are taken with
    ``torch.autograd.grad``. Works inside ``torch.no_grad`` and ``torch.inference_mode`` (Lightning's validation and
    test), provided the inputs are cloned inside.
    """
    modes = [(module, module.training) for module in model.modules()]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        # Flags are set one by one: train() and eval() may be overridden, and recurse.
        for module, _ in modes:
            module.training = False
        for parameter in trainable:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in trainable:
            parameter.requires_grad_(True)
