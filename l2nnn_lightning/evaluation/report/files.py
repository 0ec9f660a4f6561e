"""Write files so that a reader never meets half of one."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2nnn_lightning.data.errors import UserError

__all__ = ["write_json", "write_text"]


def write_text(path: Path | str, text: str) -> None:
    """Write text to a file in one step: an interrupted run leaves the old file or the new one, never a part.

    Raises:
        UserError: if it cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path | str, values: Mapping[str, Any]) -> None:
    """Write strict JSON with sorted keys, one value a line, in one step.

    Args:
        path: the file; its folder is created.
        values: what to write. Numbers that are not finite, which JSON lacks, become null, and paths become text.

    Raises:
        TypeError: if a value is none of the above, nor text, a number, a boolean, a list or a mapping.
    """
    text = json.dumps(_plain(values), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
