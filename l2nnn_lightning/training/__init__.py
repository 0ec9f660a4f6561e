"""From data and networks to trained checkpoints: classifier, objectives, callbacks, command line."""

from importlib import import_module


def __getattr__(name: str) -> object:
    """Import a name for configs on first use, so that a typo is answered without torch."""
    for module in ("classifier", "objectives", "optimizers", "paper_loss", "schedule") if name[:1].isupper() else ():
        found = import_module(f"{__name__}.{module}")
        if name in found.__all__:
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
