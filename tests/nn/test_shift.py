"""Shifts, mixers and shares of channels: exact constants, on sides of every kind and in every memory layout."""

from typing import Any

import pytest
import torch
from oracles import affine_norm, jacobian_norm
from torch import Tensor, nn

from l2nnn_lightning.nn import MaxMin, TwoSidedReLU, harden, nonexpansive
from l2nnn_lightning.nn.norms import layer_norms
from l2nnn_lightning.nn.shift import Absolute, Mixer, OnShare, Padding, Shift, Unshuffle

sides = pytest.mark.parametrize("side", [(1, 1), (1, 5), (2, 3), (5, 4)])


def innermost(x: Tensor) -> Tensor:
    """The same tensor with its batch innermost in memory."""
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


@sides
@pytest.mark.parametrize("channels", [0, 4, 8])
@pytest.mark.parametrize("padding", ["circular", "zeros"])
def test_shift_moves_each_quarter_its_way(side: tuple[int, int], channels: int, padding: Padding) -> None:
    image = torch.arange(1.0, 1 + 2 * 9 * side[0] * side[1]).reshape(2, 9, *side)
    moved = Shift(channels, padding)(image)
    quarter, (height, width) = channels // 4, side
    for channel in range(9):
        down, right = [(1, 0), (-1, 0), (0, 1), (0, -1)][channel // quarter] if channel < channels else (0, 0)
        for row in range(height):
            for column in range(width):
                source = row - down, column - right
                inside = 0 <= source[0] < height and 0 <= source[1] < width
                kept = inside or padding == "circular"
                expected = image[:, channel, source[0] % height, source[1] % width] * kept
                assert torch.equal(moved[:, channel, row, column], expected)


@sides
@pytest.mark.parametrize("padding", ["circular", "zeros"])
def test_shift_is_a_permutation_or_drops_entries(side: tuple[int, int], padding: Padding) -> None:
    shift = Shift(4, padding)
    shape = (6, *side)
    size = 6 * side[0] * side[1]
    matrix = shift(torch.eye(size, dtype=torch.float64).reshape(size, *shape)).flatten(1)
    assert bool(((matrix == 0) | (matrix == 1)).all())
    if padding == "circular":
        assert torch.equal(matrix @ matrix.mT, torch.eye(size, dtype=torch.float64))
    assert affine_norm(shift, shape) == 1
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(shift, (x,))
    assert torch.autograd.gradgradcheck(shift, (x,))


@sides
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (5, 3), (4, 4)])
def test_mixer_has_the_norm_of_its_matrix(side: tuple[int, int], inputs: int, outputs: int) -> None:
    layer = nonexpansive(Mixer(inputs, outputs, side)).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(3 * torch.randn_like(parameter))
    soft = affine_norm(layer, (inputs, *side))
    assert soft == pytest.approx(float(torch.linalg.matrix_norm(layer.weight.detach(), 2)), rel=1e-9)
    assert soft == pytest.approx(float(layer_norms(layer)), rel=1e-8)
    assert 0.1 < affine_norm(harden(layer), (inputs, *side)) <= 1 + 1e-12


def test_mixer_is_a_convolution_of_one_pixel_with_a_bias_for_each_position() -> None:
    mixer, conv = Mixer(3, 4, (5, 2)), nn.Conv2d(3, 4, 1, bias=False)
    conv.weight.data = mixer.weight.data[..., None, None]
    nn.init.normal_(mixer.bias)
    image = torch.randn(6, 3, 5, 2)
    torch.testing.assert_close(mixer(image), conv(image) + mixer.bias)
    assert Mixer(3, 4).bias.shape == (4, 1, 1)
    assert mixer(image[:0]).shape == (0, 4, 5, 2)


@pytest.mark.parametrize("channels", [0, 2, 6])
@pytest.mark.parametrize("activation", [Absolute(), MaxMin(dim=0), TwoSidedReLU(dim=0)])
def test_share_of_an_activation_is_nonexpansive(activation: nn.Module, channels: int) -> None:
    part = OnShare(activation, channels)
    x = torch.randn(6, 3, 2, dtype=torch.float64)
    # All of these keep every gradient's norm.
    assert jacobian_norm(part, x) == pytest.approx(1)
    y = part(x[None])
    assert torch.equal(y[:, : 6 - channels], x[None, : 6 - channels])
    assert torch.equal(y[0, 6 - channels :], activation(x[6 - channels :]))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_unshuffle_is_torchs(factor: int) -> None:
    x = torch.randn(4, 3, 6, 12)
    for laid_out in (x, innermost(x), x.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(Unshuffle(factor)(laid_out), nn.functional.pixel_unshuffle(x, factor))
    assert Unshuffle(factor)(x[:0]).shape == (0, 3 * factor**2, 6 // factor, 12 // factor)


PIECES: list[Any] = [Mixer(8, 4, (4, 2)), Shift(8), OnShare(MaxMin(dim=0), 4), OnShare(Absolute(), 8), Unshuffle(2)]


@pytest.mark.parametrize("piece", PIECES)
def test_piece_takes_every_layout_and_hands_the_batch_on_innermost(piece: nn.Module) -> None:
    x = torch.randn(3, 8, 4, 2)
    y = piece(innermost(x))
    torch.testing.assert_close(y, piece(x))
    assert y.movedim(0, -1).is_contiguous()


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="give a multiple of 4, got 6"):
        Shift(6)
    with pytest.raises(ValueError, match="padding must be one of circular, zeros, got 'same'"):
        Shift(4, "same")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="8 channels move, but there are 3"):
        Shift(8)(torch.rand(1, 3, 2, 2))
    with pytest.raises(ValueError, match="sees 4 channels, but there are 3"):
        OnShare(Absolute(), 4)(torch.rand(1, 3, 2, 2))
    with pytest.raises(ValueError, match="no fewer than 0 channels, got -2"):
        OnShare(Absolute(), -2)
