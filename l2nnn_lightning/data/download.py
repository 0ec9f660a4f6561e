"""Fetch a missing data set, or say in one line what to do without a network."""

import contextlib
import io
import socket
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from l2nnn_lightning.data.errors import UserError

__all__ = ["download", "missing"]

_TIMEOUT_S = 10.0  # of each connection and each read; without one, a firewall that drops packets hangs for minutes


def download(fetch: Callable[[], object], name: str, folder: Path) -> None:
    """Call ``fetch`` with a timeout on the network; a UserError if the data set cannot be fetched or stored.

    Folders that are empty then, and were not there before, are removed.
    """
    timeout, made = socket.getdefaulttimeout(), [place for place in (folder, *folder.parents) if not place.exists()]
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        # torchvision prints each address that it tries to stdout.
        with contextlib.redirect_stdout(io.StringIO()):
            fetch()
    except (OSError, RuntimeError, HTTPException) as error:
        # torchvision lists the addresses that it tried first and the reason last.
        for place in made:
            with contextlib.suppress(OSError):  # something was fetched
                place.rmdir()
        reason = (str(error) or type(error).__name__).strip().splitlines()[-1]
        raise missing(name, folder, f" and could not be downloaded ({reason})") from error
    finally:
        socket.setdefaulttimeout(timeout)


def missing(name: str, folder: Path, tried: str = "") -> UserError:
    """Build the error for a data set that is not in place, or not whole."""
    return UserError(
        f"{name} was not found in {folder}{tried}: put it there, set another root (--data.root or L2NNN_DATA), "
        "or use the digits that need no download (configs/mnist5k.yaml)"
    )
