"""What a user sees of a command."""

from collections.abc import Callable

import pytest


class Terminal:
    """Standard output, standard error, and Lightning's log, which goes there too."""

    def __init__(self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self._capfd, self._caplog = capfd, caplog

    def read(self) -> tuple[str, str]:
        """Return what has been printed since the last time."""
        out, err = self._capfd.readouterr()
        err += "".join(f"{message}\n" for message in self._caplog.messages)
        self._caplog.clear()
        return out, err

    def error_line(self, command: Callable[[list[str]], int], *args: str) -> str:
        """Run a command on bad input: exit code 2, and one line in all."""
        self.read()
        assert command(list(args)) == 2
        out, err = self.read()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        return err
