"""What every command does with bad input: one line, an exit code, no traceback."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence

from lightning_fabric.utilities.exceptions import MisconfigurationException

from l2nnn_lightning.data.errors import LostProcessError
from l2nnn_lightning.training.heap import keep_freed_memory

__all__ = ["main"]


def main(command: Callable[[Sequence[str]], object], args: Sequence[str] | None = None) -> int:
    """Run a command; turn bad input into one line on standard error and exit code 2 (1 if another process died).

    With ``L2NNN_DEBUG=1`` in the environment the traceback is shown as well.
    """
    if args is None:  # otherwise the process is not ours
        keep_freed_memory()
    try:
        command(sys.argv[1:] if args is None else args)
    except (ValueError, OSError, argparse.ArgumentError, MisconfigurationException, LostProcessError) as error:
        if os.environ.get("L2NNN_DEBUG") == "1":
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1 if isinstance(error, LostProcessError) else 2
    return 0


def _one_line(error: BaseException) -> str:
    """Cut jsonargparse's report on a value that fits none of several types down to the reasons that matter."""
    text = str(error)
    head = re.match(r'Parser key "[^"]*":', text)
    given = re.search(r"^ *Given value: (.*)", text, re.MULTILINE)
    while block := re.search(r"^ *Errors:\n( +)- ", text, re.MULTILINE):
        errors = text[block.start() :].split(f"\n{block[1]}- ")[1:]
        errors[-1] = errors[-1].split("\n")[0]
        text = errors[0]
        if given is not None and all(error.startswith("Expected a ") for error in errors):
            types = [error.removeprefix("Expected a ") for error in errors if "NoneType" not in error]
            text = f"expected {' or '.join(types)}, got {given[1]}"
    words = [head[0] if head and head[0] not in text else "", *text.split()]
    return " ".join(words).strip() or type(error).__name__
