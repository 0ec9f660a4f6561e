"""A small classifier that reads an image row by row (appendix A.4)."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from l2nnn_lightning.models.base import ImageShape
from l2nnn_lightning.models.l2nnn import L2NNN
from l2nnn_lightning.models.options import Activation, activation_of, check_choice
from l2nnn_lightning.nn.heads import MultiHead
from l2nnn_lightning.nn.parametrization import Bound, nonexpansive
from l2nnn_lightning.nn.recurrent import LastStep, Recurrent, RowsAsSteps

__all__ = ["RowsRNN"]

Readout = Literal["last", "all"]


class RowsRNN(L2NNN):
    """Recurrent layers over an image's rows, shared dense layers and a stack per label.

    Each logit is nonexpansive in the whole image. A layer whose outputs are all used is read as one L2NNN that gives
    all time steps; where only the last step of the last layer is used, that layer is read as overlapping L2NNNs, one a
    step, and loses nothing at a split.

    Args:
        image_shape: (channels, height, width) of the images.
        num_labels: the number K of labels.
        hidden: outputs of each recurrent layer's weight.
        readout: classify the last state, or all states.
        t: whether a recurrent layer's states share one t, or each entry has its own.
        dense: outputs of each shared dense layer.
        head_hidden: outputs of each inner layer of a label's stack.
        head_bias: whether each logit adds a bias.
        activation: the nonlinearity of the trunk.
        bound: the bound of every layer.
        **options: ``certificate``, ``hard`` and ``init``, see :class:`L2NNN`.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_labels: int,
        *,
        hidden: Sequence[int] = (128,),
        readout: Readout = "all",
        t: Literal["block", "channel"] = "channel",
        dense: Sequence[int] = (128,),
        head_hidden: Sequence[int] = (),
        head_bias: bool = True,
        activation: Activation = "maxmin",
        bound: Bound = "operator_columns",
        **options: Any,
    ) -> None:
        check_choice("readout", readout, Readout)
        if not hidden:
            raise ValueError("hidden must name at least one recurrent layer")
        build, widening = activation_of(activation, (*hidden, *dense))
        channels, height, width = image_shape
        layers: list[nn.Module] = [RowsAsSteps()]
        features = channels * width
        for i, outputs in enumerate(hidden):
            alone = readout == "last" and i == len(hidden) - 1
            reading: Literal["overlapping", "joint"] = "overlapping" if alone else "joint"
            layers.append(Recurrent(features, outputs, build(), reading, t=t, bound=bound))
            features = outputs * widening
        if readout == "last":
            layers.append(LastStep())
        else:
            layers.append(nn.Flatten())
            features *= height
        for outputs in dense:
            layers += [nonexpansive(nn.Linear(features, outputs), bound), build()]
            features = outputs * widening
        super().__init__(
            nn.Sequential(*layers), MultiHead(features, num_labels, head_hidden, head_bias, bound), **options
        )
