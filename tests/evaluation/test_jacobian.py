import pytest
import torch
from torch import nn

from l2nnn_lightning.evaluation.measure.jacobian import jacobian_norms
from l2nnn_lightning.models import ConvL2NNN
from l2nnn_lightning.nn import harden


def ordinary():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3)
    )


def l2nnn():
    return harden(ConvL2NNN((2, 6, 6), 4, channels=[], dense=[8]))


@pytest.mark.parametrize("build", [ordinary, l2nnn])
def test_norms_are_those_of_torchs_jacobian(build):
    torch.manual_seed(2)
    network, images = build(), torch.rand(5, 2, 6, 6)
    network.train()
    norms = jacobian_norms(network, images)
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    network.eval()
    for image, norm in zip(images, norms, strict=True):
        whole = torch.autograd.functional.jacobian(network, image[None])
        assert norm.item() == pytest.approx(
            torch.linalg.matrix_norm(whole.reshape(-1, 72).double(), 2).item(), rel=1e-5
        )
    assert norms.std() > 0


def test_logits_of_an_l2nnn_are_nonexpansive_one_by_one():
    torch.manual_seed(3)
    norms = jacobian_norms(l2nnn(), torch.rand(20, 2, 6, 6))
    assert (norms <= 4**0.5).all()
    assert norms.mean() > 0.1
