"""What an attempt at a job has printed and logged, as a client reads it."""

from stockworker.protocol.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Output:
    """The output of one attempt: the end of it.

    Attributes:
        attempt: number of the attempt.
        text: what it printed and logged; None if this client can't open it.
        omitted: how many bytes are not in `text`.
        refusal: why there is no text.
    """

    attempt: int
    text: str | None
    omitted: int
    refusal: str = ""
