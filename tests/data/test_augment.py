import pytest
import torch

from l2nnn_lightning.data.augment import AUGMENTATIONS, Augmentation, random_affine, random_crop, random_flip


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augmented_images_keep_shape_type_and_range(name: Augmentation, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    image = torch.randint(256, (8, 3, 9, 7)).to(dtype)
    result = AUGMENTATIONS[name](image)
    assert result.shape == image.shape
    assert result.dtype == dtype
    assert result.min() >= 0
    assert result.max() <= 255


def test_crop_moves_the_image_and_fills_with_zeros() -> None:
    torch.manual_seed(0)
    image = torch.zeros(400, 2, 7, 7)
    image[:, :, 3, 3] = torch.arange(1.0, 401.0)[:, None]
    moved = random_crop(image, 2)
    where = moved[:, 0].nonzero()
    # One bright pixel an image, the same in both channels, its value unchanged, and all 25 places occur.
    assert where[:, 0].tolist() == list(range(400))
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert moved.amax((1, 2, 3)).tolist() == list(range(1, 401))
    assert {tuple(place) for place in where[:, 1:].tolist()} == {(y, x) for y in range(1, 6) for x in range(1, 6)}


@pytest.mark.parametrize("side", [4, 7])
def test_crop_may_fill_with_the_mirrored_image(side: int) -> None:
    torch.manual_seed(0)
    image = torch.randint(256, (800, 2, side, 5), dtype=torch.uint8)
    moved = random_crop(image, 3, reflect=True)
    padded = torch.nn.functional.pad(image.float(), (3, 3, 3, 3), mode="reflect")
    windows = padded.unfold(2, side, 1).unfold(3, 5, 1).flatten(2, 3)  # (B, C, places, H, W)
    found = (windows == moved[:, :, None]).all(4).all(3).all(1)
    assert bool(found.any(1).all())
    assert bool(found.any(0).all())  # all 49 places occur


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_no_padding_and_no_strength_change_nothing(dtype: torch.dtype) -> None:
    image = torch.randint(256, (3, 2, 5, 4)).to(dtype)
    assert torch.equal(random_crop(image, 0), image)
    torch.testing.assert_close(random_affine(image, 0.0), image)


def test_flip_mirrors_about_half_of_the_images() -> None:
    torch.manual_seed(0)
    image = torch.rand(400, 1, 2, 5)
    result = random_flip(image)
    mirrored = (result == image[..., [4, 3, 2, 1, 0]]).flatten(1).all(1)
    same = (result == image).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 160 < int(mirrored.sum()) < 240  # four standard deviations around 200


def test_affine_moves_each_image_a_little_and_in_its_own_way() -> None:
    torch.manual_seed(0)
    blob = torch.zeros(1, 1, 29, 29)
    blob[..., 12:17, 12:17] = 1.0
    moved = random_affine(blob.repeat(200, 1, 1, 1), 0.08)[:, 0]
    place = torch.arange(29.0) - 14
    mass = moved.sum((1, 2))
    x, y = (moved.sum(1) * place).sum(1) / mass, (moved.sum(2) * place).sum(1) / mass
    for centre in (x, y):
        # 0.02 of 29 pixels, either way.
        assert 0.4 < float(centre.abs().max()) < 0.65
        assert abs(float(centre.mean())) < 0.1
    assert 0.8 < float(mass.min()) / 25 < 0.95 < 1.05 < float(mass.max()) / 25 < 1.2
