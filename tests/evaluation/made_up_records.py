"""Records of a network and of attacks that never existed, but could: no attack beats a certificate."""

from typing import Any

import numpy as np
import torch

from l2nnn_lightning.evaluation.measure.records import AttackInfo, Records
from l2nnn_lightning.evaluation.measure.results import Evaluation

ATTACKS = (
    AttackInfo("cw", "L2", eps=3.0, max_iter=1000, minimum_norm=True),
    AttackInfo("pgd_l2", "L2", eps=1.58, max_iter=100),
    AttackInfo("pgd_linf", "Linf", eps=0.1, max_iter=40),
)


def made_up_records(
    n: int = 200, labels: int = 10, *, hard: bool = True, attacked: bool = False, box: bool = False, seed: int = 0
) -> Records:
    rng = np.random.default_rng(seed)
    label = torch.tensor(rng.integers(0, labels, n))
    gap = torch.tensor(rng.gamma(3.0, 0.9, n))
    wrong = torch.tensor(rng.random(n)) < torch.exp(-gap)
    prediction = torch.where(wrong, (label + 1) % labels, label)
    radius = gap / 2 if hard else torch.zeros(n)
    attacks: dict[str, torch.Tensor] = {}
    if attacked:
        norm = torch.where(wrong, 0.0, gap / 2 * torch.tensor(rng.uniform(1.16, 1.7, n)))
        other = torch.where(wrong, prediction, (label + 2) % labels)
        within = norm < 1.4
        attacks = {
            "cw_broken": torch.ones(n, dtype=torch.bool),
            "cw_norm": norm,
            "cw_prediction": other,
            "pgd_l2_broken": within,
            "pgd_l2_norm": torch.where(within, 1.58, torch.inf),
            "pgd_linf_broken": within,
            "pgd_linf_norm": torch.where(within, 0.1, torch.inf),
        }
    return Records.from_tensors(
        index=torch.tensor(rng.permutation(10 * n)[:n]),
        label=label,
        prediction=prediction,
        gap=gap,
        radius=radius,
        **({"radius_box": radius * 1.15} if box else {}),
        **attacks,
    )


def made_up_images(n: int, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, channels, 8, 8), dtype=torch.uint8, generator=generator)


def made_up_run(*, hard: bool = True) -> dict[str, Any]:
    return {
        "dataset": "made-up digits",
        "checkpoint": "runs/demo/0/checkpoints/best.ckpt",
        "hard": hard,
        "config": {"width": 64, "loss": {"omega": 0.5}},
        "seed": 7,
        "seconds": 12.25,
        "command": "python evaluate.py --ckpt_path runs/demo/0/checkpoints/best.ckpt",
        "radius_kind": "g/2" if hard else "none",
        "versions": {"torch": "2.99"},
        "hardware": "2 CPU cores",
    }


def made_up_evaluation(records: Records | None = None, **parts: Any) -> Evaluation:
    """Records with made-up images, attacks and origin; of 200 samples without attacks by default."""
    records = made_up_records() if records is None else records
    given = {"images": made_up_images(records.n), "run": made_up_run(), "radii": (0.5, 1.0, 1.58), **parts}
    return Evaluation(records, **{"attacks": ATTACKS if records.attacks else (), **given})
