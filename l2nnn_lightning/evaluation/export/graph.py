"""The network that is exported, folded, with the certificate beside the logits: written and run as a graph.

By ``torch.export``, or as ONNX, written by PyTorch's exporter and run by onnxruntime; and whether it says what its
classifier says.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.models.base import Certified, ImageShape

__all__ = ["CertifiedNetwork", "ParityError", "check_parity", "random_images", "run_onnx", "run_program"]

OUTPUTS = ("logits", "label", "gap", "radius")
_LOGITS_TOLERANCE, _RADIUS_TOLERANCE = 1e-5, 1e-6
_BATCHES = {"image": {0: torch.export.Dim("batch", min=1)}}


class CertifiedNetwork(nn.Module):
    """A plain network that returns what it answers and what is proved, both from the same logits, on the CPU.

    It is the program that the radius is proven for: the certified one in float32, or float64 where its weights are.

    Shape:
        (B, C, H, W) in [0, 1] -> logits (B, K), label int64 (B,), gap (B,), radius (B,), 0 where nothing is proved.

    Raises:
        UserError: if the certificate of this network is no formula.
    """

    def __init__(self, certified: Certified) -> None:
        super().__init__()
        if not certified.rule.is_graph:
            raise UserError(
                f"the radius of this network ({certified.rule.name}) is found by a search, which no graph holds: "
                "export with --format safetensors"
            )
        shipped = certified.as_shipped()
        self.network, self.rule = shipped.program, shipped.rule
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute logits and certificate."""
        logits: Tensor = self.network(image)
        label, gap, radius = self.rule(logits, image)
        return logits, label, gap, radius


def write_program(network: nn.Module, image: Tensor, path: Path) -> None:
    """Write a network for batches of any size, of which two or more are given, as PyTorch alone can load it."""
    torch.export.save(torch.export.export(network, (image,), dynamic_shapes=_BATCHES), path)


def run_program(path: Path, image: Tensor) -> tuple[Tensor, ...]:
    """Run what :func:`write_program` wrote."""
    outputs: tuple[Tensor, ...] = torch.export.load(path).module()(image)
    return outputs


def write_onnx(network: nn.Module, image: Tensor, path: Path) -> None:
    """Write a network for batches of any size, of which two or more are given, as ONNX.

    Raises:
        UserError: if a package that this takes is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"--format onnx needs onnx, onnxscript and onnxruntime: install them ({error})") from error
    program = torch.onnx.export(
        network,
        (image,),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=list(OUTPUTS),
        dynamic_shapes=_BATCHES,
        custom_translation_table={
            torch.ops.aten.amax.default: _amax,
            torch.ops.aten.avg_pool2d.default: _avg_pool2d,
            torch.ops.aten.nextafter.default: _next_towards_zero,
        },
    )
    assert program is not None
    program.save(path)


def run_onnx(path: Path, image: Tensor) -> tuple[Tensor, ...]:
    """Run what :func:`write_onnx` wrote, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return tuple(torch.from_numpy(output) for output in session.run(list(OUTPUTS), {"image": image.numpy()}))


def _amax(x: Any, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    """Translate a maximum over all entries, which PyTorch's own translation stumbles over (2.15)."""
    op = _operators()
    axes = [op.Constant(value_ints=[*dim])] if dim else []
    return op.ReduceMax(x, *axes, keepdims=int(keepdim))


def _avg_pool2d(
    x: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Translate average pooling with its divisor, which PyTorch's own translation leaves out (2.15)."""
    op, kernel = _operators(), [*kernel_size]
    mean = op.AveragePool(
        x,
        kernel_shape=kernel,
        strides=[*(stride or kernel)],
        pads=[*padding, *padding],
        ceil_mode=int(ceil_mode),
        count_include_pad=int(count_include_pad or divisor_override is not None),
    )
    if divisor_override is None:
        return mean
    return op.Mul(mean, op.CastLike(op.Constant(value_float=math.prod(kernel) / divisor_override), mean))


def _next_towards_zero(x: Any, zero: Any) -> Any:  # noqa: ARG001 (the arguments of nextafter)
    """Translate ``nextafter(x, 0)`` of a float32, which ONNX lacks: ``x - 2^-24 x``, rounded, is exactly that.

    With ``x = m 2^e``, ``1 <= m < 2``, the difference lies m / 2 of a unit in the last place below x: more than half of
    one, or, for m = 1, just the unit that holds below a power of two. (As a product with ``1 - 2^-24`` the exporter
    would take the factor for 1 and remove it.)
    """
    op = _operators()
    return op.Sub(x, op.Mul(x, op.Constant(value_float=2**-24)))


def _operators() -> Any:
    """ONNX's operators; their types do not know that numbers may stand for tensors."""
    from onnxscript import opset18

    return opset18


class ParityError(RuntimeError):
    """An exported network differs from its classifier: the export is wrong and has been removed."""


def random_images(shape: ImageShape, count: int, seed: int) -> Tensor:
    """Draw images in [0, 1]: half of them noise, half of them smooth."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count - count // 2, channels, height, width, generator=generator)
    coarse = torch.rand(count // 2, channels, 4, 4, generator=generator)
    return torch.cat([noise, torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")])


@torch.no_grad()
def check_parity(
    certified: Certified, shape: ImageShape, run: Callable[[Tensor], tuple[Tensor, ...]]
) -> dict[str, float]:
    """Compare an exported network, which is run, with its classifier on random images, in batches of one and of many.

    Logits beyond 1 in size are compared relatively: float32 has no more digits.

    Returns:
        The number of images and the largest differences, for the card.

    Raises:
        ParityError: if logits differ by more than 1e-5, gaps or radii by more than 1e-6, or a label whose gap is
            larger than that.
    """
    counts, certified = (1, 64), certified.as_shipped()
    largest = {"logits": 0.0, "gap_and_radius": 0.0}
    for seed, count in enumerate(counts):
        image = random_images(shape, count, seed)
        expected, certificate = certified.logits(image), certified(image)
        logits, label, gap, radius = run(image)
        scale = max(1.0, float(expected.abs().max()))
        difference = float((logits - expected).abs().max()) / scale
        gap_difference = float(torch.cat([gap - certificate.gap, radius - certificate.radius]).abs().max()) / scale
        # The negation also refuses what is not a number.
        if not (difference <= _LOGITS_TOLERANCE and gap_difference <= _RADIUS_TOLERANCE):
            raise ParityError(
                f"the exported network differs from the checkpoint: logits by {difference:.2g} "
                f"(at most {_LOGITS_TOLERANCE:g}), gap or radius by {gap_difference:.2g} "
                f"(at most {_RADIUS_TOLERANCE:g})"
            )
        if bool(((label != certificate.label) & (certificate.gap > _LOGITS_TOLERANCE * scale)).any()):
            raise ParityError("the exported network gives other labels than the checkpoint")
        largest["logits"] = max(largest["logits"], difference)
        largest["gap_and_radius"] = max(largest["gap_and_radius"], gap_difference)
    return {"images": sum(counts), **largest}
