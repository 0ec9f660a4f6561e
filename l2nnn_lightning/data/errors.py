"""The errors that the command line turns into one line."""

from importlib.util import find_spec

__all__ = ["FailedWorkError", "LostProcessError", "UserError", "need"]


class UserError(ValueError):
    """Bad input by a user: the message alone says what was wrong and what to do."""


class FailedWorkError(RuntimeError):
    """Work failed for a reason that is known and said in one line; exit code 1, since the input was not at fault."""


class LostProcessError(FailedWorkError):
    """Another process of the same training is gone."""


def need(module: str, extra: str) -> None:
    """Refuse to go on without a module that an extra of the package brings, with a UserError that says how to get it.

    Example:
        >>> need("json", "none")
    """
    if find_spec(module) is None:
        raise UserError(f"{module} is not installed: pip install {module}, or 'l2nnn-lightning[{extra}]'")
