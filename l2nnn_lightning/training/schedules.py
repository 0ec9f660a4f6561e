"""The learning rate as a pure function of the step, so that a resumed run repeats it."""

import math
from typing import Literal

__all__ = ["Schedule", "learning_rate_factor"]

Schedule = Literal["cosine", "constant"]


def learning_rate_factor(
    step: int, *, start: int | None, total: int, warmup: int, final: float, schedule: Schedule = "cosine"
) -> float:
    """Compute what the base learning rate is multiplied with at a step.

    Before ``start`` (penalty mode, whose length is not known beforehand) it warms up and stays constant; from
    ``start`` on it warms up again and falls along a cosine to ``final`` at ``total``.

    Args:
        step: optimizer steps done so far.
        start: the step at which the falling part begins; None while it is not known.
        total: the last step.
        warmup: steps of linear warm-up at the beginning of each part.
        final: the factor reached at the end, in [0, 1].
        schedule: ``"constant"`` leaves out the cosine.

    Example:
        >>> learning_rate_factor(100, start=0, total=100, warmup=10, final=0.1)
        0.1
    """
    since = step if start is None or step < start else step - start
    rise = min(1.0, (since + 1) / (warmup + 1))
    if start is None or step < start or schedule == "constant":
        return rise
    done = min(1.0, since / max(1, total - start))
    return rise * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))
