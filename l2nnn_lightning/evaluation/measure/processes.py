"""Several processes that share one evaluation: who takes which images, and how the parts come together again."""

import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from l2nnn_lightning.data.errors import UserError

__all__ = ["StartMethod", "Team", "launched_team", "started_team"]

StartMethod = Literal["fork", "spawn"]

T = TypeVar("T")

# They have to meet soon, but then wait for the slowest, which may attack for days; one that dies is noticed at once.
_MEETING = timedelta(minutes=30)
_PATIENCE = timedelta(days=365)


@dataclass(frozen=True)
class Team:
    """The place of this process among those that share an evaluation.

    Args:
        rank: its number, 0 for the one that writes.
        size: the number of processes.
        group: what they talk through, where there are several.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    def rows(self, total: int, batch_size: int) -> Tensor:
        """Return the positions of this process's images: every ``size``-th batch.

        Batches stay whole, so that each is the same computation, to the last bit, however many processes there are;
        and they are dealt out in turn, so that easy and hard stretches of a data set are shared.

        Args:
            total: number of images.
            batch_size: images at once.

        Example:
            >>> [Team(rank, 2).rows(8, batch_size=3).tolist() for rank in (0, 1)]
            [[0, 1, 2, 6, 7], [3, 4, 5]]
        """
        position = torch.arange(total)
        return position[position // batch_size % self.size == self.rank]

    def gather(self, work: Callable[[], T]) -> list[T]:
        """Do this process's part, and hand all parts to rank 0, in the order of the ranks.

        Args:
            work: does the part; its result can be pickled.

        Returns:
            The parts at rank 0, nothing elsewhere.

        Raises:
            Exception: at rank 0, the first error of any process.
        """
        if self.size == 1:
            return [work()]
        outcome: tuple[T | None, Exception | None]
        try:
            outcome = (work(), None)
        except Exception as error:
            outcome = (None, _picklable(error))
        outcomes: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(outcome, outcomes, group=self.group)
        for _, failure in outcomes or []:
            if failure is not None:
                raise failure
        return [part for part, _ in outcomes or []]


@contextmanager
def launched_team() -> Iterator[Team]:
    """Join the processes that ``torchrun`` or the like has started, as the environment says; else work alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team()
        return
    with _joined("env://", int(os.environ["RANK"]), size) as team:
        yield team


@contextmanager
def started_team(size: int, member: Callable[[Team], None], method: StartMethod = "spawn") -> Iterator[Team]:
    """Start ``size - 1`` processes on this machine that share its threads, and join them as rank 0.

    Args:
        size: number of processes, >= 1; alone, nothing is started.
        member: what the others do with their place in the team; it can be pickled.
        method: ``fork`` begins at once, with everything imported, but only before torch has computed anything: the
            threads of OpenMP do not survive it. ``spawn`` imports everything again.

    Raises:
        UserError: in a process that ``torchrun`` has started beside others.
    """
    if size == 1:
        yield Team()
        return
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("--processes starts processes of its own: leave it out under torchrun")
    threads = torch.get_num_threads()
    share = max(1, threads // size)
    context: Any = multiprocessing.get_context(method)
    with tempfile.TemporaryDirectory() as folder:
        address = (Path(folder) / "rendezvous").as_uri()
        others = [
            context.Process(target=_join, args=(address, rank, size, share, member), daemon=True)
            for rank in range(1, size)
        ]
        try:
            for process in others:
                process.start()
            torch.set_num_threads(share)
            with _joined(address, 0, size) as team:
                yield team
            for process in others:
                process.join()
        finally:
            torch.set_num_threads(threads)
            for process in others:
                if process.is_alive():
                    process.terminate()


def _join(address: str, rank: int, size: int, threads: int, member: Callable[[Team], None]) -> None:
    torch.set_num_threads(threads)
    with _joined(address, rank, size) as team:
        member(team)


@contextmanager
def _joined(address: str, rank: int, size: int) -> Iterator[Team]:
    # Gloo also between GPUs: what is exchanged are records, on the CPU.
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size, timeout=_MEETING)
    try:
        group: Any = dist.new_group(timeout=_PATIENCE, backend="gloo")
        yield Team(rank, size, group)
    finally:
        dist.destroy_process_group()


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
