"""What handlers and commands print: cut into lines for the log, and kept at the end of an attempt. Pure."""

from bisect import bisect_left
from typing import Final

from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.body import content_size, text_bytes

LONGEST_LINE: Final = 2000
"""Characters of a logged line; the rest of it is left out."""

TAIL: Final = 4096
"""Bytes of the end of the output that are kept to explain an error."""

DEFAULT_KEPT: Final = 64 * 1024
"""Bytes of the output of an attempt that are kept with it."""

MOST_KEPT: Final = 128 * 1024
"""Most bytes that can be kept: sealed, they are a third longer, and must fit into an answer."""

_INSIDE_CHARACTER: Final = bytes(range(0x80, 0xC0))
"""Bytes that continue a character in UTF-8."""

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


class KeptOutput:
    """The end of what an attempt prints and logs.

    Args:
        most: how many bytes of it are kept.
    """

    __slots__ = ("_end", "_most", "_written")

    def __init__(self, most: int) -> None:
        self._most = most
        self._end = bytearray()
        self._written = 0

    def add(self, chunk: bytes) -> None:
        """Add bytes, as they were written."""
        self._written += len(chunk)
        self._end += chunk
        if len(self._end) > 2 * self._most:  # not for each chunk: that would copy all of it
            del self._end[: -self._most or None]

    def omit(self, count: int) -> None:
        """Count bytes that are not kept."""
        self._written += count

    def take(self) -> AttemptOutput | None:
        """Return all of it; None if there is none, or nothing is kept."""
        if not self._written or not self._most:
            return None
        end = bytes(self._end[-self._most :])
        if len(end) < self._written:
            end = end[:3].lstrip(_INSIDE_CHARACTER) + end[3:]
        return AttemptOutput(end.decode(errors="replace"), self._written - len(end))


def last_bytes(output: AttemptOutput, most: int) -> AttemptOutput:
    """The end of an output: at most `most` bytes of UTF-8."""
    end = output.text.encode()[-most:] if most > 0 else b""
    return _shortened(output, end.decode(errors="ignore"))


def fit_in_message(output: AttemptOutput, room: int) -> AttemptOutput:
    """The end of an output that takes at most `room` bytes as a JSON string."""
    text = output.text
    if content_size(text) <= room:
        return output
    start = bisect_left(range(len(text)), True, key=lambda at: content_size(text[at:]) <= room)  # noqa: FBT003 (what `key` returns)
    return _shortened(output, text[start:])


def _shortened(output: AttemptOutput, end: str) -> AttemptOutput:
    return AttemptOutput(end, output.omitted + text_bytes(output.text) - text_bytes(end))
