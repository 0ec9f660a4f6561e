"""Freed memory stays with the process of a command, unless the user has tuned malloc."""

import os
import platform
import subprocess
import sys

import pytest

from l2nnn_lightning.training.command_line import main

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc only")

# The pages that eight training steps touch for the first time, once the heap has settled in thirty-two others.
_PROGRAM = """
import resource, sys
import torch
from l2nnn_lightning.training.heap import keep_freed_memory

took_effect = keep_freed_memory() if sys.argv[1] == "keep" else False
torch.set_num_threads(1)
network = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 5), torch.nn.ReLU(), torch.nn.AvgPool2d(2))
image = torch.rand(128, 1, 28, 28)
faults = []
for _ in range(40):
    network(image).square().sum().backward()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(took_effect, faults[-1] - faults[-9])
"""


def _faults(mode: str, **environment: str) -> tuple[str, int]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", _PROGRAM, mode]
    output = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, check=True)
    took_effect, faults = output.stdout.split()
    return took_effect, int(faults)


def test_training_steps_use_freed_memory_again() -> None:
    took_effect, faults = _faults("keep")
    assert took_effect == "True"
    assert 10 * faults < _faults("default")[1]


def test_the_users_own_tuning_wins() -> None:
    assert _faults("keep", MALLOC_ARENA_MAX="2")[0] == "False"


def test_only_a_command_with_a_process_of_its_own_changes_malloc(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr("l2nnn_lightning.training.command_line.keep_freed_memory", lambda: calls.append(True))
    assert main(lambda _: None, []) == 0
    assert calls == []
    monkeypatch.setattr(sys, "argv", ["command"])
    assert main(lambda _: None) == 0
    assert calls == [True]
