"""Read what the W&B client wrote offline: a log of protobuf records in the format of leveldb."""

import contextlib
import json
import struct
import time
from pathlib import Path
from typing import Any

_BLOCK = 32768


def read_records(folder: Path) -> list[Any]:
    """Read every record of the offline runs below a folder, in the order in which they were started."""
    records = []
    for path in sorted(folder.glob("**/wandb/offline-run-*/*.wandb"), key=lambda path: path.parent.name):
        records += _finished(path)
    return records


def _finished(path: Path) -> list[Any]:
    """Wait for the end: the client's service writes the last records after ``finish`` has returned."""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(600):
        records = []
        with contextlib.suppress(DecodeError):  # it is being written
            for data in _chunks(path.read_bytes()):
                records.append(Record())
                records[-1].ParseFromString(data)
            if records and records[-1].WhichOneof("record_type") == "exit":
                return records
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def _chunks(content: bytes) -> list[bytes]:
    assert content[:4] in (b":W&B", b"")
    position, chunks, part = 7, [], b""
    while position + 7 <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < 7:  # a header never crosses the end of a block
            position += left
            continue
        length, kind = struct.unpack("<xxxxHB", content[position : position + 7])
        part += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            chunks.append(part)
            part = b""
    return chunks


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(records: list[Any]) -> list[dict[str, Any]]:
    """What was logged, a mapping for each call."""
    return [_values(record.history.item) for record in records if record.WhichOneof("record_type") == "history"]


def summary(records: list[Any]) -> dict[str, Any]:
    """The explicit entries of the summary."""
    values: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            values |= _values(record.summary.update)
    return values


def config(records: list[Any]) -> dict[str, Any]:
    """The run's configuration."""
    values: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "config":
            values |= _values(record.config.update)
    return values


def runs(records: list[Any]) -> list[Any]:
    """How each run was started."""
    return [record.run for record in records if record.WhichOneof("record_type") == "run"]


def table_with_media(records: list[Any], name: str) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The rows of the last table of a name, as it will be uploaded, and the pictures that go with it."""
    key = "-" + name.replace("/", "") + "-"
    artifacts = [record.artifact for record in records if record.WhichOneof("record_type") == "artifact"]
    manifest = [artifact.manifest for artifact in artifacts if key in artifact.name][-1]
    files = {entry.path: Path(entry.local_path).read_bytes() for entry in manifest.contents}
    table = json.loads(files.pop(f"{name}.table.json"))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]], files
