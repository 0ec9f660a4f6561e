"""What is known of a signal on its way through a program, and the registry of what each kind of module does to it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.proof.arithmetic import Affine, Arithmetic, inflate

__all__ = ["Signal", "UnprovableError", "alone", "first_signal", "follow", "is_known", "keeps", "loses", "name_of"]
__all__ += ["refuse_changes", "stage"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class UnprovableError(ValueError):
    """Nothing is known of how a module rounds, or of how much it moves: says which, in one line."""


@dataclass(frozen=True)
class Signal:
    """A signal z within a network, and what the program computes in its place, z'; for every image x.

    Every bound holds for each of P parts that do not meet again, one a label, or for the whole (P = 1).

    Attributes:
        value: the signal of some image, (1, ...): what shape it has.
        lipschitz: how much z moves per unit of x, at most: (P,).
        norm: ``|z|`` is at most this.
        error: ``|z' - z|`` is at most this.
        peak: no number on the way here exceeds this times the largest finite one: (1,).
        parts: P, if they are kept side by side in dimension 1.
        apart: whether dimension 1 holds the parts and nothing else; otherwise their channels, one part after another.
        sided: of entries i and i + n / 2 of the channels one is zero, as two-sided ReLU leaves them.
        overlaps: whether only the last time step may be used, since the steps together move further than each.
    """

    value: Tensor
    lipschitz: Tensor
    norm: Affine
    error: Affine
    peak: Affine
    parts: int = 1
    apart: bool = False
    sided: bool = False
    overlaps: bool = False

    @property
    def computed(self) -> Affine:
        """Bound what the program computes, ``|z'|``."""
        return self.norm.plus(self.error)

    @property
    def reads_channels(self) -> bool:
        """Whether the last dimension is that of the channels."""
        return self.value.dim() == (3 if self.apart else 2)

    @property
    def entries(self) -> int:
        """Count the entries of a sample."""
        return self.value.numel()


Stage = Callable[[Any, Signal, Arithmetic], Signal]
_STAGES: dict[type[nn.Module], Stage] = {}


def stage(*kinds: type[nn.Module]) -> Callable[[Stage], Stage]:
    """Register how modules of exactly these classes change what is known of a signal; subclasses are others.

    The function takes the module (folded, frozen, in float64, on the CPU), the :class:`Signal` that enters it and the
    :class:`Arithmetic` of the program, and returns the signal that leaves it. It raises :class:`UnprovableError` where
    it knows no bound. :func:`keeps` and :func:`loses` are such functions, for modules that move no distance.
    """

    def register(function: Stage) -> Stage:
        _STAGES.update(dict.fromkeys(kinds, function))
        return function

    return register


def first_signal(image_shape: Iterable[int], arithmetic: Arithmetic) -> Signal:
    """Start with the image, (C, H, W): rounded to the program's format, where it comes in a wider one."""
    value = torch.zeros(1, *image_shape, dtype=torch.float64)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    error = Affine(one * arithmetic.unit, inflate(arithmetic.tiny * value.numel() ** 0.5)[None])
    return Signal(value, one, Affine(one, zero), error, Affine(2 * one / arithmetic.largest, zero))


@torch.no_grad()
def follow(modules: Iterable[nn.Module], signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Follow a signal through modules in their order.

    Raises:
        UnprovableError: if nothing is known of one of them.
    """
    for module in modules:
        if type(module) not in _STAGES:
            raise UnprovableError(f"nothing is known of how {name_of(module)} rounds, or of how far it moves its input")
        refuse_changes(module, type(module))
        if signal.overlaps and type(module).__name__ != "LastStep":
            raise UnprovableError(
                f"{name_of(module)} reads all steps of a recurrent layer, of which one alone is proved"
            )
        signal = _STAGES[type(module)](module, signal, arithmetic)
    return signal


def refuse_changes(module: nn.Module, kind: type[nn.Module], *methods: str) -> None:
    """Refuse a module that does anything else than its class, or a method that is not this class's own.

    Raises:
        UnprovableError: if there is one.
    """
    changed = [name for name in methods if getattr(type(module), name) is not getattr(kind, name)]
    # What is set on the module itself would be called in place of what its class does.
    changed += [name for name in vars(module) if callable(getattr(kind, name, None))]
    if changed:
        raise UnprovableError(f"{name_of(module)} has another {changed[0]} than {kind.__name__}")
    if module._forward_hooks or module._forward_pre_hooks:
        raise UnprovableError(f"{name_of(module)} has hooks")
    if module.training:
        raise UnprovableError(f"{name_of(module)} is in training mode")


def is_known(kind: type[nn.Module]) -> bool:
    """Tell whether something is known of what modules of exactly this class do."""
    return kind in _STAGES


def name_of(module: nn.Module) -> str:
    """Name the class of a module, with its package where that is not ours."""
    kind = type(module)
    return kind.__name__ if kind.__module__.startswith(("l2nnn_lightning", "torch.nn.modules")) else str(kind)[8:-2]


def alone(module: nn.Module, signal: Signal) -> None:
    """Refuse what would mix the parts of a signal."""
    if signal.parts > 1:
        raise UnprovableError(f"{name_of(module)} joins what was split for each label")


def keeps(module: nn.Module, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """A nonexpansive map that keeps 0 and rounds nothing: it moves, leaves out, selects or negates entries.

    Where subnormal numbers are flushed to zero each entry is off by the smallest normal number, at most.
    """
    flushed = 2 * arithmetic.tiny * signal.entries**0.5
    return replace(signal, value=module(signal.value), sided=False, error=signal.error.plus(flushed))


def loses(signal: Signal, value: Tensor, lost: Affine, **changes: Any) -> Signal:
    """A nonexpansive map that keeps 0, and whose output is off by what is lost."""
    return replace(signal, value=value, error=signal.error.plus(lost), **{"sided": False, **changes})


@stage(nn.Sequential)
def _(module: nn.Sequential, signal: Signal, arithmetic: Arithmetic) -> Signal:
    return follow(module, signal, arithmetic)
