"""The files of MNIST, Fashion-MNIST and CIFAR-10: fetched, read, or missed in one line."""

import gzip
import pickle
import socket
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from torchvision.datasets.mnist import read_image_file, read_label_file

from l2nnn_lightning.data import CIFAR10DataModule, FashionMNISTDataModule, ImageDataModule, MNISTDataModule
from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.data.mnist import find_idx, read_idx

DOWNLOADED = [MNISTDataModule, FashionMNISTDataModule, CIFAR10DataModule]


@pytest.fixture(params=[URLError("no network"), TimeoutError("timed out in mid download")], ids=str)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Refuse connections, and note the timeout in force at each attempt."""
    timeouts = []

    def refuse(*args: Any, **kwargs: Any) -> None:
        timeouts.append(socket.getdefaulttimeout())
        raise request.param

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
    assert "no network" in message or "(timed out in mid download)" in message
    assert "configs/mnist5k.yaml" in message
    assert capsys.readouterr().out == ""
    # It tried, it could not hang, and the timeout of the rest of the process is as before.
    assert no_network
    assert all(timeout is not None and timeout <= 10 for timeout in no_network)
    assert socket.getdefaulttimeout() is None


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("datamodule", DOWNLOADED)
def test_a_failed_download_leaves_no_folders(datamodule: type[ImageDataModule], tmp_path: Path) -> None:
    with pytest.raises(UserError):
        datamodule(root=str(tmp_path / "new" / "data")).prepare_data()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("datamodule", DOWNLOADED)
def test_setup_never_downloads(
    datamodule: type[ImageDataModule], tmp_path: Path, no_network: list[float | None]
) -> None:
    with pytest.raises(UserError, match="was not found in"):
        datamodule(root=str(tmp_path)).setup("test")
    assert not no_network


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


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(raw: Path, train: int = 30, test: int = 10, *, compressed: bool = True) -> None:
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("t10k", test)):
        for kind, array in (
            ("images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28))),
            ("labels-idx1-ubyte", rng.integers(0, 10, count)),
        ):
            content = gzip.compress(idx_bytes(array)) if compressed else idx_bytes(array)
            (raw / f"{split}-{kind}{'.gz' if compressed else ''}").write_bytes(content)


@pytest.mark.parametrize("compressed", [True, False])
def test_read_idx_agrees_with_torchvision(tmp_path: Path, compressed: bool) -> None:
    write_mnist(tmp_path / "ours", compressed=compressed)
    write_mnist(tmp_path / "theirs", compressed=False)
    for name, reader in (("train-images-idx3-ubyte", read_image_file), ("t10k-labels-idx1-ubyte", read_label_file)):
        path = find_idx(tmp_path / "ours", name)
        ours, theirs = read_idx(path), reader(str(tmp_path / "theirs" / name))
        assert ours.dtype == torch.uint8
        assert torch.equal(ours.long(), theirs.long())


@pytest.mark.parametrize("damage", ["truncated gzip", "no gzip", "short", "long", "empty", "wrong type"])
def test_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    good = idx_bytes(np.arange(6).reshape(2, 3))
    content = {
        "truncated gzip": gzip.compress(good)[:-9],
        "no gzip": good,
        "short": gzip.compress(good[:-1]),
        "long": gzip.compress(good + b"\0"),
        "empty": b"",
        "wrong type": gzip.compress(b"\0\0\x0d" + good[3:]),
    }[damage]
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"labels\.gz is damaged"):
        read_idx(path)


def test_mnist_reads_compressed_files_in_a_read_only_folder(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    raw.chmod(0o555)
    before = sorted(raw.iterdir())
    data = MNISTDataModule(root=str(tmp_path), val_size=5)
    data.prepare_data()
    data.setup()
    assert (len(data.train_set), len(data.test_set)) == (25, 10)
    assert sorted(raw.iterdir()) == before
    raw.chmod(0o755)
    write_mnist(tmp_path / "theirs" / "MNIST" / "raw", compressed=False)
    theirs = torchvision.datasets.MNIST(tmp_path / "theirs", train=False)
    assert torch.equal(data.test_set.images[:, 0], theirs.data)
    assert torch.equal(data.test_set.labels, theirs.targets)


def test_mnist_with_unequal_numbers_of_images_and_labels_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.zeros(3))))
    with pytest.raises(UserError, match=r"holds \(30, 28, 28\) train images but \(3,\) labels"):
        MNISTDataModule(root=str(tmp_path)).setup("fit")
