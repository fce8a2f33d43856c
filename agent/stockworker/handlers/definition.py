"""What a built-in job type is made of, as data.

The payload, the settings and the result of a job type are classes whose fields are declared as those of messages (see
`stockworker.protocol.wire`), and each way to fail is a `Failure`::

    last: Annotated[int, Integer(1, 2_000), Wire("How many days to return.")] = 1

Reading, error texts and docs/job-types.md follow from that line. So a new field is one line, and the code that uses it.
"""

from typing import Final

from stockworker.handlers.api import PermanentError
from stockworker.protocol.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """One way in which a job can fail.

    Attributes:
        text: the error; ``{name}`` is a part that differs from job to job.
        cause: when it happens, for the reference page.
        retried: whether the job runs again while it has attempts left.
    """

    text: str
    cause: str
    retried: bool = False

    def error(self, **parts: object) -> Exception:
        """The exception that makes a handler fail in this way."""
        text = self.text.format(**parts)
        return InterruptedError(text) if self.retried else PermanentError(text)


@dataclass(frozen=True, slots=True)
class Definition:
    """A built-in job type.

    Attributes:
        payload: the class of its payload.
        result: the class of its result.
        failures: how it can fail, besides `COMMON_FAILURES`.
        settings: the class of ``handlers.<type>.settings``, if there are any.
        several: the class of the result of a job about several symbols, if that is another one.
    """

    payload: type
    result: type
    failures: tuple[Failure, ...]
    settings: type | None = None
    several: type | None = None


WRONG_PAYLOAD: Final = Failure(
    "payload{field}: {problem}",
    "The payload is not an object, or a field is unknown, missing, of the wrong kind or out of bounds.",
)
WRONG_SETTING: Final = Failure(
    "the configuration of this worker is wrong: handlers.{job_type}.settings.{field}: {problem}",
    "A setting is missing, of the wrong kind or out of bounds. Correct it, and reload the worker.",
)
NO_MARKET_DATA: Final = Failure(
    "this worker has no market-data store. Set market_data in its configuration",
    "The settings override `market_data` with an empty value.",
)
STORE_FAILED: Final = Failure(
    "{problem}",
    "The market-data store can't be opened, read or written: a full disk, a missing folder, a database that is down.",
    retried=True,
)
COMMON_FAILURES: Final = (WRONG_PAYLOAD, WRONG_SETTING, NO_MARKET_DATA, STORE_FAILED)
"""How every built-in job type can fail."""
