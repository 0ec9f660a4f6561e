"""The house: imports point down, rooms are small, and commands answer mistakes at once and in one line."""

import ast
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from terminal import Terminal

from l2nnn_lightning import __version__
from l2nnn_lightning.__main__ import _COMMANDS, main

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
    entries = {path.name for path in PACKAGE.iterdir()} - {"pretrained", "py.typed", "__pycache__"}
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


def test_the_package_shows_its_public_names() -> None:
    import l2nnn_lightning

    assert dir(l2nnn_lightning) == ["L2NNNClassifier", "OrdinaryClassifier", "__version__", "load_pretrained"]
    assert all(hasattr(l2nnn_lightning, name) for name in dir(l2nnn_lightning))


#: Command lines that need nothing but the standard library and jsonargparse, with their exit codes.
LIGHT = [
    (["--version"], 0),
    (["--help"], 0),
    ([], 2),
    (["trian"], 2),
    (["train", "--help"], 0),
    (["train", "--confg", "a.yaml"], 2),
    (["train", "--model.omega", "1"], 2),
    (["train", "test"], 2),
    *(([command, option], code) for command in _COMMANDS for option, code in (("--help", 0), ("--no_such_option", 2))),
]


def test_help_and_mistakes_import_nothing_heavy() -> None:
    """Importing torch takes longer than everything else that these do."""
    program = f"""
import sys
from l2nnn_lightning.__main__ import main
for args, expected in {LIGHT}:
    try:
        code = main(args)
    except SystemExit as end:
        code = end.code
    assert code == expected, (args, code)
    heavy = {{"torch", "numpy", "pytorch_lightning", "lightning_fabric", "pandas", "PIL"}} & set(sys.modules)
    assert not heavy, (args, heavy)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"l2nnn-lightning {__version__}\nusage: python -m l2nnn_lightning COMMAND")
    assert done.stderr.splitlines()[:4] == [
        "error: there is no command 'trian': did you mean train?",
        "error: there is no option --confg: did you mean --config?",
        "error: --model.omega has moved: use --model.objective.omega",
        "error: train.py has no command 'test': use 'fit', or nothing; evaluate with evaluate.py",
    ]


@pytest.mark.parametrize(("given", "meant"), [("evalute", "did you mean evaluate?"), ("xyz", "choose one of train, ")])
def test_mistyped_command_is_refused_in_one_line(terminal: Terminal, given: str, meant: str) -> None:
    assert meant in terminal.error_line(main, given, "--anything")
