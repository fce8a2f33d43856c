"""Kinds of values that several messages have, with their bounds."""

from typing import Annotated

from stockworker.protocol.body import MAX_TEXT
from stockworker.protocol.job import LONGEST_TIMEOUT_S
from stockworker.protocol.lifecycle import State
from stockworker.protocol.wire import Duration, Identifier, Integer, Table, Text, Time, kind_of

Nonce = Annotated[str, Identifier()]
Version = Annotated[str, Text(64)]
ShortText = Annotated[str, Text(MAX_TEXT)]
Attempts = Annotated[int, Integer(0, 1 << 31)]
AttemptNumber = Annotated[int, Integer(1, 1 << 31)]
Count = Annotated[int, Integer(0, 1 << 53)]
StateCounts = Annotated[tuple[tuple[State, int], ...], Table(kind_of(State), kind_of(Count))]
Counters = Annotated[tuple[tuple[str, int], ...], Table(Text(), kind_of(Count))]
Days = Annotated[int, Integer(-(1 << 31), 1 << 31)]
Seconds = Annotated[float, Duration(0.0, 1e12)]
Instant = Annotated[float, Time()]
Timeout = Annotated[float, Duration(0.001, LONGEST_TIMEOUT_S)]
LeaseTime = Annotated[float, Duration(0.001, 86400.0)]
Slots = Annotated[int, Integer(1, 1024)]
"""A worker's request lists all of its leases, and must fit into one message."""
Busy = Annotated[int, Integer(0, 1024)]
