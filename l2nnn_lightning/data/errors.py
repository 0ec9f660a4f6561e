"""The errors that the command line turns into one line."""

__all__ = ["LostProcessError", "UserError"]


class UserError(ValueError):
    """Bad input by a user: the message alone says what was wrong and what to do."""


class LostProcessError(RuntimeError):
    """Another process of the same training is gone; exit code 1, since the input was not at fault."""
