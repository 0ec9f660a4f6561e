"""Small models whose smallest adversarial moves are known."""

import pytest
import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """Logits from a flat image by one matrix; as a module without parameters or with them."""

    def __init__(self, weight_KD: Tensor, bias_K: Tensor, trainable: bool = True) -> None:
        super().__init__()
        if trainable:
            self.weight, self.bias = nn.Parameter(weight_KD), nn.Parameter(bias_K)
        else:
            self.weight, self.bias = weight_KD, bias_K

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.mT + self.bias


@pytest.fixture
def linear():
    return Linear


@pytest.fixture
def small_net():
    """An untrained net that is nonlinear, with batch normalisation and dropout to betray its mode."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4 * 9, 16),
        nn.ReLU(),
        nn.Linear(16, 5),
    )
    grey = torch.full((1, 1, 8, 8), 0.5)
    with torch.no_grad():
        net.eval()[-1].bias -= net(grey)[0]  # a tie at grey, so that all labels occur
    return net


@pytest.fixture
def batch(small_net):
    """Sixteen images and the labels that the small net gives them."""
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return images, small_net(images).argmax(1)
