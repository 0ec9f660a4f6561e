"""What an evaluation measures only when it is asked to: each such measure owns its numbers, its rows and its figure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from matplotlib.figure import Figure
from torch import Tensor

from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.measure.subject import Subject
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.evaluation.report.plane import History
from l2nnn_lightning.evaluation.report.tables import Row

__all__ = ["Measure"]


class Measure(ABC):
    """A measure, built from the options; a new one takes a file, and its name in ``MEASURES`` of :mod:`.results`.

    It measures whole data sets (:meth:`whole`), or image by image in every process (:meth:`columns`, then
    :meth:`summary`).

    Attributes:
        name: the name of its part of ``results.json``, and of its figure.
        caption: of its figure; empty where it has none.
        before_attacks: whether its rows stand before those of the attacks.
        radius: the name of its column of radii, where it has one; ``certified`` and ``radius_mean``, as for all
            networks, are then in its part of ``results.json`` too.
    """

    name: ClassVar[str]
    caption: ClassVar[str] = ""
    before_attacks: ClassVar[bool] = False
    radius: ClassVar[Literal["radius_soft"] | None] = None

    @classmethod
    @abstractmethod
    def asked(cls, options: EvaluateOptions, subject: Subject) -> Self | None:
        """Build it if it is asked for, on every process, before anything is measured.

        Raises:
            UserError: if it cannot be measured.
        """

    def whole(self, subject: Subject) -> Mapping[str, Any] | None:  # noqa: ARG002
        """Measure, on the first process alone; return its part of ``results.json``."""
        return None

    def columns(self, subject: Subject, images: Tensor, index: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Measure some images, (B, C, H, W) at positions (B,) of the data set; return columns (B,) of the records."""
        return {}

    @classmethod
    def summary(cls, records: Records) -> Mapping[str, Any] | None:  # noqa: ARG003
        """Return its part of ``results.json`` as far as it follows from its columns."""
        return None

    @staticmethod
    @abstractmethod
    def rows(numbers: Mapping[str, Any]) -> list[Row]:
        """Return its rows of the summary table."""

    @staticmethod
    def figure(numbers: Mapping[str, Any], history: History) -> Figure | None:  # noqa: ARG004
        """Draw its part of ``results.json``, or the history of the training, which is empty where it is unknown."""
        return None
