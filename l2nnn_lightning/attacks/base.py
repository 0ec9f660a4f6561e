"""What all attacks share: whom to attack, how often, what counts as broken, and how it is measured."""

import contextlib
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchattacks.attack import Attack

__all__ = ["AttackResult", "ImageAttack", "NormKind", "check_at_least", "check_choice", "check_positive", "distance"]
__all__ += ["spread", "undisturbed"]

NormKind = Literal["L2", "Linf"]


class AttackResult(NamedTuple):
    """One row per sample of an attacked batch.

    Attributes:
        images: the adversarial images; the original one where the attack failed.
        norm: (B,) distance of ``images`` from the originals in the attack's norm, measured on the very images
            returned: 0 where the model was wrong to begin with, infinite where the attack failed.
        broken: (B,) whether the model is wrong on ``images`` and, where the attack has an ``eps``, ``norm <= eps``.
        iterations: (B,) gradient steps spent on the sample, 0 where none was needed.
    """

    images: Tensor
    norm: Tensor
    broken: Tensor
    iterations: Tensor


class ImageAttack(Attack, ABC):
    """Look for misclassified images near the given ones. A subclass says how, in :meth:`attempt`.

    The command line takes its name in the registry or its path ``package.module.Class``, and gives these arguments.

    Args:
        model: maps images (B, C, H, W) in [0, 1] to logits (B, K), K >= 2. Attacked in evaluation mode, left untouched.
        eps: largest distance of an adversarial image, > 0; None, where the attack allows it, for the smallest.
        max_iter: iterations of each attempt, >= 1; None takes the attack's own default.
        restarts: number of attempts, >= 1; only samples that are still unbroken see the next one.
        seed: seed of everything random, >= 0. The global random state is left as it was.
    """

    norm_kind: ClassVar[NormKind]
    needs_eps: ClassVar[bool] = True  # it works at a fixed radius only
    max_iter: int = 100  # where none is given

    def __init__(
        self,
        model: nn.Module,
        eps: float | None = None,
        max_iter: int | None = None,
        *,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        if eps is None and self.needs_eps:
            raise ValueError("eps must be given: only cw and cw_linf can search for the minimum norm")
        check_positive(eps=eps)
        check_at_least(1, max_iter=max_iter, restarts=restarts)
        check_at_least(0, seed=seed)
        # torchattacks prints a notice where a model has no parameters; here the images tell the device.
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(type(self).__name__, model)  # type: ignore[no-untyped-call]
        self.eps, self.restarts, self.seed = eps, restarts, seed
        self.max_iter = type(self).max_iter if max_iter is None else max_iter
        self.minimum_norm = eps is None  # one run gives robust accuracy at every radius
        self.outer_eps = math.inf if eps is None else eps
        self.inner_eps = self.outer_eps * (1 - 1e-5)  # a hair less, so that rounding puts no image outside

    @abstractmethod
    def attempt(self, images: Tensor, labels: Tensor, restart: int) -> tuple[Tensor, Tensor | int]:
        """Attack images (A, ...) once; ``seed + restart`` seeds what is random.

        Returns:
            Images in [0, 1], within ``inner_eps`` if there is an ``eps``, and the iterations, (A,) or one for all.
        """

    def settle(self, images: Tensor, candidates: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Improve what an attempt has found, as part of the whole batch."""
        return candidates

    def __call__(self, inputs: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Attack as torchattacks does, but with the mode of every submodule restored."""
        with undisturbed(self.model):
            adversarial: Tensor = super().__call__(inputs, labels)  # type: ignore[no-untyped-call]
        return adversarial

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Return the adversarial images found; the original where there is none (within ``eps``)."""
        return self.run(images, labels).images

    def run(self, images: Tensor, labels: Tensor, radius: Tensor | None = None) -> AttackResult:
        """Attack a batch and measure it; a ValueError if it, or what the model makes of it, cannot be attacked.

        Args:
            images: (B, ...) in [0, 1], float32 or float64.
            labels: (B,) true labels.
            radius: (B,) certified L2 radii; samples that they prove at ``eps`` are not attacked.
        """
        check_batch(images, labels, radius)
        self.device = images.device
        limit = min(self.outer_eps, torch.finfo(images.dtype).max)
        with undisturbed(self.model):
            image, label = images.detach().clone(), labels.to(torch.int64, copy=True)
            norm = torch.where(self.is_wrong(image, label), 0.0, torch.inf).to(image)
            unproven = torch.ones_like(label, dtype=torch.bool)
            if radius is not None and self.eps is not None:
                # An L-infinity ball of radius eps lies in the L2 ball of radius eps sqrt(C H W).
                reach = self.eps * (image.shape[1:].numel() ** 0.5 if self.norm_kind == "Linf" else 1)
                unproven = ~(radius.detach().to(image.device) >= reach)
            best, iterations = image.clone(), torch.zeros_like(label)
            for restart in range(self.restarts):
                todo = (unproven & (norm > (self.eps or 0.0))).nonzero()[:, 0]
                if len(todo) == 0:
                    break
                candidate = image.clone()
                candidate[todo], steps = self.attempt(image[todo], label[todo], restart)
                iterations[todo] += steps
                candidate = self.settle(image, candidate, label)
                moved = distance(candidate, image, self.norm_kind)
                closer = self.is_wrong(candidate, label) & (moved <= limit) & (moved < norm)
                best = torch.where(spread(closer, best), candidate, best)
                norm = torch.where(closer, moved, norm)
        return AttackResult(best, norm, norm <= limit, iterations)

    def logits(self, images: Tensor) -> Tensor:
        """Return the model's logits (B, K), in float32 at least."""
        logits: Tensor = self.get_logits(images)  # type: ignore[no-untyped-call]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    @torch.no_grad()
    def is_wrong(self, images: Tensor, labels: Tensor) -> Tensor:
        """Tell which images the model gets wrong, (B,)."""
        logits = self.logits(images)
        if logits.dim() != 2 or logits.shape[1] < 2:
            raise ValueError(f"the model must give logits (B, K) with K >= 2, got shape {tuple(logits.shape)}")
        lowest, highest = (int(label) for label in labels.aminmax()) if labels.numel() > 0 else (0, 0)
        if not 0 <= lowest <= highest < logits.shape[1]:
            raise ValueError(f"labels must lie in [0, {logits.shape[1] - 1}], got {lowest} to {highest}")
        return logits.argmax(1) != labels


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Attack ``model`` in evaluation mode, with gradients, and restore it whatever happens.

    The mode of every submodule and ``requires_grad`` of every parameter are put back on exit. Parameters need no
    gradient inside, which spares the graph of parametrized weights; input gradients are taken with
    ``torch.autograd.grad``. Works inside ``torch.no_grad`` and ``torch.inference_mode`` (Lightning's validation and
    test), provided the inputs are cloned inside.
    """
    modes = [(module, module.training) for module in model.modules()]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        # Flags are set one by one: train() and eval() may be overridden, and recurse.
        for module, _ in modes:
            module.training = False
        for parameter in trainable:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in trainable:
            parameter.requires_grad_(True)


def check_batch(images: Tensor, labels: Tensor, radius: Tensor | None = None) -> None:
    """Refuse, by a ValueError, a batch that an attack in the box [0, 1] would misread."""
    if images.dtype not in (torch.float32, torch.float64) or images.dim() < 2:
        raise ValueError(f"images must be a float32 or float64 batch, got {images.dtype} of {tuple(images.shape)}")
    if labels.is_floating_point() or labels.shape != images.shape[:1]:
        raise ValueError(f"labels must be {len(images)} integers, got {labels.dtype} of shape {tuple(labels.shape)}")
    if radius is not None and radius.shape != labels.shape:
        raise ValueError(f"radius must have shape {tuple(labels.shape)}, got {tuple(radius.shape)}")
    lowest, highest = (bound.item() for bound in images.aminmax()) if images.numel() > 0 else (0, 1)
    if not (lowest >= 0 and highest <= 1):
        raise ValueError(
            f"images must lie in [0, 1], got values from {lowest:.4g} to {highest:.4g}: "
            "put any standardisation inside the model"
        )


def check_at_least(lowest: int, **settings: int | None) -> None:
    """Refuse, by a ValueError that names it, a setting below ``lowest``; None means that it is not set."""
    for name, value in settings.items():
        if value is not None and not value >= lowest:
            raise ValueError(f"{name} must be >= {lowest}, got {value}")


def check_positive(**settings: float | None) -> None:
    """Refuse, by a ValueError that names it, a setting that is not positive and finite; None means not set."""
    for name, value in settings.items():
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a positive number, got {value}")


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse, by a ValueError that names them, a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value}")


def distance(images: Tensor, originals: Tensor, norm_kind: NormKind) -> Tensor:
    """Measure how far images moved, (B,), accumulated in double precision."""
    if len(images) == 0:
        return images.new_zeros(0)
    order = 2 if norm_kind == "L2" else torch.inf
    exact = torch.float32 if images.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    difference = images.flatten(1).to(exact) - originals.flatten(1).to(exact)
    lengths: Tensor = torch.linalg.vector_norm(difference, order, dim=1)
    return lengths.to(images.dtype)


def spread(values_B: Tensor, like: Tensor) -> Tensor:
    """View one value per sample so that it broadcasts over the samples' entries."""
    return values_B.view(-1, *[1] * (like.dim() - 1))
