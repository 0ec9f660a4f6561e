import torch

from l2nnn_lightning.nn.kmeans import kmeans


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs() -> torch.Tensor:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return (centres[:, None] + torch.randn(3, 40, 2, generator=seeded(1))).flatten(0, 1)


def test_centres_are_the_means_of_what_is_nearest_to_them() -> None:
    points = blobs()
    centres = kmeans(points, 4, seeded(), iterations=50)
    nearest = torch.cdist(points, centres).argmin(1)
    for k, centre in enumerate(centres):
        torch.testing.assert_close(centre, points[nearest == k].mean(0))


def test_equal_seeds_give_equal_centres_whatever_the_global_generator_did() -> None:
    first = kmeans(blobs(), 5, seeded(3))
    torch.rand(7)
    assert torch.equal(first, kmeans(blobs(), 5, seeded(3)))
    assert not torch.equal(first, kmeans(blobs(), 5, seeded(4)))


def test_an_iteration_of_thousands_of_points_is_that_of_all_at_once() -> None:
    points = torch.rand(9000, 3, generator=seeded(2))
    nearest = torch.cdist(points, kmeans(points, 4, seeded(), iterations=0)).argmin(1)
    means = torch.stack([points[nearest == k].mean(0) for k in range(4)])
    torch.testing.assert_close(kmeans(points, 4, seeded(), iterations=1), means)


def test_fewer_points_than_centres_are_used_repeatedly() -> None:
    points = torch.tensor([[1.0], [2.0]])
    assert kmeans(points, 5, seeded()).flatten().unique().tolist() == [1, 2]
