"""From a network and images to records: first what is proved, then what attacks leave."""

from itertools import product

import numpy as np
import torch
from torch import Tensor

from l2nnn_lightning.attacks import build_attack, find_attack
from l2nnn_lightning.data import to_float
from l2nnn_lightning.evaluation.measure.certify import certify_all, device_of
from l2nnn_lightning.evaluation.measure.progress import watched
from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.measure.run import AttackInfo
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.models.base import Certified

__all__ = ["attack_images", "certify_images"]


def certify_images(
    certified: Certified,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    *,
    index: Tensor | None = None,
    visible: bool = True,
) -> Records:
    """Predict and certify every image.

    Args:
        certified: on its device.
        images: (N, C, H, W), uint8.
        labels: (N,).
        batch_size: images at once.
        index: (N,) their positions in the data set; by default 0 to N - 1.
        visible: draw a progress bar where there is a terminal.
    """
    batches = watched(torch.split(images, batch_size), "certify", visible=visible)
    (prediction, gap, radius), box = certify_all(certified, batches, in_box=True)
    columns = {"index": torch.arange(len(images)) if index is None else index, "label": labels}
    columns |= {"prediction": prediction, "gap": gap, "radius": radius}
    return Records.from_tensors(**columns, **({} if box is None else {"radius_box": box}))


def attack_images(
    certified: Certified,
    images: Tensor,
    records: Records,
    options: EvaluateOptions,
    batch_size: int,
    *,
    visible: bool = True,
) -> tuple[Records, list[AttackInfo], dict[str, Tensor]]:
    """Run every attack that is asked for on every image; the records gain their verdicts.

    An attack with several numbers of iterations runs from few to many, as ``NAME@ITERATIONS``: what fewer broke within
    eps is broken and not attacked again; of two minima the smaller one counts. What is proven safe within eps is taken
    as safe, unless it is to be attacked all the same.

    Args:
        certified: on its device; its network is attacked.
        images: (N, C, H, W), uint8.
        records: what is known of them.
        options: which attacks, and how.
        batch_size: images at once.
        visible: draw a progress bar where there is a terminal.

    Returns:
        The records, how each attack was run, and the images that each made (float32).
    """
    network, device = certified.network, device_of(certified)
    # No attack leaves the box [0, 1], so the radius inside it is proof enough.
    proof = records.radius if records.radius_box is None else np.maximum(records.radius, records.radius_box)
    radii, labels = (torch.tensor(column, device=device) for column in (proof, records.label))
    infos: list[AttackInfo] = []
    made: dict[str, Tensor] = {}
    for name, max_iter in product(options.attack_names, options.budgets or (None,)):
        spec = find_attack(name)
        limit = None if options.minimum_norm and not spec.needs_eps else options.eps
        attack = build_attack(name, network, eps=limit, max_iter=max_iter, restarts=options.restarts, seed=options.seed)
        if infos and infos[-1].attack == name:
            attacked = made[infos[-1].name].clone()
        else:
            attacked, norm = to_float(images), torch.full((len(images),), torch.inf)
            broken, prediction = torch.zeros(len(images), dtype=torch.bool), torch.full((len(images),), -1)
        record_name = name if len(options.budgets) < 2 else f"{name}@{max_iter}"
        for batch in watched(torch.split(torch.arange(len(images)), batch_size), record_name, visible=visible):
            rows = batch if limit is None else batch[~broken[batch]]
            if len(rows) == 0:
                continue
            radius = None if options.attack_proven or limit is None else radii[rows]
            result = attack.run(to_float(images[rows], device), labels[rows], radius=radius)
            found = result.norm.float().cpu()
            better = (found < norm[rows]) | (prediction[rows] < 0)  # nothing closer is known
            at = rows[better]
            broken[at], norm[at] = result.broken.cpu()[better], found[better]
            prediction[at] = network(result.images).argmax(1).cpu()[better]
            attacked[at] = result.images.float().cpu()[better]
        columns = {"broken": broken, "norm": norm, "prediction": prediction}
        records = records.with_columns({f"{record_name}_{key}": column for key, column in columns.items()})
        iterations = max_iter or spec.max_iter
        infos.append(
            AttackInfo(record_name, attack.norm_kind, options.eps, iterations, attack.minimum_norm, options.restarts)
        )
        made[record_name] = attacked
    return records, infos, made
