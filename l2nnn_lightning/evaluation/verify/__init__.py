"""``python -m l2nnn_lightning verify``: the bounds of a checkpoint anew, in exact arithmetic, by code of their own."""
