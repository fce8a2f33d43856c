"""Which of the jobs that ran in one process is to blame for its end. Pure, a part of the executor."""

# A process that runs coroutines has several jobs when it crashes, or when it must be killed because a job does not stop. All of
# them end with it. What each of them ends as depends on what is known:
#
# ===============================  ================================  ====================================================
# the process                      the cause                         the others
# ===============================  ================================  ====================================================
# has died, with one job           it has crashed
# has died, with several           is not known: all are lost, which counts as a crash of each. A job that one more crash
#                                  would fail runs alone, so a job that is not to blame does not fail by its neighbours.
# was killed, and its loop ran     the job that had to stop, as it   released: nothing counts against them
#                                  had to end
# was killed, and a job kept the   that job has crashed, even if     released
# event loop                       another one had to stop
# was killed, and nothing shows    is not known: all are lost
# which job kept the event loop
# ===============================  ================================  ====================================================
#
# A job that was asked to stop on request is cancelled in any case: its result would be thrown away.

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.worker.outcome import describe
from stockworker.worker.work import Blocked


@dataclass(frozen=True, slots=True)
class Killed:
    """Why a process was killed.

    Attributes:
        stopped: how the attempt ends that did not stop.
        listened: whether the event loop had taken the request to stop it.
        blocked: the job that keeps the event loop, if it is known.
    """

    stopped: AttemptResult
    listened: bool
    blocked: Blocked | None


def after_death(
    running: Sequence[Token], stopped: Mapping[Token, AttemptResult], death: AttemptResult
) -> list[AttemptResult]:
    """Judge the attempts of a process that has died by itself.

    Args:
        running: the attempts.
        stopped: how those end that had been asked to stop.
        death: what became of the process, as the result of any of them.
    """
    if len(running) == 1 or death.outcome in {Outcome.RELEASED, Outcome.REFUSED}:
        return [stopped.get(token) or replace(death, token=token) for token in running]
    return _lost(running, stopped, death.error or "")


def after_kill(running: Sequence[Token], stopped: Mapping[Token, AttemptResult], killed: Killed) -> list[AttemptResult]:
    """Judge the attempts of a process that was killed because one of them did not stop."""
    if killed.blocked is None and not killed.listened and len(running) > 1:
        return _lost(running, stopped, killed.stopped.error or "")
    guilty = killed.stopped.token if killed.blocked is None else killed.blocked.token
    return [_end(token, guilty, stopped, killed) for token in running]


def _end(token: Token, guilty: Token, stopped: Mapping[Token, AttemptResult], killed: Killed) -> AttemptResult:
    asked = killed.stopped if token == killed.stopped.token else stopped.get(token)
    if asked is not None and (asked.outcome is Outcome.CANCELLED or token == guilty or killed.blocked is None):
        return asked
    if token == guilty and killed.blocked is not None:
        text = (
            f"it kept the event loop of the jobs beside it: {killed.blocked.place}. Use `await asyncio.to_thread(...)`"
        )
        return AttemptResult(token, Outcome.CRASHED, error=describe(text))
    text = "the process was killed because of another job in it"
    return AttemptResult(token, Outcome.RELEASED, error=text)


def _lost(running: Sequence[Token], stopped: Mapping[Token, AttemptResult], reason: str) -> list[AttemptResult]:
    summary, _, detail = reason.partition("\n")
    text = describe(
        f"one of {len(running)} jobs in the same process has ended it, it is not known which: {summary}", detail
    )
    return [
        asked
        if (asked := stopped.get(token)) is not None and asked.outcome is Outcome.CANCELLED
        else AttemptResult(token, Outcome.LOST, error=text)
        for token in running
    ]
