"""Normalisation that adds no distance, and keeps the shape (B, C, ...): means and bounded factors (appendix A.5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["BoundedScaling", "SubtractBatchMean", "SubtractMean", "SubtractSampleMean"]


class SubtractMean(nn.Module):
    """Subtract a fixed mean, one number or one per channel.

    A shift keeps every distance. (Dividing by a standard deviation below 1 would multiply the Lipschitz constant.)

    Example:
        >>> SubtractMean(0.5)(torch.tensor([[0.5, 1.0]]))
        tensor([[0.0000, 0.5000]])
    """

    mean: Tensor

    def __init__(self, mean: float | Sequence[float]) -> None:
        super().__init__()
        values = torch.as_tensor(mean, dtype=torch.get_default_dtype())
        if values.dim() > 1 or not values.numel() or not values.isfinite().all():
            raise ValueError(f"mean must be one finite number, or one per channel, got {mean}")
        self.register_buffer("mean", values.reshape(-1))

    def forward(self, x: Tensor) -> Tensor:
        """Shift."""
        return x - _per_channel(self.mean, x)


class SubtractSampleMean(nn.Module):
    """Subtract each sample's own mean, over any of its dimensions.

    Subtracting the mean of some entries from each of them is an orthogonal projection, whose norm is 1.

    Args:
        dims: the dimensions that the mean is taken over, not the batch's, 0; None for all of a sample. ``(2, 3)``
            subtracts the mean of each channel of an image, 1 the mean over the channels at each place.
    """

    def __init__(self, dims: int | Sequence[int] | None = None) -> None:
        super().__init__()
        self.dims = (dims,) if isinstance(dims, int) else None if dims is None else tuple(dims)
        if self.dims is not None and (not self.dims or min(self.dims) < 1):
            raise ValueError(f"dims must be positive, 0 is the batch's, got {dims}")

    def forward(self, x: Tensor) -> Tensor:
        """Project."""
        return x - x.mean(self.dims or tuple(range(1, x.dim())), keepdim=True)


class SubtractBatchMean(nn.Module):
    """Subtract the batch's mean per channel in training, and the running mean of the batches' in evaluation.

    In evaluation this is a fixed shift, which keeps every distance: certificates belong to evaluation. In training it
    is an orthogonal projection of the whole batch, hence nonexpansive jointly in all its samples (and in one sample
    with the others fixed), but a sample's output then depends on its neighbours.

    Args:
        num_features: the number of channels, dimension 1.
        momentum: how far each training batch moves the running mean towards its own, in (0, 1].
    """

    running_mean: Tensor

    def __init__(self, num_features: int, momentum: float = 0.1) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be in (0, 1], got {momentum}")
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Subtract; in training also update the running mean."""
        mean = self.running_mean
        if self.training:
            mean = x.mean([d for d in range(x.dim()) if d != 1])
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        return x - _per_channel(mean, x)


class BoundedScaling(nn.Module):
    """Multiply each channel by a trainable factor in [-1, 1]: a raw one over the largest absolute one of the layer.

    A diagonal map's norm is its largest absolute entry, which is 1 here; so a common growth of the raw factors changes
    nothing. There are ``num_features`` channels, dimension 1.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.ones(num_features))

    def factors(self) -> Tensor:
        """Return the factors, (C,), each in [-1, 1]; zeros where all raw ones are 0."""
        return self.raw / self.raw.abs().amax().clamp_min(torch.finfo(self.raw.dtype).tiny)

    def forward(self, x: Tensor) -> Tensor:
        """Scale."""
        return x * _per_channel(self.factors(), x)


def _per_channel(values_C: Tensor, x: Tensor) -> Tensor:
    """Write one value per channel (or one for all) so that it broadcasts against the input."""
    if len(values_C) not in (1, x.shape[1]):
        raise ValueError(f"made for {len(values_C)} channels, got an input of {tuple(x.shape)}")
    return values_C.reshape(-1, *[1] * (x.dim() - 2))
