"""Residual blocks: a split that adds no distance, equation (9), and meets again, (10) (appendix A.3)."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

__all__ = ["Residual", "SharedOver", "Splitting"]

SharedOver = Literal["block", "channel", "entry"]


class Splitting(nn.Module):
    """The two factors of a split, ``t`` and ``sqrt(1 - t^2)`` with trainable t in [0, 1], equation (9).

    Whatever t is, entry by entry, ``|t x|^2 + |sqrt(1 - t^2) x|^2 = |x|^2``: the pair is as far from another pair as
    x is from another x. Both factors are sines of one free parameter p,

    ``t = sin(pi/4 (1 - sin p))`` and ``sqrt(1 - t^2) = sin(pi/4 (1 + sin p))``,

    smooth for every p, where ``sqrt`` alone has an infinite slope at t = 1. They are rounded down by a few ulp, so that
    rounding never makes a split expansive. The slope is zero at the ends: a t that begins at 0 or 1 stays there.

    Args:
        shape: the shape of t, to be broadcast against one sample; () shares one t.
        initial: the initial t, in [0, 1].

    Example:
        >>> kept, given = Splitting(initial=0.6)()
        >>> round(float(kept), 4), round(float(given), 4)
        (0.6, 0.8)
    """

    kept: Tensor | None
    given: Tensor | None

    def __init__(self, shape: Sequence[int] = (), initial: float = math.sqrt(0.5)) -> None:
        super().__init__()
        self.register_buffer("kept", None, persistent=False)
        self.register_buffer("given", None, persistent=False)
        if not 0 <= initial <= 1:
            raise ValueError(f"the initial t must be in [0, 1], got {initial}")
        self.phase = nn.Parameter(torch.full(tuple(shape), math.asin(1 - 4 * math.asin(initial) / math.pi)))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return t and sqrt(1 - t^2), both in [0, 1]."""
        if self.kept is not None and self.given is not None:
            return self.kept, self.given
        sine = self.phase.sin()
        scale = 1 - 4 * torch.finfo(sine.dtype).eps
        return scale * (math.pi / 4 * (1 - sine)).sin(), scale * (math.pi / 4 * (1 + sine)).sin()

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep both factors as numbers, whatever happens to p: no two libraries need to agree on a sine."""
        self.kept, self.given = self()


class Residual(nn.Module):
    """Add a branch, or some of its outputs, to its own input without adding distance, equations (9) and (10).

    ``x1 = t x0``, ``x2 = sqrt(1 - t^2) x0`` and ``y = s x1 + sqrt(1 - s^2) f(x2)``, with t and s in [0, 1], trainable,
    entry by entry. Nonexpansive whenever the branch f is: the split keeps the norm, ``|dx1|^2 + |dx2|^2 = |dx0|^2``; f
    does not enlarge it; and for each entry Cauchy and Schwarz give ``(s a + sqrt(1 - s^2) b)^2 <= a^2 + b^2``, so
    ``|dy|^2 <= |dx1|^2 + |df(x2)|^2 <= |dx0|^2``. At t = s = 1 the block is the identity, at 0 it is f.

    Args:
        branch: f, any nonexpansive module that keeps the shape, but for its channels with ``added``. The block itself
            has no mode: where the branch's layers are soft, nothing is proved.
        t: what shares one t: the whole block, each channel (dimension 1), or no two entries.
        shape: with ``t="channel"`` the number of channels, with ``t="entry"`` the shape of one sample, (C, H, W) or
            (F,); of the channels that take part, where these are not all.
        initial: the initial t (and s), in [0, 1].
        shared: whether (10) uses the t of (9); otherwise s is trained by itself.
        channels: the channels that take part, from the first to before the last one: only they are scaled, and only
            they enter the branch. The others pass unchanged: ``|dy|^2`` and ``|dx0|^2`` both grow by their distance.
            None for all.
        added: how many of the branch's outputs, the first ones, are added to as many of the channels that take part,
            the first ones. Only these are scaled in (10). The rest of ``x1``, and of ``f(x2)``, which then may have
            more channels or fewer than ``x0``, pass as they are: each part of y is a different part of
            ``(x1, f(x2))``, so ``|dy|^2 <= |dx1|^2 + |df(x2)|^2`` as before. 0 adds none and joins both; None adds all,
            and the branch must keep the shape.

    Shape:
        (B, C, ...) -> (B, C, ...); (B, F) as well. With ``added`` the rest of f(x2) comes behind the channels of x0:
        (B, C + D - added, ...), D being the branch's outputs.

    Example:
        >>> block = Residual(nn.ReLU(), initial=0.6)
        >>> block(torch.tensor([[1.0, -1.0]])).detach()
        tensor([[ 1.0000, -0.3600]])
    """

    def __init__(
        self,
        branch: nn.Module,
        t: SharedOver = "block",
        shape: int | Sequence[int] | None = None,
        *,
        initial: float = math.sqrt(0.5),
        shared: bool = True,
        channels: tuple[int, int] | None = None,
        added: int | None = None,
    ) -> None:
        super().__init__()
        if t not in get_args(SharedOver):
            raise ValueError(f"t must be one of {', '.join(get_args(SharedOver))}, got {t!r}")
        if channels is not None and not 0 <= channels[0] < channels[1]:
            raise ValueError(f"channels must be (first, end) with 0 <= first < end, got {tuple(channels)}")
        if added is not None and added < 0:
            raise ValueError(f"added must be at least 0, got {added}")
        self.branch, self.t, self.channels, self.added = branch, t, channels, added
        self.shape = _shape_of_t(t, shape, channels)
        if added is not None and self.shape and added > self.shape[0]:
            raise ValueError(f"added must be at most the {self.shape[0]} channels that take part, got {added}")
        self.split = Splitting(self.shape, initial)
        meeting = self.shape if added is None or not self.shape else (added, *self.shape[1:])
        self.merge = self.split if shared or added == 0 else Splitting(meeting, initial)

    def forward(self, x: Tensor) -> Tensor:
        """Split, apply the branch, merge."""
        if self.channels is None:
            return self._mix(x)
        first, end = self.channels
        if x.shape[1] < end:
            raise ValueError(f"channels {first} to {end} take part, but the input has {x.shape[1]}")
        mixed = self._mix(x[:, first:end])
        return torch.cat((x[:, :first], mixed[:, : end - first], x[:, end:], mixed[:, end - first :]), 1)

    def _mix(self, x0: Tensor) -> Tensor:
        """Equations (9) and (10)."""
        t, t_rest = self._factors(self.split, x0)
        x1, branch = t * x0, self.branch(t_rest * x0)
        added = self._added(x0, branch)
        s, s_rest = self._factors(self.merge, x0 if self.merge is self.split else x1[:, :added])
        if self.shape:
            s, s_rest = s[:added], s_rest[:added]
        met = s * x1[:, :added] + s_rest * branch[:, :added]
        return met if self.added is None else torch.cat((met, x1[:, added:], branch[:, added:]), 1)

    def _added(self, x0: Tensor, branch: Tensor) -> int:
        """Count the channels that meet in (10); refuse a branch that does not fit."""
        if self.added is None:
            fits, wanted, added = branch.shape == x0.shape, "the shape", x0.shape[1]
        else:
            added = self.added
            alike = branch.dim() == x0.dim() and branch.shape[:1] + branch.shape[2:] == x0.shape[:1] + x0.shape[2:]
            fits = alike and min(branch.shape[1], x0.shape[1]) >= added
            wanted = f"all but its channels, of which {added} are added"
        if not fits:
            raise ValueError(
                f"the branch of a residual block must keep {wanted}: {tuple(x0.shape)} became {tuple(branch.shape)}"
            )
        return added

    def _factors(self, splitting: Splitting, x: Tensor) -> list[Tensor]:
        """Write t and its rest so that they broadcast against the input."""
        shape = tuple(splitting.phase.shape)
        own = tuple(x.shape[1 : 2 if self.t == "channel" else None]) if shape else ()
        if own != shape:
            raise ValueError(f"t is made for {shape}, one per {self.t}; the input {tuple(x.shape)} has {own}")
        return [factor.reshape(*shape, *[1] * (x.dim() - 1 - len(shape))) for factor in splitting()]


def _shape_of_t(t: SharedOver, shape: int | Sequence[int] | None, channels: tuple[int, int] | None) -> tuple[int, ...]:
    if t == "block":
        return ()
    taking_part = None if channels is None else channels[1] - channels[0]
    if shape is None and t == "channel":
        shape = taking_part
    if shape is None:
        wanted = "the number of channels" if t == "channel" else "the shape of one sample, such as (C, H, W)"
        raise ValueError(f"t={t!r} needs shape: {wanted}")
    sizes = tuple(torch.as_tensor(shape).reshape(-1).tolist())
    if not sizes or min(sizes) < 1:
        raise ValueError(f"shape must be positive, got {shape}")
    if taking_part not in (None, sizes[0]):
        raise ValueError(f"{taking_part} channels take part, but shape is {shape}")
    return sizes[:1] if t == "channel" else sizes
