"""Where processes of a test meet, so that neither other programs nor an early end of one of them are in the way."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed import TCPStore


@contextmanager
def reserved_port() -> Iterator[str]:
    """Yield a free port that nobody else is given meanwhile: one that is looked for and let go may be another's soon.

    It stays bound, without listening, which lets a process listen there that names it.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield str(holder.getsockname()[1])


@contextmanager
def meeting_place() -> Iterator[dict[str, str]]:
    """Hold a store for programs, as torchrun's agent does, and yield the environment variables by which torch finds it.

    It outlives all of them: none that ends early takes it away from those still at work.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    yield {**place, "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
