"""How an attempt ended: one type, from the process that ran it to the dispatcher's decision."""

from typing import Annotated

from stockworker.protocol.body import MAX_TEXT
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.wire import Duration, Integer, Text, Wire


@dataclass(frozen=True, slots=True)
class AttemptOutput:
    """What an attempt has printed and logged: the end of it."""

    text: Annotated[str, Wire("the end of the output; sealed if the payload was sealed")]
    omitted: Annotated[int, Integer(0, 1 << 53), Wire("how many bytes of the output are not in `text`")] = 0


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended. As an event of the executor it also means that the attempt's slot is free, if it had one.

    `ran_s` is None if the attempt never ran, or nothing measured it.
    """

    token: Annotated[Token, Wire("fencing token of the lease")]
    outcome: Annotated[Outcome, Wire("how the attempt ended")]
    result: Annotated[str | None, Wire("what the handler returned, for `ok`. Only the submitter reads it.")] = None
    error: Annotated[Annotated[str, Text(MAX_TEXT)] | None, Wire("what went wrong, for people")] = None
    permanent: Annotated[bool, Wire("whether another attempt can't help")] = False
    ran_s: Annotated[Annotated[float, Duration(0.0, 1e12)] | None, Wire("how long the attempt ran")] = None
    output: Annotated[AttemptOutput | None, Wire("what the attempt printed and logged; absent if that is nothing")] = (
        None
    )
