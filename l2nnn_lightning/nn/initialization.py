"""Initial weights that lose little distance: orthogonal, the identity, or along what the data vary most in."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from l2nnn_lightning.nn.layouts import Layout
from l2nnn_lightning.nn.parametrization import nonexpansive_layers, raw_weight

__all__ = ["dirac_", "orthogonal_", "principal_"]

# The norm of a filter that begins without a channel of its own.
_FAINT = 0.02


@torch.no_grad()
def orthogonal_(module: nn.Module) -> None:
    """Give every nonexpansive layer orthonormal rows (or columns, whichever are fewer) and zero biases, in place.

    Both Gram matrices of such a weight have b(W) = 1, exactly the norm; Gaussian weights of a dense layer have b(W)
    two to four times their squared norm, a loss that multiplies from layer to layer.
    """
    for layer, scaling in nonexpansive_layers(module):
        for matrix in _matrices(layer, scaling.layout):
            nn.init.orthogonal_(matrix)
        _zero_bias(layer)


@torch.no_grad()
def dirac_(module: nn.Module) -> None:
    """Let every nonexpansive convolution begin as the identity of its first channels, with zero biases, in place.

    A delta kernel is an isometry whose operator bound is exactly 1. Outputs beyond the number of inputs begin with
    faint random filters: were they zero, and not read by the next layer either, they would never get a gradient. Their
    norm of 0.02 enters the Gram matrix as its square. Other layers keep their weights.
    """
    for layer, scaling in nonexpansive_layers(module):
        if scaling.layout.conv is None:
            continue
        raw = raw_weight(layer)
        nn.init.dirac_(raw, scaling.layout.groups)
        for kernels in _matrices(layer, scaling.layout):
            kernels[raw.shape[1] :].normal_(std=_FAINT / kernels.shape[1] ** 0.5)
        _zero_bias(layer)


@torch.no_grad()
def principal_(network: nn.Module, images: Tensor) -> None:
    """Point the orthonormal rows of every layer along the principal directions of what it receives, in place.

    Few random rows catch little of a long input: 32 of the 800 directions of a patch a fifth of its length. The
    principal directions catch the most that orthonormal rows can (Eckart and Young, 1936). They are rotated at random
    among themselves, so that all outputs carry alike, and b(W) = 1 as before. Layers are set in the order in which
    they run, for a few hundred training images, of a soft network with orthogonal weights; grouped convolutions,
    one-row stacks and recurrent weights keep theirs.
    """
    for layer, scaling in list(nonexpansive_layers(network)):
        layout = scaling.layout
        if layout.rows == 1 or (layout.conv is not None and layout.groups > 1):
            continue
        received: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, args, received=received: received.append(args[0]))
        network(images)
        handle.remove()
        if not received:
            continue
        for label, matrix in enumerate(_matrices(layer, layout)):
            directions = _principal_directions(_vectors(layer, layout, received[0], label), layout.rows)
            if len(directions) < layout.rows:
                continue
            rotation = nn.init.orthogonal_(torch.empty(layout.rows, layout.rows)).to(directions)
            matrix.copy_(rotation @ directions)


def _matrices(layer: nn.Module, layout: Layout) -> Tensor:
    """View the raw weight as its matrices, to write into."""
    return raw_weight(layer).data.view(layout.groups, layout.rows, -1)


def _zero_bias(layer: nn.Module) -> None:
    # The only parameter of the layer's own: the raw weight is its parametrization's.
    for bias in layer.parameters(recurse=False):
        bias.zero_()


def _vectors(layer: nn.Module, layout: Layout, x: Tensor, label: int) -> Tensor:
    """Write a layer's input as the vectors that its weight is multiplied with for one label: (N, columns)."""
    if isinstance(layer, nn.Conv2d):
        patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
        return patches.mT.flatten(0, 1)
    if x.dim() == 4:  # a mixer's maps
        return x.movedim(1, -1).flatten(0, -2)
    if layout.groups > 1 and x.dim() == 3:
        return x[:, label]
    return x.flatten(0, -2)


def _principal_directions(vectors_NI: Tensor, count: int) -> Tensor:
    """Find the leading eigenvectors of the vectors' second moment: (count or fewer, I)."""
    if len(vectors_NI) < vectors_NI.shape[1]:
        directions: Tensor = torch.linalg.svd(vectors_NI, full_matrices=False).Vh
    else:
        directions = torch.linalg.eigh(vectors_NI.mT @ vectors_NI).eigenvectors.mT.flip(0)
    return directions[:count]
