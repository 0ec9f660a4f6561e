"""What an attack tells of itself while it runs."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

__all__ = ["AttackProgress", "AttemptReport", "OnProgress", "SearchReport", "attempt_report", "search_report"]


class AttackProgress(NamedTuple):
    """How far an attack on a batch has come.

    Attributes:
        done: samples that need no more work, broken and proven ones included.
        broken: samples that the model is known to get wrong (within ``eps``, where the attack has one).
        proven: samples left alone because their certified radius is at least ``eps``.
        iterations: iterations spent on the samples that are left.
    """

    done: int
    broken: int
    proven: int
    iterations: int


OnProgress = Callable[[AttackProgress], None]

AttemptReport = Callable[[int, int], None]
"""Takes the iterations of an attempt so far, and how many of its samples are broken."""

SearchReport = Callable[[int, int, int], None]
"""Takes how many samples of a search are left, how many it has broken, and the iterations so far."""


def attempt_report(
    norm: Tensor, proven: Tensor, eps: float, max_iter: int | None, on_progress: OnProgress | None
) -> AttemptReport | None:
    """Turn what an attempt at a fixed ``eps`` tells of its samples into the progress of the batch.

    Args:
        norm: (B,) what earlier attempts found; infinite where nothing.
        proven: (B,) the samples that are not attacked.
        eps: the norm within which a sample counts as broken.
        max_iter: the iteration after which nothing is left, in the last attempt.
        on_progress: told the progress.
    """
    if on_progress is None:
        return None
    broken, safe = int((norm <= eps).sum()), int(proven.sum())

    def report(iterations: int, found: int) -> None:
        through = max_iter is not None and iterations >= max_iter
        on_progress(AttackProgress(len(norm) if through else broken + safe + found, broken + found, safe, iterations))

    return report


def search_report(
    norm: Tensor, proven: Tensor, eps: float | None, on_progress: OnProgress | None, *, last: bool
) -> SearchReport | None:
    """Turn what a search tells of its samples into the progress of the batch.

    Args:
        norm: (B,) what earlier searches found; infinite where nothing.
        proven: (B,) the samples that are not attacked.
        eps: the norm at which the search stops; None where it goes on to the minimum.
        on_progress: told the progress.
        last: whether no other search follows.
    """
    if on_progress is None:
        return None
    settled, found_before, safe = int((norm <= (eps or 0.0)).sum()), int(norm.isfinite().sum()), int(proven.sum())

    def report(left: int, found: int, iterations: int) -> None:
        done = len(norm) - left if last else settled + safe + (0 if eps is None else found)
        # Without eps, a later search finds again what an earlier one has found already.
        broken = settled + found if eps is not None else max(found_before, settled + found)
        on_progress(AttackProgress(done, broken, safe, iterations))

    return report
