"""The commands as a user calls them: a function of the arguments that returns the exit code."""

from functools import partial

from l2nnn_lightning.__main__ import run

__all__ = ["benchmark", "demo", "study"]

benchmark, demo, study = (partial(run, name) for name in ("benchmark", "demo", "study"))
