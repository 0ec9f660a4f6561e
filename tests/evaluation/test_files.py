import json
import math
from pathlib import Path

import pytest

from l2nnn_lightning.evaluation.report.files import hardware, versions, write_json, write_text


def test_json_is_strict_sorted_and_free_of_nan(tmp_path: Path) -> None:
    values = {"z": math.nan, "a": [1.5, math.inf, (2, True)], "m": {"path": Path("a/b"), "none": None, "é": "ü"}}
    write_json(tmp_path / "new" / "results.json", values)
    text = (tmp_path / "new" / "results.json").read_text(encoding="utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    parsed = json.loads(text, parse_constant=refuse)
    assert parsed == {
        "a": [1.5, None, [2, True]],
        "m": {"none": None, "path": str(Path("a/b")), "é": "ü"},
        "z": None,
    }
    assert list(parsed) == ["a", "m", "z"]
    assert text.endswith("}\n")


def test_what_json_cannot_hold_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")

    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_versions_and_hardware_name_what_numbers_depend_on() -> None:
    import torch

    found = versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"python", "l2nnn-lightning", "numpy"} <= set(found)
    assert "CPU core" in hardware()
