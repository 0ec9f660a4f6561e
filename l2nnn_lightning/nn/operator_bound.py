"""Bounds of the convolution operator itself, by the autocorrelation of its kernel."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["input_row_sums", "largest_input_row_sum", "output_row_sums", "phases"]


def input_row_sums(kernel_GOIHW: Tensor) -> Tensor:
    """Sum the absolute entries of each row of the Gram matrix ``T^T T`` of the stride-1 convolution T.

    On the infinite grid ``T^T T`` is a convolution too, by the kernel's autocorrelation
    ``R[i, i', d] = sum_o sum_a K[o, i, a] K[o, i', a + d]``; its row for channel i sums to
    ``s_i = sum_i' sum_d |R[i, i', d]|`` at every position. So ``T^T T <= diag(s)`` (diagonal dominance), the squared
    norm is at most ``max_i s_i``, and the kernel whose input channel i is divided by ``sqrt(s_i)`` is nonexpansive.

    A map of finite size with zero padding restricts T to some rows and columns, which cannot enlarge its norm. Circular
    padding reads the same symbol at some frequencies. Dilation spreads T over interleaved grids that do not meet.

    Shape:
        (G, O, I, H, W), float32 or float64, its stride written out by :func:`phases`, -> (G, I), >= 0, differentiable
        almost everywhere.
    """
    groups, _, inputs, height, width = kernel_GOIHW.shape
    lines = kernel_GOIHW.permute(0, 3, 1, 4, 2).flatten(3)  # (G, H, O, W I)
    total = kernel_GOIHW.new_zeros(groups, inputs)
    for shift in range(height):
        upper, lower = lines[:, : height - shift].flatten(1, 2), lines[:, shift:].flatten(1, 2)
        products = (upper.mT @ lower).view(groups, width, inputs, width, inputs)
        shifted = _diagonal_sums(products.permute(0, 2, 4, 1, 3)).abs()  # R[i, i', (shift, .)]: (G, I, I, 2 W - 1)
        total = total + shifted.sum((2, 3))
        if shift > 0:
            # R[i, i', d] = R[i', i, -d]
            total = total + shifted.sum((1, 3))
    return total


def largest_input_row_sum(kernel_GOIHW: Tensor) -> Tensor:
    """Compute the largest of :func:`input_row_sums`, (G, O, I, H, W) -> (G,), with the gradient of that row alone."""
    with torch.no_grad():
        channel_G = input_row_sums(kernel_GOIHW).argmax(1)
    groups, outputs, inputs, height, width = kernel_GOIHW.shape
    index = channel_G[:, None, None, None, None].expand(-1, outputs, 1, height, width)
    row = kernel_GOIHW.gather(2, index).flatten(2)  # (G, O, H W)
    products = torch.bmm(row.mT, kernel_GOIHW.flatten(2)).view(groups, height, width, inputs, height, width)
    shifted = _diagonal_sums(products.permute(0, 3, 2, 5, 1, 4))  # along H: (G, I, W, W, 2 H - 1)
    return _diagonal_sums(shifted.permute(0, 1, 4, 2, 3)).abs().sum((1, 2, 3))


def output_row_sums(kernel_GOIHW: Tensor) -> Tensor:
    """Sum the absolute entries of each row of ``T T^T``, (G, O, I, H, W) -> (G, O), as :func:`input_row_sums` does.

    The transposed convolution's kernel is the same with its channels swapped and its taps reversed, and reversal only
    reverses the autocorrelation.
    """
    return input_row_sums(kernel_GOIHW.transpose(1, 2))


def phases(kernel_GOIHW: Tensor, stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Write a strided convolution as one of stride 1 over the phases of its input.

    With stride s, output o reads entries ``o s + t``; let ``t = a s + f``, and the entries of phase f form an image of
    their own that is read at ``o + a``. Where there is a stride, dilation is written out as zeros between the taps.

    Shape:
        (G, O, I, H, W) -> (G, O, I s_h s_w, H', W'), the phases of an input channel one after the other.
    """
    for side, (step, spread) in enumerate(zip(stride, dilation, strict=True)):
        if step == 1:
            continue
        taps = kernel_GOIHW.movedim(3 + side, -1)
        if spread > 1:
            taps = F.pad(taps[..., None], (0, spread - 1)).flatten(-2)
        taps = F.pad(taps, (0, -taps.shape[-1] % step))
        taps = taps.reshape(*taps.shape[:-1], -1, step).movedim(-1, 3).flatten(2, 3)
        kernel_GOIHW = taps.movedim(-1, 3 + side)
    return kernel_GOIHW


def _diagonal_sums(products: Tensor) -> Tensor:
    """Sum the 2 k - 1 diagonals of each square: (..., k, k) -> (..., 2 k - 1)."""
    k = products.shape[-1]
    # Rows in reverse order, each one entry longer than the diagonals are many: so row r lies r entries further right.
    skewed = F.pad(products.flip(-2), (0, k)).flatten(-2)[..., : k * (2 * k - 1)]
    return skewed.reshape(*skewed.shape[:-1], k, 2 * k - 1).sum(-2)
