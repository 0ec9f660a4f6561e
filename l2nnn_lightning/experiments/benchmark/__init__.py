"""``python -m l2nnn_lightning.benchmark [PART ...]``: what things cost, as ratios measured side by side in one run.

Each part is a module with two functions: ``add_arguments(parser)`` adds its own options to the command line,
``run(options)`` measures and returns a list of :class:`Row`. The command prints all rows as one table and writes them,
with hardware and versions, as JSON.
"""

from l2nnn_lightning.experiments.benchmark.command import PARTS, main
from l2nnn_lightning.experiments.benchmark.rows import Row
from l2nnn_lightning.experiments.benchmark.timing import compare, time_together

__all__ = ["PARTS", "Row", "compare", "main", "time_together"]
