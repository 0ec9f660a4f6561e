"""The house: imports point down, rooms are small, and commands start without anything heavy."""

import ast
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from l2nnn_lightning.__main__ import _COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "l2nnn_lightning"
#: What each room may import besides itself. Files named __main__ stand above all of them.
BELOW = {"nn": {""}, "models": {"", "nn"}, "attacks": {"", "nn"}, "data": {"", "nn", "attacks"}}
BELOW["training"] = {*BELOW, ""}
BELOW["evaluation"] = {*BELOW, ""}
BELOW["experiments"] = {*BELOW, ""}
#: Classes of ours, which are asked and not told apart.
OURS = re.compile(r"\w*(Classifier|L2NNNs?|Network|Net|RNN|Twin|Objective|Loss|CrossEntropy|Radius\w+|DataModule)\b")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(name: str) -> str:
    return "__main__" if name.endswith("__main__") else [*name.split("."), ""][1]


SOURCES = {name_of(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str) -> set[str]:
    """Name the modules of the package that a module imports, also within its functions."""
    names = []
    for node in ast.walk(ast.parse(SOURCES[name])):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports by dots"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [one if one in SOURCES else f"{node.module}" for one in inner]
    return {one for one in names if one in SOURCES} - {name}


IMPORTS = {name: imports(name) for name in SOURCES}


@pytest.mark.parametrize("room", BELOW)
def test_imports_point_down(room: str) -> None:
    arrows = {(name, to) for name in SOURCES if room_of(name) == room for to in IMPORTS[name]}
    assert not {f"{name} -> {to}" for name, to in arrows if room_of(to) not in {room, *BELOW[room]}}


def test_no_imports_run_in_a_circle() -> None:
    # The package imports its public names on first use; that it needs none of them is tested below.
    left = {name: needed for name, needed in IMPORTS.items() if name != "l2nnn_lightning"}
    while done := {name for name, needed in left.items() if not needed & left.keys()}:
        left = {name: needed for name, needed in left.items() if name not in done}
    while unneeded := left.keys() - set(chain(*left.values())):  # they lead to a circle, and are in none
        left = {name: needed for name, needed in left.items() if name not in unneeded}
    assert not left


def test_rooms_and_files_stay_small() -> None:
    entries = {path.name for path in PACKAGE.iterdir()} - {"pretrained", "__pycache__"}
    assert len(entries) <= 9, entries
    files = [path for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*.py")]
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert not {name: length for name, length in lengths.items() if length > 300}


def test_our_own_classes_are_asked_and_not_told_apart() -> None:
    nodes = {(name, node) for name, text in SOURCES.items() for node in ast.walk(ast.parse(text))}
    calls = [(name, node) for name, node in nodes if isinstance(node, ast.Call)]
    asked = [(name, call.args[1]) for name, call in calls if ast.unparse(call.func) == "isinstance"]
    assert not sorted(f"{name}: {ast.unparse(kind)}" for name, kind in asked if OURS.search(ast.unparse(kind)))
    assert len(asked) <= 60


def test_the_package_alone_imports_nothing_of_it() -> None:
    code = "import sys, l2nnn_lightning; print(*(name for name in sys.modules if name.startswith('l2nnn_lightning.')))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60, cwd=ROOT) == "\n"


@pytest.mark.parametrize("command", _COMMANDS)
@pytest.mark.parametrize("option", ["--help", "--no_such_option"])
def test_commands_answer_without_torch(command: str, option: str) -> None:
    code = f"""
import contextlib, io, sys
from l2nnn_lightning.__main__ import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["{command}", "{option}"])
print(*sys.modules)"""
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60, cwd=ROOT)
    assert not {"torch", "pytorch_lightning", "numpy", "pandas"} & set(loaded.split())
