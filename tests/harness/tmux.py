"""A real terminal that a test drives: tmux types keys, and captures what a person would see."""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.waiting import wait_until


class Tmux:
    """A command on a terminal of its own.

    Args:
        folder: for the socket; empty.
        command: runs in the terminal.
        size: columns and lines.
        term: the terminal that programs see.
        environment: more variables of the command.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        size: tuple[int, int] = (80, 24),
        term: str = "xterm",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        variables = [f"{name}={value}" for name, value in {"TERM": term, **(environment or {})}.items()]
        # The modes of the terminal, before and after: a program must restore them.
        run = shlex.join(["env", *variables, *command])
        self._folder = folder
        place = shlex.quote(str(folder))
        # Ctrl-C reaches this shell too, and must not end it.
        inside = f"trap : INT; cd {place}; stty -g > before; {run}; echo $? > status; stty -g > after; : > ended; read -r end"
        self._socket = folder / "tmux"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "sh", "-c", inside)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["tmux", "-S", str(self._socket), "kill-server"], check=False, capture_output=True)

    def type(self, *keys: str) -> None:
        """Type keys, by the names that tmux gives them."""
        self._tmux("send-keys", *keys)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command."""
        (shell,) = self._tmux("display-message", "-p", "#{pane_pid}").split()
        (process,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        os.kill(int(process), number)

    def resize(self, columns: int, lines: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self, *, colours: bool = False) -> list[str]:
        """The lines that the terminal shows."""
        return self._tmux("capture-pane", "-p", *(["-e"] if colours else [])).splitlines()

    def await_text(self, *texts: str) -> list[str]:
        """Wait until the terminal shows all of these texts; return its lines."""
        try:
            wait_until(lambda: all(text in "\n".join(self.screen()) for text in texts), f"a screen with {texts}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}:\n" + "\n".join(self.screen())) from None
        return self.screen()

    def await_no_text(self, text: str) -> None:
        """Wait until the terminal does not show a text."""
        wait_until(lambda: text not in "\n".join(self.screen()), f"a screen without {text!r}")

    def await_end(self) -> tuple[int, bool]:
        """Wait for the end of the command; return its exit status, and whether it restored the modes of the terminal."""
        wait_until((self._folder / "ended").exists, "the end of the command")
        before, after, status = ((self._folder / name).read_text() for name in ("before", "after", "status"))
        return int(status), before == after

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-S", str(self._socket), *words], check=True, capture_output=True)
        return done.stdout.decode()
