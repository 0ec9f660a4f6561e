"""Image classifiers that prove their answers: L2-nonexpansive neural networks in PyTorch Lightning."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["L2NNNClassifier", "OrdinaryClassifier", "__version__", "load_pretrained"]

if TYPE_CHECKING:
    from l2nnn_lightning.classifier import L2NNNClassifier, OrdinaryClassifier
    from l2nnn_lightning.pretrained import load_pretrained


def __getattr__(name: str) -> object:
    """Import the LightningModules on first use, so that ``l2nnn_lightning.nn`` needs torch alone."""
    if name in ("L2NNNClassifier", "OrdinaryClassifier"):
        from l2nnn_lightning import classifier

        return getattr(classifier, name)
    if name == "load_pretrained":
        from l2nnn_lightning import pretrained

        return pretrained.load_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
