"""Progress on the terminal: how many samples are done, broken, proven safe, and left."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["AttackBar", "attack_bar", "progress_bar"]


class AttackBar:
    """A bar that follows an attack batch by batch.

    Args:
        progress: where it is drawn.
        name: the attack's name.
        total: number of samples.
    """

    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self.progress, self.name, self.total = progress, name, total
        self.done = self.broken = self.proven = 0
        self.task = progress.add_task(name, total=total)

    def finish(self, done: int, broken: int, proven: int) -> None:
        """Add a batch that has been dealt with."""
        self.done, self.broken, self.proven = self.done + done, self.broken + broken, self.proven + proven
        text = f"{self.name}: {self.broken} broken, {self.proven} proven, {self.total - self.done} left"
        self.progress.update(self.task, completed=self.done, description=text)


@contextmanager
def attack_bar(name: str, total: int, *, visible: bool = True) -> Iterator[AttackBar]:
    """Draw an :class:`AttackBar` while the block runs."""
    with progress_bar(visible=visible) as progress:
        yield AttackBar(progress, name, total)


def progress_bar(*, visible: bool = True) -> Progress:
    """Build a bar on standard error, where that is a terminal.

    Args:
        visible: whether this process shows its progress.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (visible and console.is_terminal),
    )
