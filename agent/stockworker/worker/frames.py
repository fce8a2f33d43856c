"""The frames between a worker and its Python child processes: JSON arrays, one per line. Pure."""

# To the child: first ``[paths, handlers]`` (where to import from; by job type: function, settings, limits), then one
# ``[token, job_id, type, attempt, payload]`` at a time.
#
# From the child: ``[READY]`` once, and while a job runs ``[PROGRESS, token, fraction, text]`` and ``[LOG, token, level,
# text]``, then ``[ENDED, token, outcome, result, error, permanent, reusable]``. `reusable` is false where the child is
# not fit for another job.

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from stockworker.errors import ConfigError
from stockworker.handlers.spec import HandlerSpec, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker.work import Work

READY: Final = "ready"
PROGRESS: Final = "progress"
LOG: Final = "log"
ENDED: Final = "ended"

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


def encode_work(work: Work) -> bytes:
    """Make the frame that starts an attempt."""
    return encode(work.token, work.job_id, work.type, work.attempt, work.payload)


def encode_result(result: AttemptResult, *, reusable: bool) -> bytes:
    """Make the frame that ends an attempt."""
    return encode(ENDED, result.token, result.outcome, result.result, result.error, result.permanent, reusable)


def decode_result(frame: Sequence[Any]) -> tuple[AttemptResult, bool]:
    """Read the frame that ends an attempt: its result, and whether the child is reusable."""
    _, token, outcome, result, error, permanent, reusable = frame
    return AttemptResult(Token(token), Outcome(outcome), result, error, permanent), reusable


class FrameBuffer:
    """Makes frames of chunks."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, chunk: bytes) -> list[list[Any]]:
        """Return the frames that `chunk` completes.

        Raises:
            ValueError: a line is not a frame.
        """
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        return [json.loads(line) for line in lines]
