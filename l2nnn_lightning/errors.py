"""The error that the command line turns into one line and exit code 2."""

__all__ = ["UserError"]


class UserError(ValueError):
    """Bad input by a user: the message alone says what was wrong and what to do."""
