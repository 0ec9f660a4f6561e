"""Progress on the terminal."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

__all__ = ["watched"]

T = TypeVar("T")


def watched(batches: Sequence[T], what: str, *, visible: bool = True) -> Iterable[T]:
    """Draw a bar on standard error, where that is a terminal, while batches are gone through.

    Args:
        batches: what is gone through.
        what: what is done with them, in a word.
        visible: whether this process shows its progress.
    """
    console = Console(stderr=True)
    return track(batches, what, console=console, transient=True, disable=not (visible and console.is_terminal))
