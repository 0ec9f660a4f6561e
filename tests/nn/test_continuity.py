import torch
from torch import nn

from l2nnn_lightning.models import ConvL2NNN, SeparateL2NNNs
from l2nnn_lightning.nn import MaxMin, NormPool2d, Residual, ScaledSigmoid, SubtractMean, harden, nonexpansive
from l2nnn_lightning.nn.continuity import keep_biases_in_scale


def shaken(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net.double()


def test_every_logit_changes_by_one_factor_at_the_switch():
    for net, shape in (
        (ConvL2NNN((1, 8, 8), 3, channels=(2, 3), dense=(5,), head_hidden=(4, 3)), (4, 1, 8, 8)),
        (ConvL2NNN((1, 8, 8), 3, channels=(2,), dense=(5,), head="single"), (4, 1, 8, 8)),
        (SeparateL2NNNs((3, 9, 9), 4, crop=8, channels=(2, 3), head_hidden=(5,)), (4, 3, 9, 9)),
        (nn.Sequential(nonexpansive(nn.Linear(6, 8)), MaxMin(), nonexpansive(nn.Linear(8, 3))), (4, 6)),
    ):
        shaken(net)
        x = torch.rand(shape, dtype=torch.float64)
        before = net(x)
        divisor = keep_biases_in_scale(net.chain() if hasattr(net, "chain") else net)
        torch.testing.assert_close(harden(net)(x) * divisor, before)


def test_nothing_is_changed_where_the_function_cannot_be_kept():
    for layers in (
        [nonexpansive(nn.Linear(3, 3)), ScaledSigmoid(), nonexpansive(nn.Linear(3, 2))],
        [nonexpansive(nn.Conv2d(2, 2, 1, groups=2)), nonexpansive(nn.Conv2d(2, 2, 1)), NormPool2d(2)],
    ):
        biases = [layer.bias.detach().clone() for layer in layers if hasattr(layer, "bias")]
        assert keep_biases_in_scale(layers) is None
        after = [layer.bias for layer in layers if hasattr(layer, "bias")]
        assert all(torch.equal(a, b) for a, b in zip(biases, after, strict=True))


def test_what_comes_before_the_first_layer_may_be_anything():
    layer = nonexpansive(nn.Linear(4, 4))
    assert keep_biases_in_scale([SubtractMean(0.5), layer, MaxMin()]) is not None
    assert keep_biases_in_scale([layer, SubtractMean(0.5)]) is None
    assert keep_biases_in_scale([Residual(layer)]) is None
