from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoint(finished: Path) -> str:
    return str(finished / "checkpoints" / "best.ckpt")
