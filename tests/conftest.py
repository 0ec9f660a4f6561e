import os

# One thread, here and in subprocesses: tests fork, and a fork of a process whose OpenMP threads have started waits for
# them for ever. Tiny tensors gain nothing from more.
os.environ["OMP_NUM_THREADS"] = "1"

import logging
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Terminal

# Busy machines make timings unreliable; the same examples on every run keep a failure repeatable.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("suite")
torch.set_num_threads(1)
# A shell lets what it runs in the background ignore Ctrl-C; the tests of it need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of made-up images of three labels."""
    from made_up_images import write_image_folder

    return write_image_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of train.py on them."""
    from made_up_images import write_config

    from l2nnn_lightning.__main__ import train

    folder = tmp_path_factory.mktemp("finished")
    assert train(["--config", write_config(folder / "tiny.yaml", images), "--run_dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder than the checkout, and no run folder inherited."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("L2NNN_RUN_DIR", raising=False)


@pytest.fixture
def terminal(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Terminal:
    """What the commands print."""
    return Terminal(capfd, caplog)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _heard() -> None:
    """Lightning's log comes through, whatever its import, other tests or libraries have done to loggers."""
    logging.disable(logging.NOTSET)
    for name, level in (("pytorch_lightning", logging.INFO), ("pytorch_lightning.utilities.rank_zero", logging.NOTSET)):
        logger = logging.getLogger(name)
        logger.propagate, logger.disabled, logger.handlers[:] = True, False, []
        logger.setLevel(level)
