"""Image classifiers that prove their answers: L2-nonexpansive neural networks in PyTorch Lightning."""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["L2NNNClassifier", "OrdinaryClassifier", "__version__", "load_pretrained"]

if TYPE_CHECKING:
    from l2nnn_lightning.training.checkpoints import load_pretrained
    from l2nnn_lightning.training.classifier import L2NNNClassifier, OrdinaryClassifier

# Where public names live. They are imported on first use, so that ``l2nnn_lightning.nn`` needs torch alone.
_NAMES = {
    "L2NNNClassifier": "training.classifier",
    "OrdinaryClassifier": "training.classifier",
    "load_pretrained": "training.checkpoints",
}
# Packages with a shorter public name: the names in configs, and ``python -m l2nnn_lightning.study``.
_PACKAGES = {"callbacks": "training.callbacks", "study": "experiments.study", "benchmark": "experiments.benchmark"}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _ShorterNames(MetaPathFinder, Loader):
    """Import ``l2nnn_lightning.callbacks`` and its like as the very packages that they stand for."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        parent, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self, is_package=True) if parent == __name__ and name in _PACKAGES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(f"{__name__}.{_PACKAGES[spec.name.rpartition('.')[2]]}")
        self._own = module.__spec__  # the import system puts the shorter name's in its place
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own


sys.meta_path.append(_ShorterNames())
