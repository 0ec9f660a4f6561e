"""Images at a program's own decision boundary, by bisection; nothing of the proofs takes part."""

from collections.abc import Callable

import torch
from torch import Tensor

from l2nnn_lightning.models import Certified, Network


def neighbours(label_of: Callable[[Tensor], Tensor], one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Bisect between two images (1, C, H, W) of different labels, until nothing lies between them."""
    first = int(label_of(one))
    assert int(label_of(other)) != first
    for _ in range(200):
        middle = (one + other) / 2
        if torch.equal(middle, one) or torch.equal(middle, other):
            break
        if int(label_of(middle)) == first:
            one = middle
        else:
            other = middle
    return one, other


def assert_no_claim_is_broken(network: Network, one: Tensor, other: Tensor) -> None:
    """At a boundary of either program, neither side may claim to be further from the other than it is."""
    seen = 0
    for program in ("float64", "float32"):
        certified = Certified(network, program)  # type: ignore[arg-type]
        dtype = next(certified.program.parameters()).dtype

        def label_of(image: Tensor, certified: Certified = certified) -> Tensor:
            return certified.logits(image).argmax(1)

        if int(label_of(one.to(dtype))) == int(label_of(other.to(dtype))):
            continue  # it tells them not apart
        seen += 1
        pair = neighbours(label_of, one.to(dtype), other.to(dtype))
        distance = float((pair[0].double() - pair[1].double()).norm())
        for image in pair:
            label, _, radius = certified(image)
            assert int(label) == int(label_of(image))
            assert 0 <= float(radius) <= distance
    assert seen
