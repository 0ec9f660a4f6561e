"""How the records of an evaluation came about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from l2nnn_lightning.evaluation.measure.environment import hardware, versions

__all__ = ["AttackInfo", "RunInfo"]


@dataclass(frozen=True)
class AttackInfo:
    """How an attack was run.

    Args:
        name: its name in the records: the attack's own, then ``@max_iter`` where it was run with several.
        norm: the norm in which its perturbations are measured.
        eps: largest norm at which a broken sample counts as broken, in pixel units, > 0.
        max_iter: most iterations spent on a sample.
        minimum_norm: whether it looked for the closest adversarial image of every sample, without stopping at
            ``eps``, so that its norms give the robust accuracy at every smaller radius too.
        restarts: number of attempts on every sample.
    """

    name: str
    norm: Literal["L2", "Linf"]
    eps: float
    max_iter: int
    minimum_norm: bool = False
    restarts: int = 1

    @property
    def attack(self) -> str:
        """The attack's own name."""
        return self.name.partition("@")[0]


@dataclass(frozen=True)
class RunInfo:
    """Where an evaluation's records come from.

    Args:
        dataset: name of the data set and its split.
        checkpoint: path of the checkpoint.
        hard: whether the network's weights were scaled, so that its certificates hold.
        config: the run's configuration, of plain values.
        seed: seed of the evaluation.
        seconds: wall time of the evaluation.
        command: the exact command that repeats it.
        radius_kind: the rule that gave the radii, for example ``"g/2"``.
        versions: versions of the packages.
        hardware: the machine in a few words.
    """

    dataset: str
    checkpoint: str
    hard: bool
    config: Mapping[str, Any]
    seed: int
    seconds: float
    command: str
    radius_kind: str
    versions: Mapping[str, str] = field(default_factory=versions)
    hardware: str = field(default_factory=hardware)
