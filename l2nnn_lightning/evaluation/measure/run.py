"""How the records of an evaluation came about, and everything that results, figures and reports are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from l2nnn_lightning.evaluation.measure.environment import hardware, versions
from l2nnn_lightning.evaluation.measure.records import Records

__all__ = ["AttackInfo", "Evaluation", "Images", "RunInfo"]

Images = Tensor | npt.NDArray[np.uint8] | npt.NDArray[np.floating]


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
    """Where an evaluation's records come from, under the names of ``results.json``.

    Args:
        dataset: name of the data set and its split.
        checkpoint: path of the checkpoint.
        hard: whether the network's weights were scaled, so that its certificates hold.
        config: the run's configuration, of plain values.
        seed: seed of the evaluation.
        seconds: wall time of the evaluation.
        command: the exact command that repeats it.
        radius_kind: the rule that gave the radii, for example ``"gap/2"``.
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


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated, and what was found.

    Args:
        records: the records, at least one.
        images: (N, C, H, W) in the order of the records, uint8 in [0, 255] or floating in [0, 1].
        run: where the records come from.
        radii: L2 radii at which to report the certified accuracy, in pixel units, at least one.
        attacks: how the attacks of the records were run.
        attacked: by an attack's name what it made of ``images``; the original where it failed.
        label_names: names of the labels, in their order; by default their numbers.
        whole: by a measure's name what it found on whole data sets.
        metrics_csv: the ``metrics.csv`` of the training, drawn if it can be read.

    Raises:
        ValueError: if records, images and attacks do not fit together, or a network that is not hard has radii.
    """

    records: Records
    images: Images
    run: RunInfo
    radii: Sequence[float]
    attacks: Sequence[AttackInfo] = ()
    attacked: Mapping[str, Images] = field(default_factory=dict)
    label_names: Sequence[str] | None = None
    whole: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    metrics_csv: Path | str | None = None

    def __post_init__(self) -> None:
        records, names = self.records, [attack.name for attack in self.attacks]
        if records.n == 0 or not self.radii:
            raise ValueError("evaluate at least one sample, at one radius or more")
        if set(names) != set(records.attacks):
            raise ValueError(f"the records hold the attacks {sorted(records.attacks)}, got {names}")
        for images in (self.images, *self.attacked.values()):
            if images.ndim != 4 or len(images) != records.n:
                raise ValueError(f"images must be ({records.n}, C, H, W) as the records, got {tuple(images.shape)}")
        boxed = records.radius if records.radius_box is None else records.radius_box
        if not self.run.hard and (records.radius.any() or boxed.any()):
            raise ValueError("a network in penalty mode proves nothing, but the records hold radii above 0")

    def name(self, label: int) -> str:
        """Return a label's name, or its number where it has none."""
        names = self.label_names or ()
        return names[label] if label < len(names) else str(int(label))
