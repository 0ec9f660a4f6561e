"""ONNX: written by PyTorch's exporter, run by onnxruntime."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.evaluation.export.graph import OUTPUTS, CertifiedNetwork

__all__ = ["run_onnx", "write_onnx"]


def write_onnx(network: CertifiedNetwork, image: Tensor, path: Path) -> None:
    """Write a network for batches of any size.

    Args:
        network: what to export.
        image: an example, at least two images.
        path: the file.

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
        dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
        custom_translation_table={
            torch.ops.aten.amax.default: _amax,
            torch.ops.aten.avg_pool2d.default: _avg_pool2d,
            torch.ops.aten.nextafter.default: _next_towards_zero,
        },
    )
    assert program is not None
    program.save(path)


def run_onnx(path: Path, image: Tensor) -> tuple[Tensor, ...]:
    """Run an exported network on the CPU; the outputs are in the order of :data:`OUTPUTS`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return tuple(torch.from_numpy(output) for output in session.run(list(OUTPUTS), {"image": image.numpy()}))


def _amax(x: Any, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    """Translate a maximum over all entries, which PyTorch's own translation stumbles over (2.15)."""
    op = _operators()
    if not dim:
        return op.ReduceMax(x, keepdims=int(keepdim))
    return op.ReduceMax(x, op.Constant(value_ints=[*dim]), keepdims=int(keepdim))


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
    op = _operators()
    kernel = [*kernel_size]
    pads = [*padding, *padding]
    mean = op.AveragePool(
        x,
        kernel_shape=kernel,
        strides=[*(stride or kernel)],
        pads=pads,
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
