"""Progress on the terminal: how many samples are done, broken, proven safe, and left."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from l2nnn_lightning.attacks import AttackProgress

__all__ = ["AttackBar", "attack_bar", "progress_bar"]


class AttackBar:
    """A bar that follows an attack batch by batch, and the iterations within a batch.

    Args:
        progress: where it is drawn.
        name: the attack's name.
        total: number of samples.
    """

    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self.progress, self.name, self.total = progress, name, total
        self.is_visible = not progress.disable
        self.before = AttackProgress(0, 0, 0, 0)
        self.task = progress.add_task(name, total=total)

    def update(self, now: AttackProgress) -> None:
        """Show what has become of the current batch so far."""
        self._show(self._sum(now), now.iterations)

    def finish(self, batch: AttackProgress) -> None:
        """Add a batch that has been dealt with."""
        self.before = self._sum(batch)
        self._show(self.before, 0)

    def _sum(self, now: AttackProgress) -> AttackProgress:
        done, broken, proven = (a + b for a, b in zip(self.before[:3], now[:3], strict=True))
        return AttackProgress(done, broken, proven, now.iterations)

    def _show(self, whole: AttackProgress, iterations: int) -> None:
        text = f"{self.name}: {whole.broken} broken, {whole.proven} proven, {self.total - whole.done} left"
        if iterations > 0:
            text += f", iteration {iterations}"
        self.progress.update(self.task, completed=whole.done, description=text)


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
