"""Command lines from typed dataclasses. Nothing heavy is imported, so that a typo is answered at once."""

import difflib
import math
import re
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeVar, get_args, get_type_hints

from jsonargparse import ArgumentParser

__all__ = ["at_least", "did_you_mean", "nearest", "one_line", "parse_options"]

Options = TypeVar("Options")

# How jsonargparse writes what a user reads more easily otherwise.
_PLAIN = (
    (r'^Parser key "([\w.]+)":', r"--\1:"),
    (r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*)\])\. Got value: (.*)", r"expected \1\2, got \3"),
    (r": Not of type PositiveInt:.*", " must be a whole number above 0"),
    (r": Not of type NonNegativeInt:.*", " must be a whole number, at least 0"),
)


def parse_options(
    kind: type[Options], args: Sequence[str], prog: str, positional: Mapping[str, str | None] | None = None
) -> Options:
    """Read a command line into a dataclass.

    Every field is an option of its name, with the type and the default of the field and the help of the class's
    docstring (``Args:``), or given by its place, with argparse's ``nargs``. A field of type ``bool`` may be given as a
    flag, without a value, one of type ``float`` also as a fraction, such as 8/255. The class's ``__post_init__`` may
    refuse values with a ValueError.

    Raises:
        ArgumentError: in one line, with the nearest option where the name of one is mistyped.
    """
    parser = ArgumentParser(
        prog=prog, description=(kind.__doc__ or "").split("\n")[0], exit_on_error=False, allow_abbrev=False
    )
    hints = get_type_hints(kind)
    for name, nargs in (positional or {}).items():
        parser.add_argument(name, nargs=nargs, type=(*get_args(hints[name]), hints[name])[0])
    parser.add_class_arguments(kind, skip=set(positional or {}), as_group=False)
    flags = {f"--{name}" for name, hint in hints.items() if hint is bool}
    full: list[str] = []
    numbers = {f"--{name}" for name, hint in hints.items() if float in (hint, *get_args(hint))}
    for before, arg, following in zip(["", *args], args, [*args[1:], ""], strict=False):
        name, equals, value = arg.partition("=")
        if before in numbers:
            arg = _decimal(arg)
        elif equals and name in numbers:
            arg = f"{name}={_decimal(value)}"
        full += [arg, "true"] if arg in flags and following not in ("true", "false") else [arg]
    try:
        values = parser.parse_args(full)
        return kind(**{name: values[name] for name in hints})
    except (ArgumentError, ValueError) as error:
        message = one_line(error)
        for pattern, plain in _PLAIN:
            message = re.sub(pattern, plain, message)
        message = did_you_mean(message, [f"--{name}" for name in hints])
        raise ArgumentError(None, f"{message}; see {prog} --help") from error


def _decimal(text: str) -> str:
    """Write a fraction as the nearest decimal number; anything else stays as it is, for the parser to judge."""
    try:
        return repr(float(Fraction(text))) if "/" in text else text
    except (ValueError, ZeroDivisionError, OverflowError):
        return text


def at_least(options: Any, least: float, *names: str) -> None:
    """See that options, where they are given, are finite and not below a bound; else a ValueError."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not least <= value < math.inf:
            bound = f"at least {least}" if value < least else "finite"
            raise ValueError(f"--{name} must be {bound}, got {value}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Name the known name that is nearest to a mistyped one, for the end of a message.

    Example:
        >>> nearest("pgd_l1", ["cw", "pgd_l2"])
        ': did you mean pgd_l2?'
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]}?" if close else ""


def did_you_mean(message: str, known: Iterable[str]) -> str:
    """Add to a message about an unrecognised option the known one that is nearest to it.

    Example:
        >>> did_you_mean("unrecognized arguments: --limti 3", ["--limit", "--data"])
        'unrecognized arguments: --limti 3: did you mean --limit?'
    """
    given = re.search(r"unrecognized arguments?: (--[\w.]+)", message)
    return message + nearest(given[1], known) if given else message


def one_line(error: BaseException) -> str:
    """Cut jsonargparse's report on a value that fits none of several types down to the reasons that matter."""
    text = str(error)
    head = re.match(r'Parser key "[^"]*":', text)
    given = re.search(r"^ *Given value: (.*)", text, re.MULTILINE)
    while block := re.search(r"^ *Errors:\n( +)- ", text, re.MULTILINE):
        errors = text[block.start() :].split(f"\n{block[1]}- ")[1:]
        errors[-1] = errors[-1].split("\n")[0]
        text = errors[0]
        types = [re.fullmatch(r"Expected (?:a )?(?:<class '(\w+)'>|(.*))", error) for error in errors]
        if given is not None and all(types):
            names = [found[1] or found[2] for found in types if found and found[1] != "NoneType"]
            text = f"expected {' or '.join(names)}, got {given[1]}"
    words = [head[0] if head and head[0] not in text else "", *text.split()]
    return " ".join(words).strip() or type(error).__name__
