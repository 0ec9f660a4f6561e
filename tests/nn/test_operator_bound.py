import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from l2nnn_lightning.nn.bounds import gram_bound
from l2nnn_lightning.nn.operator_bound import input_row_sums, largest_input_row_sum, output_row_sums, phases


def kernels(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def operator(kernel, stride, dilation, size):
    """The dense matrix of a zero-padded convolution, (outputs, channels * size * size), from its unit images."""
    channels = kernel.shape[1]
    basis = torch.eye(channels * size * size, dtype=torch.float64).reshape(-1, channels, size, size)
    padding = [d * (k - 1) for k, d in zip(kernel.shape[2:], dilation, strict=True)]
    return F.conv2d(basis, kernel, None, stride, padding, dilation).flatten(1).mT


@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_sums_are_the_row_sums_of_the_operators_gram_matrix(seed, outputs, inputs, height, width):
    kernel = kernels(seed, 1, outputs, inputs, height, width)
    size, middle = 7, 3
    dense = operator(kernel[0], (1, 1), (1, 1), size)
    rows = (dense.mT @ dense).abs().sum(1).reshape(inputs, size, size)
    torch.testing.assert_close(input_row_sums(kernel)[0], rows[:, middle, middle])
    # Every other output has its window cut, or sees fewer neighbours.
    outputs_of = (dense @ dense.mT).abs().sum(1).reshape(outputs, size + height - 1, size + width - 1)
    torch.testing.assert_close(output_row_sums(kernel)[0], outputs_of.amax((1, 2)))


@given(
    st.integers(0, 99), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)
)
def test_the_largest_sum_has_the_value_and_the_gradient_of_the_maximum(seed, groups, outputs, inputs, height, width):
    kernel = kernels(seed, groups, outputs, inputs, height, width).requires_grad_()
    largest, expected = largest_input_row_sum(kernel), input_row_sums(kernel).amax(1)
    torch.testing.assert_close(largest, expected)
    gradients = [torch.autograd.grad(value.square().sum(), kernel)[0] for value in (largest, expected)]
    torch.testing.assert_close(*gradients)


@given(
    st.integers(0, 99),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_phases_of_a_strided_convolution_bound_its_norm(seed, size, stride, dilation):
    kernel = kernels(seed, 1, 2, 2, *size)
    norm = torch.linalg.matrix_norm(operator(kernel[0], stride, dilation, 8), 2) ** 2
    parts = phases(kernel, stride, dilation)
    assert parts.shape[2] == 2 * stride[0] * stride[1]
    assert float(parts.square().sum()) == pytest.approx(float(kernel.square().sum()))
    for sums in (input_row_sums(parts), output_row_sums(parts)):
        assert norm <= sums.amax() * (1 + 1e-12)


def test_a_delta_and_a_low_pass_kernel_are_bounded_exactly():
    delta = torch.zeros(1, 3, 3, 5, 5, dtype=torch.float64)
    delta[0, range(3), range(3), 2, 2] = 1
    assert float(input_row_sums(delta).amax()) == 1
    low_pass = torch.full((1, 1, 1, 3, 3), 1 / 9, dtype=torch.float64)
    assert float(input_row_sums(low_pass).amax()) == pytest.approx(1)  # its response to a constant image
    assert float(9 * gram_bound(low_pass.reshape(1, 1, 9))[0]) == pytest.approx(1)


@given(st.integers(0, 99), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 2))
def test_the_operator_bound_is_never_above_copying_patches(seed, outputs, inputs, k, stride):
    kernel = kernels(seed, 1, outputs, inputs, k, k)
    flat = kernel.reshape(outputs, -1)
    copied = (-(-k // stride)) ** 2 * (flat.mT @ flat).abs().sum(1).max()
    assert input_row_sums(phases(kernel, (stride, stride), (1, 1))).amax() <= copied * (1 + 1e-12)
