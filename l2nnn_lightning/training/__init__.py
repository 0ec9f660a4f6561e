"""From data and networks to trained checkpoints: classifier, objectives, callbacks, command line."""
