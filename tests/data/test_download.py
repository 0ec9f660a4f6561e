import pickle
import socket
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision

from l2nnn_lightning.data import CIFAR10DataModule, FashionMNISTDataModule, ImageDataModule, MNISTDataModule
from l2nnn_lightning.data.errors import UserError

DOWNLOADED = [MNISTDataModule, FashionMNISTDataModule, CIFAR10DataModule]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Refuse connections, and note the timeout in force at each attempt."""
    timeouts = []

    def refuse(*args: Any, **kwargs: Any) -> None:
        timeouts.append(socket.getdefaulttimeout())
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return timeouts


@pytest.mark.parametrize("datamodule", DOWNLOADED)
def test_missing_data_without_network_is_one_line(
    datamodule: type[ImageDataModule],
    tmp_path: Path,
    no_network: list[float | None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UserError) as caught:
        datamodule(root=str(tmp_path)).prepare_data()
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path) in message
    assert "could not be downloaded" in message
    assert "no network" in message
    assert "configs/mnist5k.yaml" in message
    assert capsys.readouterr().out == ""
    # It tried, it could not hang, and the timeout of the rest of the process is as before.
    assert no_network
    assert all(timeout is not None and timeout <= 10 for timeout in no_network)
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("datamodule", DOWNLOADED)
def test_setup_never_downloads(
    datamodule: type[ImageDataModule], tmp_path: Path, no_network: list[float | None]
) -> None:
    with pytest.raises(UserError, match="was not found in"):
        datamodule(root=str(tmp_path)).setup("test")
    assert not no_network


def test_read_timeout_in_mid_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stall(*args: Any, **kwargs: Any) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib.request.urlopen", stall)
    with pytest.raises(UserError, match=r"could not be downloaded \(timed out\)"):
        MNISTDataModule(root=str(tmp_path)).prepare_data()


def test_cifar10_reads_the_batches_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = torchvision.datasets.CIFAR10
    folder = tmp_path / source.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows, labels = rng.integers(0, 256, (12, 3072), dtype=np.uint8), rng.integers(0, 10, 12).tolist()
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for position, name in enumerate(names):
        part = slice(2 * position, 2 * position + 2)
        (folder / name).write_bytes(pickle.dumps({"data": rows[part], "labels": labels[part]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": []}))
    # The checksums of the real files.
    monkeypatch.setattr(source, "train_list", [[name, None] for name in names[:5]])
    monkeypatch.setattr(source, "test_list", [[names[5], None]])
    monkeypatch.setitem(source.meta, "md5", None)
    data = CIFAR10DataModule(root=str(tmp_path), val_size=0)
    data.prepare_data()
    data.setup()
    assert np.array_equal(data.train_set.images.numpy(), rows[:10].reshape(10, 3, 32, 32))
    assert data.train_set.labels.tolist() == labels[:10]
    assert np.array_equal(data.test_set.images.numpy(), rows[10:].reshape(2, 3, 32, 32))
    assert data.test_set.images.is_contiguous()
