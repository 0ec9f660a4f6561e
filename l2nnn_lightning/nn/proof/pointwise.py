"""What rounds nothing: activations by comparison, and what only moves entries."""

from dataclasses import replace

import torch
from torch import nn

from l2nnn_lightning.nn.activations import MaxMin, TwoSidedReLU
from l2nnn_lightning.nn.labelwise import CenterCrop2d, PerLabel, RepeatPerLabel
from l2nnn_lightning.nn.pooling import PixelUnshuffle
from l2nnn_lightning.nn.proof.arithmetic import Arithmetic
from l2nnn_lightning.nn.proof.signal import Signal, UnprovableError, alone, follow, keeps, name_of, stage
from l2nnn_lightning.nn.recurrent import LastStep, RowsAsSteps
from l2nnn_lightning.nn.shift import Absolute, OnShare, Shift, Unshuffle

#: Entry by entry, 0 stays 0, and nothing is rounded.
SIMPLE = (nn.Identity, nn.ReLU, nn.Dropout)

stage(*SIMPLE)(keeps)


@stage(CenterCrop2d, RowsAsSteps, nn.ZeroPad2d, Shift, Unshuffle, Absolute)
def _(module: nn.Module, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Entries are moved, left out or lose their sign, zeros are added."""
    alone(module, signal)
    if getattr(module, "value", 0) != 0:
        raise UnprovableError(f"{name_of(module)} adds {module.value}")
    return keeps(module, signal, arithmetic)


@stage(LastStep)
def _(module: LastStep, signal: Signal, arithmetic: Arithmetic) -> Signal:
    alone(module, signal)
    return replace(keeps(module, signal, arithmetic), overlaps=False)


@stage(PixelUnshuffle, nn.PixelUnshuffle)
def _(module: nn.Module, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Halves of the channels stay halves."""
    alone(module, signal)
    return replace(keeps(module, signal, arithmetic), sided=signal.sided)


@stage(nn.Flatten, nn.Unflatten)
def _(module: nn.Flatten | nn.Unflatten, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Entries stay in their order; parts become a dimension of their own, or keep theirs."""
    value = module(signal.value)
    apart = signal.parts > 1 and value.dim() > 2 and value.shape[1] == signal.parts
    if signal.parts > 1 and not (apart or (value.shape[1] == signal.value.shape[1] and not signal.apart)):
        raise UnprovableError(f"{name_of(module)} joins what was split for each label")
    sided = signal.sided and signal.parts == 1 and value.dim() == 2  # halves of channels are halves of all entries
    return replace(keeps(module, signal, arithmetic), apart=apart, sided=sided)


@stage(RepeatPerLabel)
def _(module: RepeatPerLabel, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Each part is the whole signal."""
    alone(module, signal)
    return replace(keeps(module, signal, arithmetic), parts=module.num_labels)


@stage(PerLabel)
def _(module: PerLabel, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Entry by entry, or a pair of channels at a time, within each part."""
    if module.num_labels != signal.parts or signal.apart or type(module.module) not in (*SIMPLE, MaxMin, TwoSidedReLU):
        raise UnprovableError(f"{name_of(module)} holds {name_of(module.module)}, or parts that are not the signal's")
    if getattr(module.module, "dim", 1) != 1:
        raise UnprovableError(f"{name_of(module.module)} joins what was split for each label")
    batch, channels, *sides = signal.value.shape
    own = signal.value.reshape(batch * signal.parts, channels // signal.parts, *sides)
    follow([module.module], replace(signal, value=own, parts=1, apart=False), arithmetic)  # it is as it should be
    return keeps(module, signal, arithmetic)


@stage(MaxMin, TwoSidedReLU)
def _(module: MaxMin | TwoSidedReLU, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Maxima, minima and differences from 0, or of equal numbers, are exact; norms stay, so 0 does."""
    if getattr(module, "f", torch.relu) is not torch.relu:
        raise UnprovableError(f"{name_of(module)} has another f")
    # Parts that are not apart would be mixed in dimension 1, those that are in it themselves.
    channels = 1 if signal.parts == 1 else 2
    if signal.parts > 1 and not (signal.apart and module.dim == 2):
        raise UnprovableError(f"{name_of(module)} joins what was split for each label")
    sided = type(module) is TwoSidedReLU and module.dim == channels
    return replace(keeps(module, signal, arithmetic), sided=sided)


@stage(OnShare)
def _(module: OnShare, signal: Signal, arithmetic: Arithmetic) -> Signal:
    """Entry by entry, or a pair of channels at a time, on some of them."""
    alone(module, signal)
    kind, seen = type(module.module), signal.value.movedim(0, -1)[signal.value.shape[1] - module.channels :]
    if kind not in (*SIMPLE, Absolute, MaxMin, TwoSidedReLU):
        raise UnprovableError(f"{name_of(module)} holds {name_of(module.module)}")
    follow([module.module], replace(signal, value=seen), arithmetic)  # it is as it should be
    return keeps(module, signal, arithmetic)
