"""The commands as a user calls them: a function of the arguments that returns the exit code."""

from functools import partial

from l2nnn_lightning.experiments.benchmark.run import run_benchmark
from l2nnn_lightning.experiments.demo import run_demo
from l2nnn_lightning.experiments.study.__main__ import main as study
from l2nnn_lightning.training.command_line import main

__all__ = ["benchmark", "demo", "study"]

benchmark = partial(main, run_benchmark)
demo = partial(main, run_demo)
