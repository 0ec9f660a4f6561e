"""A whole classifier in one safetensors file with a JSON card beside it: small, and nothing in it is executed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from l2nnn_lightning.data.errors import UserError

__all__ = ["SUFFIX", "card_path", "read_card", "read_weights", "sha256", "write_weights"]

SUFFIX = ".safetensors"
_ENTRY = "l2nnn_lightning"
_PARTS = ("hyper_parameters", "l2nnn_lightning")


def write_weights(path: Path, checkpoint: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Write what rebuilds a classifier: the raw weights, the hard flags and, in the header, the description.

    Raw weights are kept, not scaled ones: the bounds are computed anew from what was read, so certificates are exact
    for the weights in the file, whatever their rounding.

    Args:
        path: the file.
        checkpoint: as from ``read_checkpoint``.
        dtype: of raw weights, float16 to halve the file or float32; everything else stays as it is.

    Raises:
        UserError: if a weight is too large for ``dtype``.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in checkpoint["state_dict"].items():
        is_raw = tensor.is_floating_point() and tensor.dim() > 1
        tensors[name] = (tensor.to(dtype) if is_raw else tensor).detach().clone().contiguous()
        if is_raw and not torch.isfinite(tensors[name]).all():
            raise UserError(f"{name} holds numbers that are too large for {dtype}: use --weights float32")
    description = json.dumps({part: checkpoint[part] for part in _PARTS}, sort_keys=True)
    path.write_bytes(save(tensors, {_ENTRY: description}))


def read_weights(path: Path) -> dict[str, Any]:
    """Read a file of :func:`write_weights`, once its card's sha256 has been checked.

    Args:
        path: the file.

    Returns:
        The contents of a checkpoint: ``state_dict`` (float32), ``hyper_parameters`` and ``l2nnn_lightning``.

    Raises:
        UserError: if the file or its card is missing, damaged, or something else.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    card = read_card(path)
    if card.get("sha256") != sha256(path):
        raise UserError(f"{path} is not the file that {card_path(path).name} describes (sha256): fetch it again")
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})[_ENTRY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged or holds no classifier of l2nnn_lightning") from error
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return {"state_dict": state, **description}


def read_card(path: Path) -> dict[str, Any]:
    """Read the card beside an exported file.

    Raises:
        UserError: if there is none, or it is no JSON object.
    """
    card = card_path(path)
    if not card.is_file():
        raise UserError(f"there is no card {card}: it comes with {path.name} and holds its sha256")
    try:
        found = json.loads(card.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{card} is damaged: fetch it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{card} is damaged: fetch it again")
    return found


def card_path(path: Path) -> Path:
    """Return where the card of an exported file is: beside it, with ``.json`` added."""
    return path.with_name(path.name + ".json")


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
