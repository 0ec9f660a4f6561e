"""From data and networks to trained checkpoints: classifier, objectives, callbacks, command line."""

from importlib import import_module

# Where the names for configs live; imported on first use, so that a typo is answered without torch.
_NAMES = {
    "Classifier": "classifier",
    "CosineAfterSwitch": "schedule",
    "CrossEntropy": "objectives",
    "Objective": "objectives",
    "OffsetCrossEntropy": "objectives",
    "PaperLoss": "paper_loss",
    "RadiusHinge": "objectives",
    "RadiusSigmoid": "objectives",
    "ScaledAdam": "optimizers",
}


def __getattr__(name: str) -> object:
    """Import a name on first use."""
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
