"""What a training shows in a terminal: a banner, and every epoch's line, none drawn over by the bar."""

import logging
import re
import sys
from pathlib import Path

import pytest
from made_up_images import write_config
from run_files import ELSEWHERE
from screen import run_in_terminal, screen_of
from terminal import Terminal

from l2nnn_lightning.__main__ import train

pytestmark = ELSEWHERE


def test_a_terminal_is_laid_out_as_terminals_do() -> None:
    assert screen_of("abcdef\r\nx", 4) == ["abcd", "ef", "x"]  # what is too long wraps
    assert screen_of("bar\r\x1b[2Kline\r\n", 9) == ["line", ""]  # what is erased is gone
    assert screen_of("one\r\ntwo\x1b[1A\rX", 9) == ["Xne", "two"]  # what is gone back to is drawn over


@pytest.mark.parametrize("width", [80, 100, 120])
def test_every_epochs_line_stays_in_a_terminal(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Lines and bar had two consoles, which drew over each other, and metrics wrapped."""
    config = write_config(tmp_path / "a.yaml", images)
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def program() -> int:
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        logging.getLogger("pytorch_lightning").addHandler(logging.StreamHandler(sys.stderr))
        code = train(["--config", config, "--run_dir", "run"])
        sys.stdout.flush()
        sys.stderr.flush()
        return code

    code, written = run_in_terminal(program, width)
    assert code == 0, written
    assert "━" in written  # there was a bar
    lines = [line for line in screen_of(written, width) if line]
    assert not [line for line in lines if "━" in line]  # and it is gone
    assert lines[0] == "data        ImageFolder, 40 training images, 8 held out, 1x6x6, 3 labels"
    assert re.fullmatch(r"network     ConvL2NNN, [\d,]+ parameters, soft \(penalty mode\)", lines[1])
    assert lines[2].startswith("training    PaperLoss, ScaledAdam, 4 epochs of 4 steps on cpu")
    assert lines[3] == "run folder  run"
    epochs = [line for line in lines if line.startswith("epoch")]
    assert [line.split()[1] for line in epochs] == ["1/4", "2/4", "3/4", "4/4"]
    assert all(
        re.search(r"acc(uracy)? \d+\.\d\d%  .*gap \d\.\d{3}  .*radius \d\.\d{3}  .* s$", line) for line in epochs
    )
    # The figures of the second epoch are those of before the switch at its end.
    assert [("soft" in line, "hard" in line) for line in epochs] == [(True, False)] * 2 + [(False, True)] * 2
    assert sum(line.startswith("Switched to hard scaling after epoch 2, step ") for line in lines) == 1
    assert lines[-1] == "run folder: run"


def test_accuracy_on_noisy_held_out_labels_is_called_so(images: Path, tmp_path: Path, terminal: Terminal) -> None:
    config = write_config(tmp_path / "a.yaml", images)
    assert train(["--config", config, "--data.label_noise", "0.5", "--trainer.max_epochs", "1"]) == 0
    assert "  noisy val accuracy " in terminal.read()[1]
