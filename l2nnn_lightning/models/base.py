"""What every network can be asked, and the one thing that is evaluated: a folded network with the rule of its proof."""

# ruff: noqa: ARG002 (what a network that proves nothing is asked)

import copy
from collections.abc import Callable
from operator import index
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.certificates import Certificate, NothingProved, Rule, SignedRadius, round_down
from l2nnn_lightning.nn.parametrization import fold, harden, is_hard
from l2nnn_lightning.nn.precision import full_precision
from l2nnn_lightning.nn.proof.program import program_of
from l2nnn_lightning.nn.proof.signal import UnprovableError
from l2nnn_lightning.nn.soft import SoftRule

__all__ = ["IN_PENALTY_MODE", "Certified", "ImageShape", "Network", "NetworkFactory", "Program", "SignedRadius"]
__all__ += ["certify", "prove", "shape_of"]

ImageShape = tuple[int, int, int]
#: The format that a program computes in: float64, or that of the network's weights.
Program = Literal["float64", "float32"]

IN_PENALTY_MODE = "it is in penalty mode"
_HALF = "its weights are of half precision, whose rounding no bound covers"


class Network(nn.Module):
    """A network from images to logits. This base proves nothing; what proves something says so in its methods.

    A subclass takes ``(image_shape, num_labels, **options)``: (channels, height, width) of the images, the number K of
    labels, and what can be set in a config under ``model.network.init_args``; a ValueError where they do not fit.

    Shape:
        (B, C, H, W) in [0, 1] -> (B, K).
    """

    #: Whether it proves something once it is hard.
    can_prove = False
    #: Whether it knows radii for images that stay in [0, 1].
    has_box = False
    #: How many training images its start looks at; None for all.
    start_images: int | None = 0
    #: (channels, height, width) of the images, where it was built for some.
    image_shape: ImageShape | None

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Note the shape of the images, the first argument: a proof counts pixels."""
        network = super().__new__(cls)
        shape: Any = options.get("image_shape", args[0] if args else None)
        try:
            sides = tuple(map(index, shape))
        except TypeError:
            sides = ()
        network.__dict__["image_shape"] = sides if len(sides) == 3 else None
        return network

    @property
    def is_hard(self) -> bool:
        """Whether certificates hold: every nonexpansive layer is hard."""
        return is_hard(self)

    def rule(self, *, quick: bool = False) -> Rule:
        """Say what its logits prove while the weights stay as they are; quickly, with perhaps smaller radii."""
        return NothingProved()

    def rule_of(self, program: nn.Module) -> Rule:  # the network's own, unless it knows how its programs round
        """Say what the logits of a program prove: of this network, in evaluation mode, folded, in some format."""
        return self.rule()

    def soft_rule(self) -> SoftRule:
        """Say what is true of its logits in penalty mode, by the product of its own norms; only where it is asked for.

        Raises:
            ValueError: if it is not in penalty mode, or such a product is not known.
        """
        raise ValueError(
            f"{type(self).__name__} has no certificate in penalty mode: its constant is no product of exact norms"
        )

    def signed_radius(
        self, image: Tensor, label_B: Tensor, logits_BK: Tensor | None = None, *, in_box: bool = False
    ) -> SignedRadius:
        """Measure the certified radius of the true label, negative where another one wins; for training.

        Args:
            image: (B, C, H, W) in [0, 1].
            label_B: the true labels.
            logits_BK: the network's outputs for them, where they are known already.
            in_box: the radius for images that stay in [0, 1]; a ValueError where the network has none such.
        """
        raise ValueError(f"{type(self).__name__} proves no radius to train on: use another network or objective")

    def start(self, images: Tensor, labels: Tensor, seed: int) -> None:
        """Set fresh weights from the first ``start_images`` images, (N, C, H, W), and labels, (N,), of training.

        Alike on every process, by the seed.
        """

    def harden(self) -> Tensor | None:
        """Make every nonexpansive layer hard.

        Returns:
            By what each logit was divided, (1,) or (K,), where the function is otherwise what it was; else None.
        """
        harden(self)
        return None


NetworkFactory = Callable[[ImageShape, int], Network]


class Certified(nn.Module):
    """A network as it is shipped: plain layers, and the rule that says what they prove.

    The one thing that is evaluated, attacked, predicted with and exported. It is a copy: the network can go on
    training. A radius is proven for a *program*, with all that it rounds: by default the network's weights, as they are
    stored, in float64, which then gives label and logits too; or the network in the format of its weights.

    Args:
        network: what is certified.
        program: ``float64``, or ``float32`` for the network as it is.

    Attributes:
        network: the folded network, from images to logits, in the format of its weights.
        program: what computes the label and the logits that radii are proven for.
        rule: what these logits prove.
        is_hard: whether the network was hard.
    """

    def __init__(self, network: Network, program: Program = "float64") -> None:
        super().__init__()
        if program not in get_args(Program):
            raise ValueError(f"program must be one of {', '.join(get_args(Program))}, got {program!r}")
        frozen = copy.deepcopy(network).eval()
        self.is_hard, folded = frozen.is_hard, fold(frozen)
        self._source = (frozen,)  # no part of what is shipped
        dtype = next(folded.parameters()).dtype
        self.network: nn.Module = folded if program == "float64" else program_of(folded, dtype)
        self.program = program_of(folded, torch.float64) if program == "float64" else self.network
        is_half = dtype not in (torch.float32, torch.float64)
        with torch.no_grad():
            self.rule = NothingProved(_HALF) if is_half else frozen.rule_of(self.program)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Certificate:
        """Predict and prove: label, confidence gap and certified L2 radius of each image, (B,)."""
        return self._certify(image, in_box=False)[0]

    def in_box(self, image: Tensor) -> tuple[Certificate, Tensor | None]:
        """Predict and prove, also for an attacker whose images stay in [0, 1], see :meth:`Rule.in_box`."""
        return self._certify(image, in_box=True)

    def as_shipped(self) -> "Certified":
        """Certify the network in the format of its own weights, as a graph holds it; on the CPU."""
        return self if self.program is self.network else Certified(self._source[0], "float32")

    @torch.no_grad()
    def logits(self, image: Tensor) -> Tensor:
        """Compute the program's logits, (B, K), in its format, without autocast, TF32 and their like."""
        weight = next(self.program.parameters())
        with full_precision(weight.device):
            logits: Tensor = self.program(image.to(weight))
        return logits

    @torch.no_grad()
    def _certify(self, image: Tensor, *, in_box: bool) -> tuple[Certificate, Tensor | None]:
        with full_precision(next(self.program.parameters()).device):
            logits_BK = self.logits(image)
            (label_B, gap_B, radius_B), box_B = prove(self.rule, logits_BK, image.to(logits_BK.device), in_box=in_box)
        dtype = next(self.network.parameters()).dtype
        radius_B, *box = (round_down(part, dtype).to(image.device) for part in (radius_B, box_B) if part is not None)
        gap_B = gap_B.to(dtype=dtype, device=image.device)
        return Certificate(label_B.to(image.device), gap_B, radius_B), box[0] if box else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Go to a device; what is cast to another format is not what was proved."""
        form = next(self.program.parameters()).dtype
        self.network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for part in (self.program, self.rule):
            try:
                part._apply(fn, recurse)  # type: ignore[no-untyped-call]
            except TypeError:
                continue  # Apple's GPUs know no float64: the program stays on the CPU
        if next(self.program.parameters()).dtype != form:
            self.rule = NothingProved("its weights were cast to another format after they were proved")
        return self


def shape_of(network: Network) -> ImageShape:
    """Return the shape of a network's images.

    Raises:
        UnprovableError: if it was not built for some.
    """
    if network.image_shape is None:
        raise UnprovableError(f"the size of the images of {type(network).__name__} is not its first argument")
    return network.image_shape


@torch.no_grad()
def certify(
    network: nn.Module, rule: Rule, image: Tensor, *, in_box: bool = False
) -> tuple[Certificate, Tensor | None]:
    """Predict and prove by a network in evaluation mode, without autocast and TF32, in the precision of its weights.

    The images are (B, C, H, W) in [0, 1]; with ``in_box`` there are radii inside the image box too.
    """
    with full_precision(image.device):
        image = image.to(next(network.parameters()).dtype)
        return prove(rule, network(image), image, in_box=in_box)


def prove(rule: Rule, logits_BK: Tensor, image: Tensor, *, in_box: bool = False) -> tuple[Certificate, Tensor | None]:
    """Say what logits computed in full precision prove: nothing in half precision, whose rounding no bound covers."""
    if logits_BK.dtype not in (torch.float32, torch.float64):
        rule = NothingProved(_HALF)
    return rule.in_box(logits_BK, image) if in_box else (rule(logits_BK, image), None)
