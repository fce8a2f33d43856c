"""The frames between a worker and its Python child processes: JSON arrays, one per line. Pure."""

# To the child: first ``[paths, handlers]`` (where to import from; by job type: function, settings, limits, concurrency), then one
# ``[token, job_id, type, attempt, payload]`` for each job: a packet of a queue (`adapters.packet_queue`), from which the
# child takes the next job when the one before has ended. If the packet would be larger than `LONGEST_PACKET`, its payload is
# null, and follows in a frame of its own, ``[payload]``. Or it is 1, and follows as a line that is not encoded: most payloads
# are JSON text without a line break, and to encode them as a string would take longer than all else.
#
# A child that runs several jobs at the same time takes packets ``[jobs, tokens]`` instead: jobs as above that begin, and attempts that
# must end. A payload that follows is ``[token, payload]``. Such a child also sends ``[BLOCKED, token, place]`` when a job keeps
# its event loop, and ``[MOVING]`` when the loop goes on.
#
# From the child: ``[READY]`` once, and while a job runs ``[PROGRESS, token, fraction, text]`` and ``[LOG, token, level,
# text]``, which the worker logs, and ``[OUTPUT, token, text, omitted]``, which it keeps with the attempt. Then ``[ENDED, token, outcome, result, error, permanent, ran_s, reusable]``. `reusable` is false where the child
# is not fit for another job.
#
# A handler runs in the same process as `runner`, and can write into the channel. So `decode` accepts exactly what
# `runner` sends, and the worker treats everything else as a fault of that child. What `decode` returns may be sent on.

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from stockworker.errors import ConfigError
from stockworker.handlers.spec import HandlerSpec, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import MAX_CONTENT, MAX_TEXT, fits
from stockworker.protocol.fields import (
    FieldError,
    check_choice,
    check_flag,
    check_identifier,
    check_integer,
    check_number,
    check_text,
    parse_json,
)
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker.output import LONGEST_LINE, MOST_KEPT
from stockworker.worker.work import Blocked, HandlerLogged, Progressed, Work

READY: Final = "ready"
PROGRESS: Final = "progress"
LOG: Final = "log"
OUTPUT: Final = "output"
ENDED: Final = "ended"
BLOCKED: Final = "blocked"
MOVING: Final = "moving"

COROUTINES: Final = "coroutines"
"""The second argument of the fork server's program if some of its children run several jobs at the same time."""

HIGHEST_LEVEL: Final = 100
"""Highest level of a log record that a child passes on; the highest of the `logging` module is 50."""

LONGEST_FRAME: Final = 4 * MAX_CONTENT
"""Most bytes of a frame from a child: escaping to ASCII makes a result up to three times as long."""

LONGEST_PACKET: Final = 32 * 1024
"""Bytes of a packet that every kernel accepts."""

_LONGEST_RUN_S: Final = 1e9
_MOST_OMITTED: Final = 1 << 53
_OUTCOMES: Final = {word.value: word for word in Outcome}

AS_IT_IS: Final = 1
"""In place of a payload that follows as a line that is not encoded."""

_OF_CHILDREN: Final = frozenset({Outcome.OK, Outcome.ERROR, Outcome.REFUSED})
"""How an attempt ends by a frame. The worker itself decides on all other outcomes."""


@dataclass(frozen=True, slots=True)
class ChildReady:
    """The child can run jobs."""


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """An attempt has ended; if the child is `reusable`, it can run another one."""

    result: AttemptResult
    reusable: bool


@dataclass(frozen=True, slots=True)
class ChildMoving:
    """The event loop of the child goes on after a job has kept it."""


@dataclass(frozen=True, slots=True)
class ChildOutput:
    """Text for the output of an attempt; `omitted` bytes before it are not kept."""

    token: Token
    text: str
    omitted: int


FromChild = ChildReady | ChildMoving | Blocked | Progressed | HandlerLogged | ChildOutput | ChildEnded


_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def encode(*frame: Any) -> bytes:
    """Make one line of a frame."""
    return _encode(frame).encode() + b"\n"


def encode_configuration(
    paths: Sequence[str], handlers: Mapping[JobType, HandlerSpec], controllers: Collection[str] = ()
) -> bytes:
    """Make the first frame of a child, which is in a control group with these `controllers`.

    Raises:
        ConfigError: the settings of a handler hold something that JSON can't: names the key.
    """
    python = {}
    for job_type, handler in handlers.items():
        encode_settings(job_type, handler)
        if isinstance(handler, PythonHandler):
            limits = handler.limits.of_each_process(controllers)
            python[job_type] = (
                handler.function,
                dict(handler.settings),
                (limits.memory_bytes, limits.cpu_s, limits.open_files),
                handler.concurrency,
            )
    return encode(list(paths), python)


def encode_settings(job_type: JobType, handler: HandlerSpec) -> str:
    """Make JSON text of the settings of a handler.

    Raises:
        ConfigError: they hold something that JSON can't: names the key.
    """
    try:
        return json.dumps(dict(handler.settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"handlers.{job_type}.settings: {error}: put it in quotes") from None


def encode_work(work: Work) -> tuple[bytes, bytes]:
    """Make the packet that starts an attempt, and the frame of its payload if that must follow."""
    if len(work.payload) <= LONGEST_PACKET:  # else the packet is certainly longer
        packet = encode(work.token, work.job_id, work.type, work.attempt, work.payload)
        if len(packet) <= LONGEST_PACKET:
            return packet, b""
    if "\n" in work.payload:
        return encode(work.token, work.job_id, work.type, work.attempt, None), encode(work.payload)
    return encode(work.token, work.job_id, work.type, work.attempt, AS_IT_IS), f"{work.payload}\n".encode()


def encode_job(work: Work) -> tuple[bytes, bytes]:
    """Make a job of a packet `[jobs, tokens]`, and the frame of its payload if that must follow."""
    if len(work.payload) <= LONGEST_PACKET // 2:  # else the job is certainly longer
        job = _encode((work.token, work.job_id, work.type, work.attempt, work.payload)).encode()
        if len(job) <= LONGEST_PACKET // 2:
            return job, b""
    job = _encode((work.token, work.job_id, work.type, work.attempt, None)).encode()
    return job, encode(work.token, work.payload)


def encode_packet(jobs: Sequence[bytes], tokens: Sequence[Token]) -> bytes:
    """Make the packet of jobs that begin, and of attempts that must end."""
    return b"[[" + b",".join(jobs) + b"]," + _encode(tokens).encode() + b"]"


def encode_result(result: AttemptResult, *, ran_s: float, reusable: bool) -> bytes:
    """Make the frame that ends an attempt."""
    return encode(ENDED, result.token, result.outcome, result.result, result.error, result.permanent, ran_s, reusable)


def decode(line: bytes) -> FromChild:
    """Read a frame of a child.

    Raises:
        FieldError: it is not one that `runner` sends; the text names what is wrong.
    """
    try:
        frame = parse_json(line.decode())
    except UnicodeDecodeError:
        raise FieldError("is not UTF-8") from None
    match frame:
        case ["ready"]:
            return ChildReady()
        case ["moving"]:
            return ChildMoving()
        case ["blocked", token, place]:
            return Blocked(_token(token), check_text(place, LONGEST_LINE))
        case ["progress", token, fraction, text]:
            return Progressed(_token(token), check_number(fraction, 0.0, 1.0), check_text(text, MAX_TEXT))
        case ["log", token, level, text]:
            return HandlerLogged(_token(token), check_integer(level, 0, HIGHEST_LEVEL), check_text(text, LONGEST_LINE))
        case ["output", token, text, omitted]:
            return ChildOutput(_token(token), check_text(text, MOST_KEPT), check_integer(omitted, 0, _MOST_OMITTED))
        case ["ended", token, outcome, result, error, permanent, ran_s, reusable]:
            ended = AttemptResult(
                _token(token),
                _outcome(outcome),
                None if result is None else check_text(result),
                None if error is None else check_text(error, MAX_TEXT),
                check_flag(permanent),
                check_number(ran_s, 0.0, _LONGEST_RUN_S),
            )
            return ChildEnded(_consistent(ended), check_flag(reusable))
        case _:
            raise FieldError("is not one of the frames that are agreed")


def _token(value: object) -> Token:
    return Token(check_identifier(value))


def _outcome(value: object) -> Outcome:
    # A look-up is several times as fast as a call of the enumeration.
    known = _OUTCOMES.get(value) if type(value) is str else None
    return known or check_choice(value, Outcome)


def _consistent(ended: AttemptResult) -> AttemptResult:
    completed = ended.outcome is Outcome.OK
    if (
        ended.outcome not in _OF_CHILDREN
        or completed is (ended.result is None)
        or completed is not (ended.error is None)
    ):
        raise FieldError(f"the outcome {ended.outcome} does not go with the rest")
    if ended.result is not None and not fits(ended.result):
        raise FieldError(f"the result is larger than {MAX_CONTENT} bytes")
    return ended


class FrameBuffer:
    """Makes lines of chunks: one for each frame.

    Args:
        longest: the most bytes of a line; None has no limit.
    """

    __slots__ = ("_longest", "_partial")

    def __init__(self, longest: int | None = None) -> None:
        self._longest = longest
        self._partial = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes.

        Raises:
            FieldError: a line is too long.
        """
        first, *others = chunk.split(b"\n")
        self._partial += first
        lines = []
        for other in others:
            lines.append(bytes(self._partial))
            self._partial = bytearray(other)
        if self._longest is not None and max(map(len, (*lines, self._partial))) > self._longest:
            raise FieldError(f"is longer than {self._longest} bytes")
        return lines
