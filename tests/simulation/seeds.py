"""Many seeds, each in one of two processes, their outcomes in order.

No pool of `concurrent.futures`: its end waits for every seed that a process has been handed, and for threads and locks
that a dead one may have held. Processes that are not needed any more are killed here.
"""

from collections.abc import Generator, Iterator
from contextlib import suppress
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Final

from tests.simulation.invariants import Violation
from tests.simulation.scenario import Outcome, run

_PROCESSES: Final = 2


def outcomes(first: int) -> Generator[Outcome | str, None, None]:
    """Run seed after seed, from `first` on, until the caller stops; a broken law is yielded as its text.

    Raises:
        EOFError: a process has died.
    """
    context = get_context("spawn")  # one that is forked would hold the other's pipe open
    pipes = [context.Pipe() for _ in range(_PROCESSES)]
    processes = [context.Process(target=_serve, args=(theirs,), daemon=True) for _, theirs in pipes]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()
    try:
        yield from _in_order([ours for ours, _ in pipes], first)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _in_order(workers: list[Connection], first: int) -> Iterator[Outcome | str]:
    seeds, done = count(first), dict[int, Outcome | str]()
    for worker in workers:
        worker.send(next(seeds))
    for seed in count(first):
        while seed not in done:
            ready = wait(workers)
            for worker in (worker for worker in workers if worker in ready):
                number, outcome = worker.recv()
                done[number] = outcome
                worker.send(next(seeds))
        yield done.pop(seed)


def _serve(parent: Connection) -> None:
    with suppress(EOFError, ConnectionError):  # the parent has ended
        while True:
            seed = parent.recv()
            parent.send((seed, _run(seed)))


def _run(seed: int) -> Outcome | str:
    try:
        return run(seed)
    except Violation as violation:
        return str(violation)
