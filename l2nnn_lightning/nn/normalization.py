"""Normalisation that adds no distance, and keeps the shape (B, C, ...): means and bounded factors (appendix A.5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["BatchScaling", "BoundedScaling", "SubtractBatchMean", "SubtractMean", "SubtractSampleMean"]
__all__ += ["SubtractSubsetMeans"]


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


class SubtractSubsetMeans(nn.Module):
    """Subtract from the entries of each of some subsets of a sample their own mean; leave the others as they are.

    The subsets share no entry, so that each is projected for itself, orthogonally, and the rest is the identity: a map
    of norm 1. (A mean subtracted from entries outside its subset would not do: ``(a, b) -> (a, b - a)`` has the norm
    1.62.)

    Args:
        num_features: the size of dimension 1.
        subsets: indices into dimension 1, on maps channels, whose mean is over all their places; each subset holds one
            or more, and none is in two of them.

    Shape:
        (B, C, ...) -> (B, C, ...).

    Example:
        >>> SubtractSubsetMeans(3, [[0, 2]])(torch.tensor([[1.0, 5.0, 3.0]]))
        tensor([[-1.,  5.,  1.]])
    """

    member: Tensor

    def __init__(self, num_features: int, subsets: Sequence[Sequence[int]]) -> None:
        super().__init__()
        member_GC = torch.zeros(len(subsets), num_features)
        for group, subset in enumerate(subsets):
            if not subset or not all(0 <= index < num_features for index in subset):
                raise ValueError(f"a subset must hold indices in [0, {num_features - 1}], got {list(subset)}")
            member_GC[group, list(subset)] = 1
        if not len(subsets) or member_GC.sum() < sum(map(len, subsets)) or member_GC.sum(0).max() > 1:
            raise ValueError(f"subsets must be one or more without an index in common, got {[*map(list, subsets)]}")
        self.register_buffer("member", member_GC, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Project."""
        if x.shape[1] != self.member.shape[1]:
            raise ValueError(f"made for {self.member.shape[1]} channels, got an input of {tuple(x.shape)}")
        mean_BC = x.flatten(2).mean(2) if x.dim() > 2 else x
        mean_BG = mean_BC @ self.member.mT / self.member.sum(1)
        return x - (mean_BG @ self.member).reshape(*x.shape[:2], *[1] * (x.dim() - 2))


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

    kept: Tensor | None

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.ones(num_features))
        self.register_buffer("kept", None, persistent=False)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the factors as numbers, whatever happens to the raw ones."""
        self.kept = self.factors()

    def factors(self) -> Tensor:
        """Return the factors, (C,), each in [-1, 1]; zeros where all raw ones are 0."""
        if self.kept is not None:
            return self.kept
        return _over_largest(self.raw)

    def forward(self, x: Tensor) -> Tensor:
        """Scale."""
        return x * _per_channel(self.factors(), x)


class BatchScaling(nn.Module):
    """Multiply each channel by ``g / sigma`` over the largest absolute such factor of the layer (A.5).

    That is batch normalisation's factor, g trainable and sigma the channel's standard deviation, made to lie in
    [-1, 1]. In evaluation sigma is a running one, so the map is a fixed diagonal of norm 1: certificates belong to
    evaluation. In training it is the batch's, and the factors follow the samples: nothing is claimed then.

    Args:
        num_features: the number of channels, dimension 1.
        momentum: how far each training batch moves the running variance towards its own, in (0, 1].
        eps: what is added to a variance, > 0.
    """

    running_variance: Tensor
    kept: Tensor | None

    def __init__(self, num_features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        if not 0 < momentum <= 1 or not 0 < eps < 1:
            raise ValueError(f"momentum must be in (0, 1] and eps in (0, 1), got {momentum} and {eps}")
        self.momentum, self.eps = momentum, eps
        self.raw = nn.Parameter(torch.ones(num_features))
        self.register_buffer("running_variance", torch.ones(num_features))
        self.register_buffer("kept", None, persistent=False)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the factors for the running variances as numbers."""
        self.kept = self.factors()

    def factors(self, variance_C: Tensor | None = None) -> Tensor:
        """Return the factors for these variances, by default the running ones: (C,), each in [-1, 1]."""
        if variance_C is None and self.kept is not None:
            return self.kept
        sigma = ((self.running_variance if variance_C is None else variance_C) + self.eps).sqrt()
        # Both quotients are at most 1 in size, so that none overflows.
        raw = _over_largest(self.raw) * (sigma.amin(0) / sigma)
        return _over_largest(raw)

    def forward(self, x: Tensor) -> Tensor:
        """Scale; in training also update the running variance."""
        if not self.training:
            return x * _per_channel(self.factors(), x)
        variance = x.var([d for d in range(x.dim()) if d != 1], correction=0)
        with torch.no_grad():
            self.running_variance.lerp_(variance.to(self.running_variance), self.momentum)
        return x * _per_channel(self.factors(variance), x)


def _over_largest(values_C: Tensor) -> Tensor:
    """Divide by the largest absolute value; zeros stay zeros."""
    return values_C / values_C.abs().amax().clamp_min(torch.finfo(values_C.dtype).tiny)


def _per_channel(values_C: Tensor, x: Tensor) -> Tensor:
    """Write one value per channel (or one for all) so that it broadcasts against the input."""
    if len(values_C) not in (1, x.shape[1]):
        raise ValueError(f"made for {len(values_C)} channels, got an input of {tuple(x.shape)}")
    return values_C.reshape(-1, *[1] * (x.dim() - 2))
