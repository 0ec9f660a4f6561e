"""Studies: named lists of trainings and evaluations whose stored results fill one of the paper's tables."""
