"""The options of this room's commands, and everything about them that can be checked at once; imports no torch."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Literal

from l2nnn_lightning.evaluation.arguments import at_least, parse_options
from l2nnn_lightning.training.arguments import program

__all__ = ["dashboard_options", "evaluate_options", "export_options", "predict_options", "verify_options"]

_RADII = "0.5,1,1.58,2,3"


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure what a checkpoint proves and what attacks leave of it.

    Args:
        ckpt_path: the checkpoint
        data: another data set than the checkpoint's own, such as MNIST or MNISTDataModule
        root: where the data set is, if not where it was in training
        ignore_label_names: take another data set's labels by their order, whatever they are called
        split: the images
        limit: only the first N images
        radii: radii of certified accuracy, such as 0.5,36/255 (default: 0.5,1,1.58,2,3)
        attacks: names, separated by commas, such as cw,pgd_l2
        eps: the attacks' largest perturbation, such as 1.58 or 8/255 (default: 1.58 in L2; in L-infinity what the data
            set is usually attacked with, 0.3 for digits, 8/255 for CIFAR-10)
        max_iter: the attacks' iterations (default: each attack's own); several, such as 1000,10000, give a row each,
            and the longer attack skips what the shorter one broke
        restarts: attempts from other random starts
        minimum_norm: cw: the nearest adversary, also beyond eps
        attack_proven: attack also what is proven safe within eps
        program: what radii are proven for: the network's weights in float64, which then gives the labels too, or the
            network as it is, in float32, as an exported graph computes
        soft_certificate: of a checkpoint in penalty mode: measure the radii that follow from the product of its exact
            norms, apart from the certified accuracy of hard networks, which stays 0
        jacobian: measure the norm of the Jacobian at the first N images
        distances: measure how much of the distance between images of different labels each layer keeps, first N images
        fallback: the hybrid model: this checkpoint answers where the gap is below --threshold
        threshold: the smallest gap that is not delegated to --fallback (default: 1.0)
        noisy: measure the (noisy) training labels too: all, clean and changed ones
        output: the folder to write (default: evaluation/ in the run folder); an earlier evaluation there is kept beside
            it, by number; attacks that were cut short go on where they stopped
        batch_size: images at once (default: 100 on a CPU, 500 elsewhere)
        device: cpu, cuda or mps (default: the best there is)
        processes: share the work among N processes on the CPU; or use torchrun
        seed: seed of the attacks
        wandb: put the results into the W&B run of the training, too
    """

    ckpt_path: str
    data: str | None = None
    root: str | None = None
    ignore_label_names: bool = False
    split: Literal["test", "val", "train"] = "test"
    limit: int | None = None
    radii: str | None = None
    attacks: str = ""
    eps: float | None = None
    max_iter: str | None = None
    restarts: int = 1
    minimum_norm: bool = False
    attack_proven: bool = False
    program: Literal["float64", "float32"] = "float64"
    soft_certificate: bool = False
    jacobian: int | None = None
    distances: int | None = None
    fallback: str | None = None
    threshold: float | None = None
    noisy: bool = False
    output: str | None = None
    batch_size: int | None = None
    device: str | None = None
    processes: int = 1
    seed: int = 0
    wandb: bool = False

    def __post_init__(self) -> None:
        at_least(self, 1, "limit", "restarts", "jacobian", "distances", "batch_size", "processes")
        at_least(self, 0, "seed", "threshold")
        if self.processes > 1 and self.device not in (None, "cpu"):
            raise ValueError(
                f"--processes is for the CPU: start one process for each GPU with torchrun, got {self.device}"
            )
        if self.eps is not None and not 0 < self.eps < math.inf:
            raise ValueError(f"--eps must be positive and finite, got {self.eps}")
        if self.threshold is not None and self.fallback is None:
            raise ValueError("--threshold belongs to the hybrid model: name the other checkpoint with --fallback")
        _ = self.radius_values, self.budgets  # refuse what is none

    @property
    def radius_values(self) -> list[float]:
        """The radii of certified accuracy."""
        text = _RADII if self.radii is None else self.radii
        try:
            numbers = [float(Fraction(part)) if "/" in part else float(part) for part in text.split(",")]
        except (ValueError, ZeroDivisionError, OverflowError):
            raise ValueError(f"--radii must be numbers or fractions separated by commas, got {text!r}") from None
        if not all(0 <= number < math.inf for number in numbers):
            raise ValueError(f"--radii must be finite and not negative, got {text!r}")
        return numbers

    @property
    def attack_names(self) -> list[str]:
        """The attacks, each once."""
        return list(dict.fromkeys(name.strip() for name in self.attacks.split(",") if name.strip()))

    @property
    def budgets(self) -> list[int]:
        """The numbers of iterations, growing; none for each attack's own."""
        try:
            numbers = [] if self.max_iter is None else sorted({int(part) for part in self.max_iter.split(",")})
        except ValueError:
            raise ValueError(f"--max_iter must be whole numbers separated by commas, got {self.max_iter!r}") from None
        if numbers and numbers[0] < 1:
            raise ValueError(f"--max_iter must be at least 1, got {numbers[0]}")
        return numbers


@dataclass(frozen=True)
class PredictOptions:
    """Say of each image its label, the confidence gap and the radius within which the label is proven not to change.

    Args:
        ckpt_path: the checkpoint, or the name of a pretrained classifier
        images: image files, or folders of them
        abstain_below: give no label where the radius (L2, pixels in [0, 1]) is below this
        resize: bring each image's centred square to the right size
        format: what to write
        output: the file to write (default: standard output)
        batch_size: images at once
    """

    ckpt_path: str
    images: list[str]
    abstain_below: float | None = None
    resize: bool = False
    format: Literal["table", "csv"] = "table"
    output: str | None = None
    batch_size: int = 100

    def __post_init__(self) -> None:
        at_least(self, 0, "abstain_below")
        at_least(self, 1, "batch_size")


@dataclass(frozen=True)
class ExportOptions:
    """Write a checkpoint for use elsewhere, with a card beside it.

    ONNX and torch.export hold a plain network with logits, label, gap and radius as outputs; safetensors holds the
    whole classifier, to be loaded again by this package.

    Args:
        ckpt_path: the checkpoint, or the name of a pretrained classifier
        format: what to write
        output: the file (default: in export/ in the run folder)
        results: the results.json that the card quotes (default: that of the run folder)
        weights: safetensors: numbers of the raw weights in the file
    """

    ckpt_path: str
    format: Literal["onnx", "safetensors", "torch_export"]
    output: str | None = None
    results: str | None = None
    weights: Literal["float16", "float32"] = "float32"


@dataclass(frozen=True)
class VerifyOptions:
    """Prove the bounds of a checkpoint anew, in exact arithmetic, layer by layer, and write down by which lemma.

    Args:
        ckpt_path: the checkpoint, or the name of a pretrained classifier
        output: the file to write (default: verification.json in the run folder)
    """

    ckpt_path: str
    output: str | None = None


@dataclass(frozen=True)
class DashboardOptions:
    """Save a W&B workspace that shows confidence gap against accuracy across the runs of a project.

    Args:
        entity: the user or team (default: the account's own)
        project: the project
        name: the workspace's name
        json: write the workspace's description to this file and send nothing
    """

    entity: str | None = None
    project: str = "l2nnn"
    name: str = "Gap against accuracy"
    json: str | None = None


# What reads each command line: from its arguments to its options, or an ArgumentError.
evaluate_options = partial(parse_options, EvaluateOptions, prog=program("evaluate"))
predict_options = partial(parse_options, PredictOptions, prog=program("predict"), positional={"images": "+"})
export_options = partial(parse_options, ExportOptions, prog=program("export"))
verify_options = partial(parse_options, VerifyOptions, prog=program("verify"), positional={"ckpt_path": None})
dashboard_options = partial(parse_options, DashboardOptions, prog=program("dashboard"))
