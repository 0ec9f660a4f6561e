"""From a classifier and images to records: first what is proved, then what attacks leave."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from l2nnn_lightning.attacks import AttackResult, build_attack, find_attack
from l2nnn_lightning.evaluation.measure.jacobian import jacobian_norms
from l2nnn_lightning.evaluation.measure.progress import attack_bar, progress_bar
from l2nnn_lightning.evaluation.measure.records import AttackRecords, Records
from l2nnn_lightning.evaluation.measure.run import AttackInfo
from l2nnn_lightning.nn import fold
from l2nnn_lightning.training.classifier import Classifier

__all__ = ["attack_images", "certify_images", "measure_jacobian"]


def certify_images(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    *,
    index: Tensor | None = None,
    show_progress: bool = True,
) -> Records:
    """Predict and certify every image.

    Args:
        classifier: on its device.
        images: (N, C, H, W), uint8.
        labels: (N,).
        batch_size: images at once.
        index: (N,) their positions in the data set; by default 0 to N - 1.
        show_progress: draw a progress bar where there is a terminal.
    """
    certificates: list[list[Tensor]] = []
    boxes: list[Tensor] = []
    with parametrize.cached(), progress_bar(visible=show_progress) as progress:
        task = progress.add_task("certify", total=len(images))
        for rows in _batches(len(images), batch_size):
            certificate, box = classifier.certify_in_box(_floats(images[rows], classifier.device))
            certificates.append([part.cpu() for part in certificate])
            if box is not None:
                boxes.append(box.cpu())
            progress.advance(task, rows.stop - rows.start)
    prediction, gap, radius = (torch.cat(parts) for parts in zip(*certificates, strict=True))
    index = torch.arange(len(images)) if index is None else index
    return Records.from_tensors(index, labels, prediction, gap, radius, torch.cat(boxes) if boxes else None)


def measure_jacobian(
    classifier: Classifier,
    images: Tensor,
    records: Records,
    count: int,
    batch_size: int,
    *,
    show_progress: bool = True,
) -> Records:
    """Measure the norm of the network's Jacobian at the first images of the data set; the records gain it.

    Args:
        classifier: on its device; a folded copy of its network is measured.
        images: (N, C, H, W), uint8.
        records: what is known of them.
        count: at how many of the data set's first images.
        batch_size: images at once.
        show_progress: draw a progress bar where there is a terminal.
    """
    network = fold(classifier.network).eval()
    asked = torch.from_numpy(records.index < count)
    norms = torch.full((len(images),), torch.nan)
    with progress_bar(visible=show_progress) as progress:
        task = progress.add_task("Jacobian", total=int(asked.sum()))
        for batch in _batches(len(images), batch_size):
            rows = torch.arange(batch.start, batch.stop)[asked[batch]]
            if len(rows) > 0:
                norms[rows] = jacobian_norms(network, _floats(images[rows], classifier.device))
                progress.advance(task, len(rows))
    return replace(records, jacobian=norms.numpy())


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
    restarts: int = 1,
    attack_proven: bool = False,
    minimum_norm: bool = False,
    record_name: str | None = None,
    earlier: tuple[str, Tensor] | None = None,
    show_progress: bool = True,
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
        restarts: its number of attempts, >= 1.
        attack_proven: attack also what is proven safe within ``eps``; by default that is taken as safe.
        minimum_norm: let an attack that needs no ``eps`` look for the nearest adversary of every image.
        record_name: its name in the records, if another: ``NAME@ITERATIONS`` tells several budgets apart.
        earlier: the name in the records and the images of the same attack with fewer iterations. What it broke within
            ``eps`` is broken and not attacked again; of two minima the smaller one counts.
        show_progress: draw a progress bar where there is a terminal.

    Returns:
        The records, how the attack was run, and the attacked images (float32).
    """
    network = fold(classifier.network).eval().requires_grad_(False)
    spec = find_attack(name)
    limit = None if minimum_norm and not spec.needs_eps else eps
    attack = build_attack(name, network, eps=limit, max_iter=max_iter, restarts=restarts, seed=seed)
    record_name = record_name or name
    # No attack leaves the box [0, 1], so the radius inside it is proof enough.
    proof = records.radius if records.radius_box is None else np.maximum(records.radius, records.radius_box)
    radii, labels = (torch.from_numpy(column).to(classifier.device) for column in (proof, records.label))
    attacked = images.float() / 255
    verdicts = _none_broken(len(images))
    if earlier is not None:
        verdicts, attacked = _copy(records.attacks[earlier[0]]), earlier[1].clone()
    with attack_bar(record_name, len(images), visible=show_progress) as bar:
        for batch in _batches(len(images), batch_size):
            rows = torch.arange(batch.start, batch.stop)
            if limit is not None:
                rows = rows[~torch.from_numpy(verdicts.broken[batch])]
            radius = None if attack_proven or limit is None else radii[rows]
            proven = 0
            if len(rows) > 0:
                result = attack.run(_floats(images[rows], classifier.device), labels[rows], radius=radius)
                _note(verdicts, attacked, rows, result, network(result.images).argmax(1))
                proven = 0 if radius is None else int(((result.iterations == 0) & ~result.broken).sum())
            broken = int(verdicts.broken[batch].sum())
            bar.finish(batch.stop - batch.start, broken, proven)
    info = AttackInfo(
        record_name, attack.norm_kind, eps, max_iter or spec.max_iter, attack.minimum_norm, restarts=restarts
    )
    return replace(records, attacks={**records.attacks, record_name: verdicts}), info, attacked


def _none_broken(total: int) -> AttackRecords:
    none = torch.zeros(total, dtype=torch.bool)
    return AttackRecords(none.numpy(), torch.full((total,), torch.inf).numpy(), torch.full((total,), -1).numpy())


def _copy(verdicts: AttackRecords) -> AttackRecords:
    assert verdicts.prediction is not None
    return AttackRecords(verdicts.broken.copy(), verdicts.norm.copy(), verdicts.prediction.copy())


def _note(verdicts: AttackRecords, attacked: Tensor, rows: Tensor, result: AttackResult, prediction: Tensor) -> None:
    """Write the outcome of a batch into the verdicts, where nothing closer is known."""
    assert verdicts.prediction is not None
    norm = result.norm.float().cpu()
    better = (norm < torch.from_numpy(verdicts.norm)[rows]) | torch.from_numpy(verdicts.prediction < 0)[rows]
    at = rows[better].numpy()
    verdicts.broken[at] = result.broken.cpu()[better].numpy()
    verdicts.norm[at] = norm[better].numpy()
    verdicts.prediction[at] = prediction.cpu()[better].numpy()
    attacked[rows[better]] = result.images.float().cpu()[better]


def _batches(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def _floats(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device).float() / 255
