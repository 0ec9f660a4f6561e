"""A hundred corruptions of a checkpoint, an image folder and a config: one line, exit code 2, no file changed."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from made_up_images import write_config
from terminal import Terminal

from l2nnn_lightning.__main__ import evaluate, main, train

pytestmark = pytest.mark.usefixtures("elsewhere")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(terminal: Terminal, command: Callable[[list[str]], int], args: list[str], why: str) -> bool:
    """Run a command on something corrupt. It may be whole enough to be understood; else it must be refused properly."""
    before = files(Path())
    terminal.read()
    code = command(args)
    _, err = terminal.read()
    if code == 0:
        return False
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, len(said)) == (2, 1), f"{why}: {code}, {err}"
    assert "Traceback" not in err
    assert files(Path()) == before, why
    return True


def test_corrupt_checkpoints(finished: Path, terminal: Terminal) -> None:
    content, chance, count = (finished / "checkpoints" / "last.ckpt").read_bytes(), random.Random(1), 0
    for case in range(34):
        damaged = bytearray(content)
        kind = ("cut", "zeroed", "flipped", "grown")[case % 4]
        if kind == "cut":
            del damaged[chance.randrange(len(damaged)) :]
        elif kind == "zeroed":
            start = chance.randrange(len(damaged))
            damaged[start : start + 2000] = bytes(len(damaged[start : start + 2000]))
        elif kind == "flipped":  # in the directory at the end of the archive, or the description at its head
            for _ in range(20):
                damaged[chance.choice([chance.randrange(800), -1 - chance.randrange(800)])] ^= 1 << chance.randrange(8)
        else:
            damaged = bytearray(chance.randbytes(500)) + damaged[: chance.randrange(len(damaged))]
        Path("bad.ckpt").write_bytes(damaged)
        count += refused(
            terminal,
            main,
            ["export", "--ckpt_path", "bad.ckpt", "--format", "safetensors", "--output", "o.safetensors"],
            f"{case} {kind}",
        )
        for name in ("o.safetensors", "o.safetensors.json"):
            Path(name).unlink(missing_ok=True)
    assert count >= 20  # the others are damaged where nothing is read


def test_corrupt_image_folders(
    images: Path, finished: Path, tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("accuracy_by_radius", "accuracy_by_gap", "gap_histogram", "gallery", "iterations", "history"):
        monkeypatch.setattr(f"l2nnn_lightning.evaluation.report.report.plot_{name}", lambda *_: None)
    checkpoint = str(finished / "checkpoints" / "last.ckpt")
    chance, count = random.Random(2), 0
    for case in range(33):
        folder = tmp_path / "photos"
        shutil.copytree(images, folder)
        paths = sorted(folder.rglob("*.png"))
        path = chance.choice(paths)
        kind = ("cut", "noise", "text", "size", "label", "empty", "folder", "gone")[case % 8]
        if kind == "cut":
            path.write_bytes(path.read_bytes()[: chance.randrange(60)])
        elif kind == "noise":
            path.write_bytes(chance.randbytes(100))
        elif kind == "text":
            path.write_text("not an image", encoding="utf-8")
        elif kind == "size":
            from PIL import Image

            Image.new("L", (chance.randrange(7, 20), 5)).save(path)
        elif kind == "label":
            shutil.rmtree(path.parent)
            (folder / "train").mkdir()
        elif kind == "empty":
            for file in path.parent.iterdir():
                file.unlink()
        elif kind == "folder":
            path.unlink()
            path.mkdir()
        else:
            shutil.rmtree(folder)
        options = ["--ckpt_path", checkpoint, "--root", str(folder), "--split", "train", "--output", "out"]
        count += refused(terminal, evaluate, options, f"{case} {kind} {path.name}")
        for name in ("photos", "out"):
            shutil.rmtree(name, ignore_errors=True)
    assert count >= 20  # an image less is no mistake, nor is one that is not read


def test_corrupt_configs(images: Path, tmp_path: Path, terminal: Terminal) -> None:
    chance, count = random.Random(3), 0
    text = Path(write_config(tmp_path / "a.yaml", images, trainer__max_epochs=1)).read_text(encoding="utf-8")
    for case in range(33):
        lines = text.splitlines()
        at = chance.randrange(len(lines))
        kind = ("word", "value", "indent", "bytes", "cut", "key")[case % 6]
        if kind == "word":
            lines[at] = lines[at].replace(":", "x:", 1)
        elif kind == "value":
            lines[at] = (
                lines[at].split(":")[0] + ": " + chance.choice(["[", "-1e999", "{a: b}", "'", "&x *y", "!!python/x y"])
            )
        elif kind == "indent":
            lines[at] = " " * chance.randrange(1, 5) + lines[at]
        elif kind == "cut":
            lines = [*lines[:at], lines[at][: len(lines[at]) // 2]]
        elif kind == "key":
            lines.insert(at, lines[at].split(":")[0] + "_: 7")
        content = "\n".join(lines).encode()
        if kind == "bytes":
            content = content[: len(content) // 2] + chance.randbytes(9) + content[len(content) // 2 :]
        Path("bad.yaml").write_bytes(content)
        count += refused(
            terminal,
            train,
            ["--config", "bad.yaml", "--run_dir", "run"],
            f"{case} {kind} {lines[min(at, len(lines) - 1)]}",
        )
        shutil.rmtree("run", ignore_errors=True)
    assert count >= 22  # some are another config, and as good


def test_a_corrupt_results_file_is_one_line(finished: Path, tmp_path: Path, terminal: Terminal) -> None:
    shutil.copytree(finished, tmp_path / "run")
    Path("run/config.yaml").write_text(yaml.safe_dump({"model": 3}), encoding="utf-8")
    assert refused(terminal, train, ["--ckpt_path", "run/checkpoints/last.ckpt"], "config of a run")
    assert refused(terminal, evaluate, ["--ckpt_path", "run/config.yaml"], "no checkpoint")
