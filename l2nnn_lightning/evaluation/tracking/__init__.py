"""Weights & Biases: the run of a run folder, panels of a training and of an evaluation, the workspace."""
