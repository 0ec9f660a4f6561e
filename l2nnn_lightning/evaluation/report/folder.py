"""A folder for each evaluation: the latest under the name that was asked for, earlier ones beside it, by number."""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from l2nnn_lightning.data.errors import UserError

__all__ = ["check_output", "whole_folder"]


def check_output(folder: Path) -> None:
    """Refuse a folder that cannot be, or that holds something else than an evaluation, with a UserError."""
    if any(path.exists() and not path.is_dir() for path in (folder, *folder.parents)):
        raise UserError(f"--output {folder} is not a folder: choose another one")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "results.json").is_file():
        raise UserError(f"--output {folder} holds other files: choose a folder of its own, such as {folder / 'new'}")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write in, which takes the place of another once everything is in it, or leaves no trace.

    What was there is kept as ``FOLDER_1``, ``FOLDER_2`` and so on: the largest number is the latest but one.
    """
    part = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    part.mkdir(parents=True)
    try:
        yield part
        if folder.is_dir() and any(folder.iterdir()):
            numbers = itertools.count(1)
            folder.rename(next(kept for n in numbers if not (kept := Path(f"{folder}_{n}")).exists()))
        elif folder.is_dir():
            folder.rmdir()
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
