"""Ordinary networks to compare with: Madry's MNIST net, the plain twin of a convolutional L2NNN, a residual network."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from l2nnn_lightning.models.base import ImageShape, Network
from l2nnn_lightning.models.conv import ConvL2NNN, Pooling
from l2nnn_lightning.models.l2nnn import Activation, check_kernel
from l2nnn_lightning.nn.parametrization import fold

__all__ = ["MadryNet", "PlainResNet", "PlainTwin"]


class MadryNet(Network, nn.Sequential):
    """The four-layer network of Madry et al. (2017): two 5x5 convolutions, max-pooling, a dense layer of 1024.

    Args:
        dropout: probability of leaving out each dense feature, in [0, 1].
        channels: filters of the two convolutions.
        dense: outputs of the dense layer.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        dropout: float = 0.0,
        channels: Sequence[int] = (32, 64),
        dense: int = 1024,
    ) -> None:
        check_kernel(5, image_shape, 2)
        (inputs, height, width), (first, second) = image_shape, channels
        super().__init__(
            *(nn.Conv2d(inputs, first, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(first, second, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(second * (height // 4) * (width // 4), dense), nn.ReLU()),
            *(nn.Dropout(dropout), nn.Linear(dense, num_labels)),
        )


class PlainTwin(Network, nn.Sequential):
    """The ordinary network of a convolutional L2NNN's architecture: plain layers, ReLU, max-pooling.

    Args:
        dropout: probability of leaving out each feature before the heads, in [0, 1].
        activation: as for :class:`ConvL2NNN`.
        pooling: as for :class:`ConvL2NNN`.
        **options: the rest of the architecture, as for :class:`ConvL2NNN`.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        dropout: float = 0.0,
        activation: Activation = "relu",
        pooling: Pooling = "max",
        **options: Any,
    ) -> None:
        twin = fold(ConvL2NNN(image_shape, num_labels, activation=activation, pooling=pooling, **options))
        for layer in twin.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.reset_parameters()
        super().__init__(twin.trunk, nn.Dropout(dropout), twin.head)


class _Block(nn.Module):
    """Two 3x3 convolutions with a shortcut, normalised and activated beforehand (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        carried = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = carried + self.conv2(F.relu(self.norm2(self.conv1(active))))
        return out


class PlainResNet(Network, nn.Sequential):
    """A pre-activation residual network: by default the one of 18 layers, for images of about 32x32.

    Args:
        width: channels of the first stage, >= 1; each further stage doubles them and halves the image.
        blocks: residual blocks of each stage, >= 1 each.
        dropout: probability of leaving out each feature before the last layer, in [0, 1].

    References:
        He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        width: int = 64,
        blocks: Sequence[int] = (2, 2, 2, 2),
        dropout: float = 0.0,
    ) -> None:
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        if len(blocks) == 0 or min(blocks) < 1:
            raise ValueError(f"blocks must hold one or more numbers >= 1, got {tuple(blocks)}")
        layers: list[nn.Module] = [nn.Conv2d(image_shape[0], width, 3, padding=1, bias=False)]
        inputs = width
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage
            for position in range(count):
                layers.append(_Block(inputs, outputs, 2 if stage > 0 and position == 0 else 1))
                inputs = outputs
        layers += [nn.BatchNorm2d(inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, nn.Dropout(dropout), nn.Linear(inputs, num_labels))
