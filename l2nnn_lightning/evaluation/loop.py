"""From a classifier and images to records: first what is proved, then what attacks leave."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn.utils import parametrize

from l2nnn_lightning.attacks import ATTACKS, build_attack
from l2nnn_lightning.classifier import Classifier
from l2nnn_lightning.evaluation.records import AttackRecords, Records
from l2nnn_lightning.evaluation.run import AttackInfo
from l2nnn_lightning.nn import fold

__all__ = ["attack_images", "certify_images"]


def certify_images(classifier: Classifier, images: Tensor, labels: Tensor, batch_size: int) -> Records:
    """Predict and certify every image.

    Args:
        classifier: on its device.
        images: (N, C, H, W), uint8.
        labels: (N,).
        batch_size: images at once.
    """
    certificates = []
    with parametrize.cached(), _progress() as progress:
        task = progress.add_task("certify", total=len(images))
        for rows in _batches(len(images), batch_size):
            certificates.append([part.cpu() for part in classifier.certify(_floats(images[rows], classifier.device))])
            progress.advance(task, rows.stop - rows.start)
    prediction, gap, radius = (torch.cat(parts) for parts in zip(*certificates, strict=True))
    return Records.from_tensors(torch.arange(len(images)), labels, prediction, gap, radius)


def attack_images(
    classifier: Classifier,
    images: Tensor,
    records: Records,
    name: str,
    *,
    eps: float,
    max_iter: int | None,
    seed: int,
    batch_size: int,
    attack_proven: bool = False,
    minimum_norm: bool = False,
) -> tuple[Records, AttackInfo, Tensor]:
    """Attack every image with one attack; the records gain its verdicts.

    Args:
        classifier: on its device; a folded copy of its network is attacked.
        images: (N, C, H, W), uint8.
        records: what is known of them.
        name: the attack, see ``l2nnn_lightning.attacks.ATTACKS``.
        eps: its largest perturbation, > 0.
        max_iter: its iterations, >= 1; by default the attack's own.
        seed: its seed.
        batch_size: images at once.
        attack_proven: attack also what is proven safe within ``eps``; by default that is taken as safe.
        minimum_norm: let an attack that needs no ``eps`` look for the nearest adversary of every image.

    Returns:
        The records, how the attack was run, and the attacked images (float32).
    """
    network = fold(classifier.network).eval().requires_grad_(False)
    spec = ATTACKS[name]
    limit = None if minimum_norm and not spec.needs_eps else eps
    attack = build_attack(name, network, eps=limit, max_iter=max_iter, seed=seed)
    radii = torch.from_numpy(records.radius).to(classifier.device)
    labels = torch.from_numpy(records.label).to(classifier.device)
    broken, norms, predictions, attacked = [], [], [], []
    with _progress() as progress:
        task = progress.add_task(name, total=len(images))
        counts = {"broken": 0, "proven": 0}
        for rows in _batches(len(images), batch_size):
            radius = None if attack_proven or limit is None else radii[rows]
            result = attack.run(_floats(images[rows], classifier.device), labels[rows], radius=radius)
            with torch.no_grad():
                predictions.append(network(result.images).argmax(1).cpu())
            broken.append(result.broken.cpu())
            norms.append(result.norm.cpu())
            attacked.append(result.images.float().cpu())
            counts["broken"] += int(result.broken.sum())
            counts["proven"] += 0 if radius is None else int((result.iterations == 0).sum() - (result.norm == 0).sum())
            progress.update(
                task,
                advance=rows.stop - rows.start,
                description=f"{name}: {counts['broken']} broken, {counts['proven']} proven",
            )
    verdicts = AttackRecords(
        torch.cat(broken).numpy(), torch.cat(norms).float().numpy(), torch.cat(predictions).numpy()
    )
    info = AttackInfo(name, attack.norm_kind, eps, max_iter or spec.max_iter, attack.minimum_norm)
    return replace(records, attacks={**records.attacks, name: verdicts}), info, torch.cat(attacked)


def _batches(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def _floats(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device).float() / 255


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
