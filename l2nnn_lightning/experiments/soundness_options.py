"""The options of the command soundness; imports no torch."""

from dataclasses import dataclass
from functools import partial

from l2nnn_lightning.evaluation.arguments import at_least, parse_options

__all__ = ["soundness_options"]


@dataclass(frozen=True)
class SoundnessOptions:
    """Attack certificates until a budget is spent: random networks of every kind, and those that are shipped.

    Args:
        budget: how many attacks of a single image to make, at least
        seed: of networks, images and directions
        output: a JSON file for what was tried
    """

    budget: int = 10000
    seed: int = 0
    output: str | None = None

    def __post_init__(self) -> None:
        at_least(self, 1, "budget")


soundness_options = partial(parse_options, SoundnessOptions, prog="python -m l2nnn_lightning soundness")
