"""What is evaluated, and from there to records: first what is proved of each image, then what attacks leave."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import track
from torch import Tensor

from l2nnn_lightning.attacks import ImageAttack, build_attack, find_attack
from l2nnn_lightning.data import DATAMODULES, ImageDataModule, to_float
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.arguments import nearest
from l2nnn_lightning.evaluation.measure.partial import PartialAttacks
from l2nnn_lightning.evaluation.measure.records import AttackInfo, Records
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.models.base import Certified
from l2nnn_lightning.training.checkpoints import Checkpoint, run_folder_of, sha256
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["Subject", "attack_images", "certify_images", "device_of", "eps_of", "in_run_folder", "load_subject"]
__all__ += ["usual_linf_eps"]

T = TypeVar("T")
#: The paper's perturbation, in the L2 norm.
_L2_EPS = 1.58
_LINF_EPS = 0.3


@dataclass(frozen=True)
class Subject:
    """What is evaluated, on which images, (N, C, H, W), uint8, and how many of them at once.

    The classifier is as it was trained, on the CPU; what is certified of it is on its device.
    """

    classifier: Classifier
    certified: Certified
    datamodule: ImageDataModule
    images: Tensor
    labels: Tensor
    batch_size: int
    #: The names of the labels in training, where they are known; and what to say of it, in one line.
    label_names: list[str] | None = None
    warning: str | None = None
    #: Of the checkpoint's file, in hexadecimal.
    sha256: str | None = None


def load_subject(options: EvaluateOptions) -> Subject:
    """Load what is evaluated, and see that it fits together and to what is asked of it."""
    checkpoint = Checkpoint.read(options.ckpt_path)
    classifier = checkpoint.classifier()
    if options.radii is not None and not options.soft_certificate and classifier.is_soft:
        raise UserError(
            f"{options.ckpt_path} is in penalty mode and proves nothing at any radius: leave out --radii, "
            "add --soft_certificate, or use a checkpoint from after the switch to hard scaling"
        )
    try:
        datamodule = checkpoint.datamodule(options.data, options.root, ignore_label_names=options.ignore_label_names)
    except ValueError as error:
        raise UserError(f"{error}{nearest(str(options.data), DATAMODULES)}") from error
    device = _device(options)
    datamodule.setup("test" if options.split == "test" else "fit")
    held = {"test": datamodule.test_set, "val": datamodule.val_set, "train": datamodule.train_set}[options.split]
    if held is None:
        raise UserError(f"there are no {options.split} images: the data set was set up without them (val_size)")
    images, labels = held.images[: options.limit], held.labels[: options.limit]
    batch_size = options.batch_size or (100 if device.type == "cpu" else 500)
    names, warning = checkpoint.recorded_names, None
    if names is None and (options.data or options.root):
        taken = ", ".join(datamodule.label_names)
        warning = f"{options.ckpt_path} does not hold the names of its labels: they are taken to be {taken}"
    certified = classifier.certified(options.program).to(device)
    digest = sha256(checkpoint.path)
    return Subject(classifier, certified, datamodule, images, labels, batch_size, names, warning, digest)


def in_run_folder(ckpt_path: str) -> Path:
    """Find the run folder of a checkpoint, to write in."""
    folder = run_folder_of(ckpt_path)
    if folder is None:
        Checkpoint.read(ckpt_path)  # says what is wrong with it, before where it is
        raise UserError(f"{ckpt_path} is in no run folder: say where to write with --output")
    return folder


def certify_images(
    certified: Certified, images: Tensor, labels: Tensor, size: int, *, index: Tensor | None = None, in_box: bool = True
) -> Records:
    """Predict and certify images (N, C, H, W), uint8, at positions (N,) of the data set, so many at once."""
    parts: dict[str, list[Tensor]] = {}
    for batch in watched(torch.split(images, size), "certify"):
        image = to_float(batch, device_of(certified))
        (prediction, gap, radius), box = certified.in_box(image) if in_box else (certified(image), None)
        found = {"prediction": prediction, "gap": gap, "radius": radius, **({} if box is None else {"radius_box": box})}
        for name, column in found.items():
            parts.setdefault(name, []).append(column.cpu())
    index = torch.arange(len(images)) if index is None else index
    return Records.from_tensors(index=index, label=labels, **{name: torch.cat(part) for name, part in parts.items()})


def attack_images(
    certified: Certified,
    images: Tensor,
    records: Records,
    options: EvaluateOptions,
    batch_size: int,
    *,
    linf_eps: float = 0.3,
    partial: PartialAttacks | None = None,
) -> tuple[Records, list[AttackInfo], dict[str, Tensor]]:
    """Run every attack that is asked for on every image, (N, C, H, W), uint8; the records gain their verdicts.

    An attack with several numbers of iterations runs from few to many, as ``NAME@ITERATIONS``: what fewer broke within
    eps is broken and not attacked again; of two minima the smaller one counts. What is proven safe within eps is taken
    as safe, unless it is to be attacked all the same. Where no eps is asked for, it is 1.58 in the L2 norm and
    ``linf_eps`` in the L-infinity norm. What ``partial`` holds of an earlier try is not attacked again.

    Returns:
        The records, how each attack was run, and the images that each made (float32).
    """
    network, device = certified.network, device_of(certified)
    # No attack leaves the box [0, 1], so the radius inside it is proof enough.
    radii, labels = (torch.tensor(column, device=device) for column in (records.proved, records.label))
    infos: list[AttackInfo] = []
    made: dict[str, Tensor] = {}
    for name, max_iter in product(options.attack_names, options.budgets or (None,)):
        spec = find_attack(name)
        eps = eps_of(spec, options, linf_eps)
        limit = None if options.minimum_norm and not spec.needs_eps else eps
        attack = build_attack(name, network, eps=limit, max_iter=max_iter, restarts=options.restarts, seed=options.seed)
        if infos and infos[-1].attack == name:
            attacked = made[infos[-1].name].clone()
        else:
            attacked, norm = to_float(images), torch.full((len(images),), torch.inf)
            broken, prediction = torch.zeros(len(images), dtype=torch.bool), torch.full((len(images),), -1)
        record_name = name if len(options.budgets) < 2 else f"{name}@{max_iter}"
        for batch in watched(torch.split(torch.arange(len(images)), batch_size), record_name):
            rows = batch if limit is None else batch[~broken[batch]]
            if len(rows) == 0:
                continue
            radius = None if options.attack_proven or limit is None else radii[rows]
            work = _Work(attack, network, to_float(images[rows], device), labels[rows], radius)
            first = int(records.index[batch[0]])
            found = work() if partial is None else partial.batch(record_name, first, work)
            better = (found["norm"] < norm[rows]) | (prediction[rows] < 0)  # nothing closer is known
            at = rows[better]
            broken[at], norm[at], prediction[at] = (found[key][better] for key in ("broken", "norm", "prediction"))
            attacked[at] = found["images"][better]
        columns = {"broken": broken, "norm": norm, "prediction": prediction}
        records = records.with_columns({f"{record_name}_{key}": column for key, column in columns.items()})
        iterations = max_iter or spec.max_iter
        infos.append(AttackInfo(record_name, attack.norm_kind, eps, iterations, attack.minimum_norm, options.restarts))
        made[record_name] = attacked
    return records, infos, made


def eps_of(attack: type[ImageAttack], options: EvaluateOptions, linf_eps: float) -> float:
    """Return the eps that is asked for, or else what an attack in this norm is usually given."""
    return options.eps if options.eps is not None else {"L2": _L2_EPS, "Linf": linf_eps}[attack.norm_kind]


def usual_linf_eps(datamodule: ImageDataModule) -> float:
    """Return what a data set's images are usually attacked with in the L-infinity norm."""
    usual = datamodule.default_attack
    return float(usual.eps) if usual.norm == "Linf" else _LINF_EPS


@dataclass(frozen=True)
class _Work:
    """An attack on a batch, to be run when it is called: what it found, on the CPU."""

    attack: ImageAttack
    network: torch.nn.Module
    images: Tensor
    labels: Tensor
    radius: Tensor | None

    def __call__(self) -> dict[str, Tensor]:
        result = self.attack.run(self.images, self.labels, radius=self.radius)
        return {
            "broken": result.broken.cpu(),
            "norm": result.norm.float().cpu(),
            "prediction": self.network(result.images).argmax(1).cpu(),
            "images": result.images.float().cpu(),
        }


def device_of(certified: Certified) -> torch.device:
    """Return where a network is."""
    return next(certified.parameters()).device


def watched(batches: Sequence[T], what: str) -> Iterable[T]:
    """Draw a bar, named by a word, while batches are gone through: on standard error, by the first process alone."""
    console = Console(stderr=True)
    visible = console.is_terminal and not (dist.is_initialized() and dist.get_rank() > 0)
    return track(batches, what, console=console, transient=True, disable=not visible)


def _device(options: EvaluateOptions) -> torch.device:
    if options.processes > 1:
        return torch.device("cpu")
    if options.device in (None, "cuda") and torch.cuda.is_available():
        # Of the processes on a machine, each takes a GPU of its own.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        device = torch.device(options.device or "cpu")
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {options.device} is not available here: use cpu") from error
    return device
