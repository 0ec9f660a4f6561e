"""What stands on a terminal after all that a program has written to it, by the rules that terminals share."""

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Callable

__all__ = ["run_in_terminal", "screen_of"]

_CODE = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")


def screen_of(text: str, width: int) -> list[str]:
    """Lay out what was written on an endless terminal of a width: lines wrap, and the cursor can go back."""
    lines: list[list[str]] = [[]]
    row = column = at = 0
    while at < len(text):
        code = _CODE.match(text, at)
        if code is not None:
            count = int(code[1]) if code[1].isdigit() else 1
            if code[2] == "A":
                row = max(0, row - count)
            elif code[2] == "K":
                lines[row] = [] if code[1] == "2" else lines[row][:column]
            elif code[2] not in "mhl":
                raise ValueError(f"the terminal does not know {code[0]!r}")
            at = code.end()
            continue
        character, at = text[at], at + 1
        if character == "\r":
            column = 0
        elif character == "\n":
            row += 1
        elif character.isprintable():
            if column == width:
                row, column = row + 1, 0
            lines += [[] for _ in range(row + 1 - len(lines))]
            line = lines[row]
            line += [" "] * (column + 1 - len(line))
            line[column] = character
            column += 1
        else:
            raise ValueError(f"the terminal does not know {character!r}")
        lines += [[] for _ in range(row + 1 - len(lines))]
    return ["".join(line).rstrip() for line in lines]


def run_in_terminal(program: Callable[[], int], width: int) -> tuple[int, str]:
    """Run a function in a child whose input and output are a terminal; return its exit code and what it wrote."""
    child, terminal = pty.fork()
    if child == 0:
        code = 70
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
            code = program()
        finally:
            os._exit(code)
    written = b""
    try:
        while part := os.read(terminal, 65536):
            written += part
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written.decode()
