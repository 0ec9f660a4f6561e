"""Norms of stored weights from above, with a proof that counts the rounding of their own computation.

Everything is computed in float64; ``u = 2^-53`` and ``gamma_n = n u / (1 - n u)``. Nothing rests on how an eigenvalue
or a factor was found: what is found is only checked, by sums and products.
"""

import math

import torch
from torch import Tensor

from l2nnn_lightning.nn.layouts import Layout
from l2nnn_lightning.nn.proof.arithmetic import DOUBLE, inflate

__all__ = ["absolute_norms", "largest_eigenvalue", "operator_norms", "spectral_norms"]

# How far above the largest eigenvalue, as it was found, a shift is tried.
_MARGINS = (1e-11, 1e-9, 1e-6)
_FREQUENCIES = 64
# Steps of the power method: any vector gives a bound.
_STEPS = 30


@torch.no_grad()
def operator_norms(weight: Tensor, layout: Layout) -> Tensor:
    """Bound the norm of each matrix of a layer from above: (G,), float64; for a convolution the operator's.

    A matrix's is nearly exact. For a convolution it is the smallest of three bounds, so that none of those that hard
    scaling divides by is smaller: that of patches, ``sqrt(copies) |W|``; that of its Gram operators,
    :func:`_gram_norms`; and that of its symbol, nearly exact on large maps. A convolution on the infinite grid is a
    matrix at each frequency, the kernel's symbol, and its norm is the largest norm of these; zero padding restricts the
    operator and circular padding the frequencies. Between the points of a grid of N frequencies the squared norm of the
    symbol along a fixed direction is a real trigonometric polynomial of degree m = taps - 1 in each coordinate, which
    at a point within pi / N of its maximum is still ``cos(m pi / N)`` times it (M. Riesz, 1914): dividing the largest
    squared norm on the grid by that cosine, once a side, bounds it everywhere.

    Args:
        weight: the weight as it is stored, exact; infinite where it is not finite, or too large for its squares.
        layout: how it is made of matrices.
    """
    weight = weight.detach().cpu().double()
    bound = spectral_norms(layout.matrices(weight))
    if layout.conv is not None:
        kernels = layout.kernels(weight)
        bound = torch.fmin(inflate(math.sqrt(layout.copies) * bound), _symbol_norms(kernels))
        bound = torch.fmin(bound, torch.fmin(_gram_norms(kernels), _gram_norms(kernels.transpose(1, 2))))
    return bound if bool(weight.isfinite().all()) else torch.full_like(bound, torch.inf)


@torch.no_grad()
def absolute_norms(weight: Tensor, layout: Layout, *, sided: bool = False) -> Tensor:
    """Bound the norm of each matrix of absolute entries, |W|, from above: (G,), float64.

    A convolution by a kernel without negative entries has the norm of its symbol at frequency zero, the sum of all
    taps: elsewhere the symbol's entries are no larger, and the norm of a matrix is at most that of its absolute one.

    Args:
        weight: the weight as it is stored.
        layout: how it is made of matrices.
        sided: whether, of inputs c and c + I / 2, one is zero: then the larger of both entries counts. A matrix that
            is not grouped only.
    """
    weight = weight.detach().cpu().double().abs()
    matrices = layout.matrices(weight) if layout.conv is None else layout.kernels(weight).sum((3, 4))
    if sided and layout.conv is None:
        matrices = torch.maximum(*matrices.chunk(2, 2))
    elif sided:
        # Phases of a channel lie beside each other, so that halves of channels are halves of these.
        matrices = torch.maximum(*layout.kernels(weight).chunk(2, 2)).sum((3, 4))
    matrices = inflate(matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT)
    return inflate(_perron(matrices @ matrices.mT, matrices.shape[2] + 8).sqrt())


def spectral_norms(matrices_GOI: Tensor) -> Tensor:
    """Bound the largest singular value of real or complex matrices, float64 or complex128, from above: (G,), float64.

    Of the smaller Gram matrix, ``|fl(M M^H) - M M^H| <= gamma |M| |M|^H`` entry by entry, whose norm is at most
    ``gamma |M|_F^2``; a complex product counts as 4 terms. The rest is :func:`largest_eigenvalue`.
    """
    if matrices_GOI.shape[1] > matrices_GOI.shape[2]:
        matrices_GOI = matrices_GOI.mT
    _, rows, inner = matrices_GOI.shape
    gram = matrices_GOI @ matrices_GOI.mH
    square_G = matrices_GOI.abs().square().sum((1, 2)) * (1 + 4 * DOUBLE.gamma(rows * inner + 8))
    error_G = DOUBLE.gamma(4 * inner + 16) * square_G + 4 * inner * rows * DOUBLE.tiny
    return inflate(torch.fmin(largest_eigenvalue(gram) + error_G, square_G + error_G).sqrt())


def largest_eigenvalue(matrix_GRR: Tensor) -> Tensor:
    """Bound the largest eigenvalue of Hermitian matrices, of which the lower triangle counts, from above: (G,).

    For any shift t and **any** matrix R, ``t I - A = R R^H + E`` for some E, so ``t I - A >= -|E|`` and the largest
    eigenvalue of A is at most ``t + |E|_inf``, the largest absolute row sum. R is the Cholesky factor of
    ``t I - A`` for t a little above the eigenvalue that a library found; E is computed, and its own rounding
    ``gamma (|R|_F^2 + t + |A|)`` is added. Where the factor does not exist, E is large, and so is the bound.
    """
    lower = matrix_GRR.tril(-1)
    hermitian = lower + lower.mH + torch.diag_embed(matrix_GRR.diagonal(dim1=1, dim2=2).real).to(lower)
    rows = matrix_GRR.shape[-1]
    largest_row_G = hermitian.abs().sum(2).amax(1)
    # Without a factor: a spectral radius is at most an induced norm.
    bound_G = largest_row_G * (1 + DOUBLE.gamma(2 * rows + 8))
    if not bool(hermitian.abs().isfinite().all()):
        return torch.full_like(bound_G, torch.inf)
    found_G = torch.linalg.eigvalsh(hermitian)[:, -1].clamp_min(DOUBLE.tiny)
    identity = torch.eye(rows, dtype=hermitian.dtype)
    for margin in _MARGINS:
        shift_G = found_G * (1 + margin)
        shifted = shift_G[:, None, None] * identity - hermitian
        factor, _ = torch.linalg.cholesky_ex(shifted)
        left = (shifted - factor @ factor.mH).abs()
        left_G = torch.maximum(left.sum(1).amax(1), left.sum(2).amax(1))
        size_G = factor.abs().square().sum((1, 2)) + 2 * (shift_G + largest_row_G)
        error_G = (left_G + DOUBLE.gamma(8 * rows + 32) * size_G) * (1 + DOUBLE.gamma(4 * rows * rows + 32))
        bound_G = torch.fmin(bound_G, inflate(shift_G + error_G))
        if bool((error_G <= 10 * margin * shift_G).all()):
            break
    return bound_G


def _symbol_norms(kernel_GOIHW: Tensor) -> Tensor:
    """Bound the norm of the convolution's symbol over all frequencies: (G, O, I, H, W) -> (G,)."""
    groups, _, _, height, width = kernel_GOIHW.shape
    rows_T, columns_T = _waves(height, half=True), _waves(width)
    first = torch.einsum("goihw,hf->fgoiw", kernel_GOIHW.to(rows_T), rows_T)
    # A row of frequencies at a time, which is a tensor of moderate size.
    norms = [spectral_norms((row[..., None, :] @ columns_T)[..., 0, :].movedim(-1, 0).flatten(0, 1)) for row in first]
    norm_G = torch.stack([norm.view(-1, groups).amax(0) for norm in norms]).amax(0)
    # Waves are off by 32 u with their angles, and sums of taps by their lengths, of the sum of absolute taps.
    off = DOUBLE.gamma(8 * (height + width) + 128)
    error_G = off * torch.linalg.vector_norm(kernel_GOIHW.abs().sum((3, 4)), dim=(1, 2))
    correction = math.prod(math.cos(math.pi * (taps - 1) / _count(taps)) for taps in (height, width))
    return inflate(inflate((norm_G + error_G).square() / (correction * (1 - 1e-15))).sqrt())


def _count(taps: int) -> int:
    """Choose how many frequencies of a side are looked at."""
    return max(_FREQUENCIES, 16 * (taps - 1)) if taps > 1 else 1


def _waves(taps: int, *, half: bool = False) -> Tensor:
    """Return ``exp(2 pi i a f / N)``, (taps, frequencies); of a real kernel half of one side is enough.

    Its symbol at the opposite frequency is the conjugate.
    """
    count = _count(taps)
    turns = torch.outer(torch.arange(taps), torch.arange(count // 2 + 1 if half else count)) % count
    angle = turns.double() * (2 * math.pi / count)
    return torch.complex(angle.cos(), angle.sin())


def _gram_norms(kernel_GOIHW: Tensor) -> Tensor:
    """Bound the norm of a convolution by the absolute entries of its Gram operator: (G, O, I, H, W) -> (G,).

    ``T^T T`` is a convolution by the autocorrelation ``R[i, i', d]``. For any weights v > 0 of the channels its norm is
    at most ``max_i sum_i' A[i, i'] v_i' / v_i``, ``A = sum_d |R[., ., d]|`` (the absolute row sums of a similar
    operator). With the weights that the scaling by channels divides by, this is what that scaling rests on; the best
    weights are those of Perron's eigenvector of A. The other side's follows from the transposed convolution.
    """
    _, outputs, inputs, height, width = kernel_GOIHW.shape
    total = torch.zeros(len(kernel_GOIHW), inputs, inputs, dtype=torch.float64)
    for down in range(height):
        upper, lower = kernel_GOIHW[:, :, :, : height - down], kernel_GOIHW[:, :, :, down:]
        for right in range(1 - width, width):
            if down == 0 and right < 0:
                continue  # R[i, i', d] = R[i', i, -d]
            left = upper[..., max(0, -right) : width - max(0, right)]
            shifted = lower[..., max(0, right) : width - max(0, -right)]
            products = torch.einsum("goihw,gojhw->gij", left, shifted).abs()
            total += products if (down, right) == (0, 0) else products + products.mT
    size = kernel_GOIHW.abs().sum((3, 4))
    total += DOUBLE.gamma(2 * outputs * height * width + 16) * (size.mT @ size)
    return inflate(_perron(total, 4 * height * width + 16).sqrt())


def _perron(matrix_GII: Tensor, terms: int) -> Tensor:
    """Bound the spectral radius of matrices without negative entries, each of them off by ``gamma_terms`` of itself.

    For any v > 0 it is at most ``max_i (A v)_i / v_i`` (Collatz and Wielandt): ``diag(v)^(-1) A diag(v)`` has the same
    eigenvalues, and that is its largest row sum. The steps are those of the power method; none has to converge.
    """
    v_GI1 = torch.ones_like(matrix_GII[:, :, :1])
    bound_G = v_GI1.new_full((len(matrix_GII),), torch.inf)
    for _ in range(_STEPS):
        image_GI1 = matrix_GII @ v_GI1
        bound_G = torch.fmin(bound_G, (image_GI1 / v_GI1).amax((1, 2)))
        # Half a step keeps v positive where a row is zero, and from swinging between two vectors.
        v_GI1 = v_GI1 + image_GI1 / image_GI1.amax((1, 2), keepdim=True).clamp_min(DOUBLE.tiny)
        v_GI1 = v_GI1 / v_GI1.amax((1, 2), keepdim=True)
    return bound_G * (1 + DOUBLE.gamma(matrix_GII.shape[1] + terms + 16))
