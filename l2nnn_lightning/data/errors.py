"""The errors that the command line turns into one line."""

__all__ = ["FailedWorkError", "LostProcessError", "UserError"]


class UserError(ValueError):
    """Bad input by a user: the message alone says what was wrong and what to do."""


class FailedWorkError(RuntimeError):
    """Work failed for a reason that is known and said in one line; exit code 1, since the input was not at fault."""


class LostProcessError(FailedWorkError):
    """Another process of the same training is gone."""
