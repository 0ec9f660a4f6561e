"""Studies: named lists of trainings and evaluations whose stored results fill one of the paper's tables."""

from l2nnn_lightning.experiments.study.plan import Plan, Result, Training, make_plan
from l2nnn_lightning.experiments.study.read import Study, read_study, study_names
from l2nnn_lightning.experiments.study.table import study_markdown

__all__ = ["Plan", "Result", "Study", "Training", "make_plan", "read_study", "study_markdown", "study_names"]
