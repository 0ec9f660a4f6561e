"""What an evaluation measures only when it is asked to: each such measure owns its numbers, its rows and its figure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from matplotlib.figure import Figure
from torch import Tensor

from l2nnn_lightning.evaluation.measure.records import Records
from l2nnn_lightning.evaluation.measure.subject import Subject
from l2nnn_lightning.evaluation.options import EvaluateOptions
from l2nnn_lightning.evaluation.report.cells import Row
from l2nnn_lightning.evaluation.report.history import History

__all__ = ["Measure"]


class Measure(ABC):
    """A measure, built from the options; a new one takes a file, and a line in :mod:`.measures`.

    It measures whole data sets (:meth:`whole`), or image by image in every process (:meth:`columns`, then
    :meth:`summary`).

    Attributes:
        name: the name of its part of ``results.json``, and of its figure.
        caption: of its figure; empty where it has none.
        before_attacks: whether its rows stand before those of the attacks.
    """

    name: ClassVar[str]
    caption: ClassVar[str] = ""
    before_attacks: ClassVar[bool] = False

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

    def columns(self, subject: Subject, images: Tensor, index: Tensor, *, visible: bool) -> dict[str, Tensor]:  # noqa: ARG002
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
        """Draw it.

        Args:
            numbers: its part of ``results.json``.
            history: of the training, as from ``read_history``; empty where it is unknown.
        """
        return None
