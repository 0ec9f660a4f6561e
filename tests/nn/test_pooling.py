import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import jacobian_norm
from torch import nn

from l2nnn_lightning.nn import NormPool2d
from l2nnn_lightning.nn.pooling import PixelUnshuffle


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.one_of(st.none(), st.tuples(st.integers(1, 5), st.integers(1, 5))),
    pad=st.booleans(),
    extra=st.integers(0, 3),
    seed=st.integers(0, 999),
    zeros=st.booleans(),
)
def test_norm_pooling_is_nonexpansive(kernel, stride, pad, extra, seed, zeros):
    pool = NormPool2d(kernel, stride, tuple(k // 2 for k in kernel) if pad else 0)
    x = torch.randn(2, kernel[0] + extra, kernel[1] + extra, dtype=torch.float64)
    x *= torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < (0.4 if zeros else 1)
    assert jacobian_norm(pool, x) <= 1 + 1e-6
    y = x + torch.randn_like(x)
    assert (pool(x[None]) - pool(y[None])).norm() <= (x - y).norm() * (1 + 1e-6)


def test_norm_pooling_takes_the_norm_of_each_window():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    windows = nn.functional.unfold(x, 2, stride=2).reshape(2, 3, 4, 2, 3)
    torch.testing.assert_close(NormPool2d(2)(x), windows.norm(dim=2))
    overlapping = nn.functional.unfold(x, 3, stride=2, padding=1).reshape(2, 3, 9, 3, 3)
    torch.testing.assert_close(NormPool2d(3, 2, 1)(x), overlapping.norm(dim=2) / 2)


def test_overlap_is_counted_exactly():
    """An entry in the middle reaches K windows: without the factor its distance would grow by sqrt(K)."""
    x = torch.zeros(1, 7, 7, dtype=torch.float64)
    x[0, 3, 3] = 1
    for kernel, stride, windows in [(3, 1, 9), (3, 2, 1), (2, 1, 4), (4, 2, 4), (2, 3, 1)]:
        pooled = NormPool2d(kernel, stride)(x[None])
        factor = (-(-kernel // stride)) ** 2
        assert float(pooled.square().sum()) == pytest.approx(windows / factor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_windows_have_gradient_zero(dtype):
    x = torch.zeros(1, 1, 4, 4, dtype=dtype, requires_grad=True)
    y = NormPool2d(2)(x)
    y.sum().backward()
    assert float(x.grad.abs().max()) == 0
    assert float(y.detach().max()) < 1e-18


@pytest.mark.parametrize("arguments", [(0,), (2, 0), (2, 2, 2), (3, 1, -1)])
def test_norm_pooling_refuses_bad_sizes(arguments):
    with pytest.raises(ValueError, match="kernel_size and stride"):
        NormPool2d(*arguments)


def test_unshuffling_is_torchs_also_of_an_empty_batch_and_exports_with_any():
    unshuffle, x = PixelUnshuffle(2), torch.rand(5, 3, 6, 4)
    expected = nn.functional.pixel_unshuffle(x, 2)
    channels_last = unshuffle(x.contiguous(memory_format=torch.channels_last))
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    exported = torch.export.export(unshuffle, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    for count in (0, 1, 3):
        assert torch.equal(unshuffle(x[:count]), expected[:count])
        assert torch.equal(exported(x[:count]), expected[:count])
