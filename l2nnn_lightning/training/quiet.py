"""What Lightning says in every run and nobody can act on is left out, so that the lines that matter are seen."""

import logging
import re
import warnings

__all__ = ["silence"]

# What Lightning says in every run whatever happens: nothing to act on, and it would hide the one line of an error.
_CHATTER = re.compile(
    r"(\[rank: \d+\] )?Seed set to|GPU available|TPU available|💡|Loading `train_dataloader`|\nDetected Keyboard"
    r"|`Trainer.fit` stopped"
)
_IGNORED_WARNINGS = (
    ".*does not have many workers.*",  # few, large batches from memory need no worker processes
    ".*log_every_n_steps.*",  # metrics are logged once an epoch
    ".*Experiment logs directory.*|.*Checkpoint directory.*",  # a resumed run goes on in its own folder
    ".*args parameter is intended to run from within Python.*",  # which is what run_training does
    ".*LeafSpec.*",  # Lightning 2.6 calls torch by a name that it has deprecated since
    "Total length of `list` across ranks is zero.*",  # val_size: 0 asks for it
    ".*sync_dist=True.*",  # what is logged has been summed over the processes, or is the same on all of them
    r".*add the following callbacks: \[.BestCheckpoint\{[^\]]*\]",  # of a run that was best in another metric
    r"(?s).*instantiate_classes.*deprecated.*|.*JsonargparseDeprecationWarning.*",  # Lightning 2.6 calls it so
)


def silence() -> None:
    """Leave it out of this process's warnings and logs from here on."""
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed"):
        logger = logging.getLogger(name)
        if _is_news not in logger.filters:
            logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return _CHATTER.match(record.getMessage()) is None
