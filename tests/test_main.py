"""``python -m l2nnn_lightning``: that it starts at once, and what it says of a mistyped command."""

import subprocess
import sys

import pytest
from terminal import Terminal

from l2nnn_lightning import __version__
from l2nnn_lightning.__main__ import main

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
    heavy = {{"torch", "numpy", "pytorch_lightning", "lightning_fabric", "torchmetrics", "PIL"}} & set(sys.modules)
    assert not heavy, (args, heavy)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"l2nnn-lightning {__version__}\nusage: python -m l2nnn_lightning COMMAND")
    assert done.stderr.splitlines() == [
        "error: there is no command 'trian': did you mean train?",
        "error: there is no option --confg: did you mean --config?",
        "error: --model.omega has moved: use --model.objective.omega",
        "error: train.py has no command 'test': use 'fit', or nothing; evaluate with evaluate.py",
    ]


@pytest.mark.parametrize(("given", "meant"), [("evalute", "did you mean evaluate?"), ("xyz", "choose one of train, ")])
def test_mistyped_command_is_refused_in_one_line(terminal: Terminal, given: str, meant: str) -> None:
    assert meant in terminal.error_line(main, given, "--anything")
