"""What is installed from the wheel, in a fresh environment and from another folder, is the whole program."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from l2nnn_lightning import __version__

ROOT = Path(__file__).parents[2]
BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist')"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what is tracked, without a network."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy2(ROOT / name, source)
    for name in ("l2nnn_lightning", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD], cwd=source, check=True, capture_output=True, timeout=120)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it, which finds everything else where the tests run."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(command, check=True, timeout=120)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin" / "l2nnn"


def run(program: Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "L2NNN"))}
    return subprocess.run([program, *args], cwd=cwd, env=env, text=True, capture_output=True, timeout=200, check=False)


def test_the_wheel_holds_every_module_config_and_pretrained_classifier(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = ROOT / "l2nnn_lightning"
    files = [path.relative_to(ROOT) for path in package.rglob("*") if path.suffix in (".py", ".typed", ".safetensors")]
    files += [path.relative_to(ROOT) for path in (package / "pretrained").glob("*.json")]
    configs = [Path("l2nnn_lightning") / path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")]
    assert held == {path.as_posix() for path in (*files, *configs)}


def test_what_needs_an_extra_is_not_asked_of_everybody(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    needed = [line for line in archive.read(name).decode().splitlines() if line.startswith("Requires-Dist: ")]
    core = [line.removeprefix("Requires-Dist: ") for line in needed if "extra ==" not in line]
    assert any(re.match(r"torch\b(?!-)", line) for line in core)
    for optional in ("wandb-workspaces", "onnx", "pytest", "mkdocs"):
        assert not [line for line in core if line.startswith(optional)]
        assert [line for line in needed if f": {optional}" in line]


def test_the_demo_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"l2nnn-lightning {__version__}\n")
    done = run(installed, "demo", "--fast", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "certified accuracy, L2 radius 0.5" in done.stdout
    folder = tmp_path / "runs" / "demo" / "version_0"
    assert (folder / "evaluation" / "report.md").is_file()
    assert "OrthogonalMomentum" in (folder / "config.yaml").read_text(encoding="utf-8")


def test_a_config_is_named_from_any_folder(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "train", "--data.root", "x", "--config", "mnist_quik", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: there is no config mnist_quik: did you mean mnist_quick?\n")
