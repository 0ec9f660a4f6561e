"""Freed memory stays with the process of a command, unless the user has tuned malloc."""

import ctypes
import os
import sys
from types import SimpleNamespace

import pytest

from l2nnn_lightning.__main__ import main, run, train
from l2nnn_lightning.training.heap import keep_freed_memory


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What malloc is told, by a user who has not tuned it."""
    told: list[tuple[int, int]] = []
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "platform", "linux")
    libc = SimpleNamespace(mallopt=lambda *values: told.append(values) or 1)  # type: ignore[func-returns-value]
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    return told


def test_nothing_is_mapped_or_trimmed(calls: list[tuple[int, int]]) -> None:
    assert keep_freed_memory()
    assert calls == [(-4, 0), (-1, -1)]  # M_MMAP_MAX and M_TRIM_THRESHOLD in malloc.h


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_the_users_own_tuning_wins(calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "2")
    assert not keep_freed_memory()
    assert calls == []


def test_only_a_command_with_a_process_of_its_own_changes_malloc(
    calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    for command in (train, lambda args: main(["train", *args]), lambda args: run("train", args)):
        assert command(["--bogus"]) == 2
    assert calls == []
    monkeypatch.setattr(sys, "argv", ["train.py", "--bogus"])
    assert train() == 2
    assert len(calls) == 2
