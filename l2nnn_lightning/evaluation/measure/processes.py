"""Several processes that share one evaluation: who takes which images, and how the parts come together again."""

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
from torch.multiprocessing.spawn import start_processes

from l2nnn_lightning.data.errors import UserError

__all__ = ["StartMethod", "Team", "sharing_team"]

StartMethod = Literal["fork", "spawn"]
T = TypeVar("T")

# They meet within minutes, or one has died on the way; then they wait for the slowest, which may attack for days.
_MEETING, _PATIENCE = timedelta(minutes=10), timedelta(days=365)


@dataclass(frozen=True)
class Team:
    """The place of this process among those that share an evaluation; rank 0 writes."""

    rank: int = 0
    size: int = 1
    group: Any = None

    def rows(self, total: int, batch_size: int) -> Tensor:
        """Return the positions of this process's images: every ``size``-th batch.

        Whole batches are the same computation, to the last bit, however many processes there are; dealt out in turn,
        easy and hard stretches of a data set are shared.

        Example:
            >>> [Team(rank, 2).rows(8, batch_size=3).tolist() for rank in (0, 1)]
            [[0, 1, 2, 6, 7], [3, 4, 5]]
        """
        position = torch.arange(total)
        return position[position // batch_size % self.size == self.rank]

    def gather(self, work: Callable[[], T]) -> list[T]:
        """Do this process's part, and hand all parts, pickled, to rank 0, which also raises the first error of any.

        Returns:
            The parts in the order of the ranks at rank 0, nothing elsewhere.
        """
        if self.size == 1:
            return [work()]
        part, failure = None, None
        try:
            part = work()
        except Exception as error:
            failure = _picklable(error)
        outcomes: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object((part, failure), outcomes, group=self.group)
        for _, failure in outcomes or ():
            if failure is not None:
                raise failure
        return [part for part, _ in outcomes or ()]


@contextmanager
def sharing_team(
    processes: int = 1, member: Callable[[Team], None] | None = None, method: StartMethod = "spawn"
) -> Iterator[Team]:
    """Join the processes that ``torchrun`` or the like has started; else start others, which share this one's threads.

    Of so many processes, >= 1, this one is rank 0; the others do what a member does, which can be pickled. ``fork``
    begins at once, with everything imported, but only before torch has computed anything: the threads of OpenMP do not
    survive it. ``spawn`` imports everything again.

    Raises:
        UserError: if ``torchrun`` has started this process beside others, and more are asked for.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1:
        if processes > 1:
            raise UserError("--processes starts processes of its own: leave it out under torchrun")
        with _joined("env://", int(os.environ["RANK"]), launched) as team:
            yield team
        return
    if processes == 1:
        yield Team()
        return
    threads = torch.get_num_threads()
    share = max(1, threads // processes)
    with tempfile.TemporaryDirectory() as folder:
        address = (Path(folder) / "rendezvous").as_uri()
        arguments = (address, processes, share, member)
        others: Any = start_processes(  # type: ignore[no-untyped-call]
            _join, arguments, processes - 1, join=False, daemon=True, start_method=method
        )
        try:
            torch.set_num_threads(share)
            with _joined(address, 0, processes) as team:
                yield team
            while not others.join():
                pass
        finally:
            torch.set_num_threads(threads)
            for process in others.processes:
                process.terminate()


def _join(position: int, address: str, size: int, threads: int, member: Callable[[Team], None]) -> None:
    torch.set_num_threads(threads)
    with _joined(address, position + 1, size) as team:
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
