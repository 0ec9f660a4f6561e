"""A split that fits is kept on the GPU as a whole; a larger one is handed over batch by batch."""

from types import SimpleNamespace

import pytest
import torch
from random_images import RandomImages

from l2nnn_lightning.data.image_set import ImageSet


@pytest.mark.parametrize("fits", [True, False])
def test_what_goes_to_the_gpu(fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[torch.device] = []

    def to(split: ImageSet, device: torch.device) -> ImageSet:
        moved.append(device)
        meta = torch.device("meta")  # stands for the GPU
        return ImageSet(split.images.to(meta), split.labels.to(meta))

    monkeypatch.setattr(ImageSet, "to", to)
    datamodule = RandomImages(batch_size=10)
    datamodule.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=1, global_rank=0, strategy=SimpleNamespace(root_device=torch.device("cuda", 3))
    )
    datamodule.setup("fit")
    size = datamodule.train_set.num_bytes
    monkeypatch.setattr(RandomImages, "resident_bytes", size if fits else size - 1)
    loader = datamodule.train_dataloader()
    assert moved == ([torch.device("cuda", 3)] if fits else [])
    assert loader.pin_memory == (not fits)
    assert (loader.dataset is datamodule.train_set) == (not fits)
    assert datamodule.train_set.images.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_from_the_gpu_are_those_from_memory() -> None:
    datamodule = RandomImages(batch_size=10)
    expected = list(datamodule.train_dataloader())
    datamodule.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=1, global_rank=0, strategy=SimpleNamespace(root_device=torch.device("cuda"))
    )
    for ours, theirs in zip(datamodule.train_dataloader(), expected, strict=True):
        assert ours.image.is_cuda
        assert torch.equal(ours.image.cpu(), theirs.image)
        assert torch.equal(ours.label.cpu(), theirs.label)
