import pytest
import torch
from torch import nn

from l2nnn_lightning.models import ORDINARY, build_network


def test_default_has_eighteen_layers_and_eleven_million_parameters():
    network = build_network(ORDINARY, "cifar_resnet_plain", (3, 32, 32), 10, None)
    weighted = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    in_the_main_path = [
        layer for layer in weighted if not (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))
    ]
    assert len(in_the_main_path) == 18
    assert 11.1e6 < sum(p.numel() for p in network.parameters()) < 11.3e6


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 17), (2, 8, 8)])
def test_takes_images_of_any_size_and_learns(shape):
    torch.manual_seed(0)
    network = build_network(ORDINARY, "cifar_resnet_plain", shape, 3, {"width": 4, "blocks": [1, 2]})
    images, labels = torch.rand(6, *shape), torch.arange(6) % 3
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None for p in network.parameters())


def test_shortcut_carries_the_input_where_the_convolutions_are_zero():
    torch.manual_seed(1)
    network = build_network(ORDINARY, "cifar_resnet_plain", (3, 8, 8), 3, {"width": 4, "blocks": [2]}).eval()
    for name, parameter in network.named_parameters():
        if "conv2" in name:
            nn.init.zeros_(parameter)
    image = torch.rand(2, 3, 8, 8)
    stem = network[0](image)
    assert torch.equal(network[2](network[1](stem)), stem)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"blocks": []}, "blocks must hold"),
        ({"blocks": [1, 0]}, "blocks"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_network(ORDINARY, "cifar_resnet_plain", (3, 8, 8), 3, options)
