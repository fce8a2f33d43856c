"""What handlers and commands print: cut into lines, bounded in length, number and rate. Pure."""

from typing import Final

LONGEST_LINE: Final = 2000
"""Characters of a logged line; the rest of it is left out."""

TAIL: Final = 4096
"""Bytes of the end of the output that are kept to explain an error."""

_BURST: Final = 100
_PER_S: Final = 20.0


class Throttle:
    """A token bucket: at most `burst` together, and `per_s` per second in the long run.

    Attributes:
        refused: how many were refused since this was last set to 0.
    """

    __slots__ = ("_burst", "_filled_at", "_per_s", "_tokens", "refused")

    def __init__(self, burst: int = _BURST, per_s: float = _PER_S) -> None:
        self._burst = burst
        self._per_s = per_s
        self._tokens = float(burst)
        self._filled_at: float | None = None
        self.refused = 0

    def admit(self, now: float) -> bool:
        """Whether one more is allowed; counts it. `now` is monotonic, in seconds."""
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_s)
        self._filled_at = now
        if self._tokens < 1.0:
            self.refused += 1
            return False
        self._tokens -= 1.0
        return True


class Lines:
    """Makes lines of the chunks that a program writes.

    Attributes:
        tail: the end of all that was written, whether or not it was passed on.
    """

    __slots__ = ("_partial", "_throttle", "tail")

    def __init__(self) -> None:
        self._partial = b""
        self._throttle = Throttle()
        self.tail = b""

    def feed(self, chunk: bytes, now: float) -> list[str]:
        """Return the lines that `chunk` completes, as far as there are not too many of them."""
        self.tail = (self.tail + chunk)[-TAIL:]
        *complete, partial = (self._partial + chunk).split(b"\n")
        self._partial = partial[: 4 * LONGEST_LINE]  # UTF-8 takes up to 4 bytes for a character
        lines = []
        for line in complete:
            if line and self._throttle.admit(now):
                lines += [*self._left_out(), line.decode(errors="replace")[:LONGEST_LINE]]
        return lines

    def finish(self) -> list[str]:
        """Return the last line, if it lacks its newline, and a note of how many were left out since the one before."""
        lines = self._left_out()
        if self._partial:
            lines.append(self._partial.decode(errors="replace")[:LONGEST_LINE])
            self._partial = b""
        return lines

    def _left_out(self) -> list[str]:
        count, self._throttle.refused = self._throttle.refused, 0
        return [f"({count} lines left out)"] if count else []
