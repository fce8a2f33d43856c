"""The program of the worker's fork server: what it imports, its children need not import again."""

import signal
import sys

from stockworker.adapters.fork_loop import serve
from stockworker.worker import runner
from stockworker.worker.frames import COROUTINES


def main() -> None:
    """Fork children; in each of them, run jobs."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, exit statuses of children are lost
    if COROUTINES in sys.argv[2:]:  # asyncio takes time and memory, and most workers run no coroutines
        from stockworker.worker import coroutines  # noqa: F401, PLC0415 (the children share it)
    if not serve(0):
        return
    channel, specs = runner.prepare()
    if any(spec.concurrency > 1 for spec in specs.values()):
        from stockworker.worker.coroutines import run_together  # noqa: PLC0415 (as above)

        run_together(channel, specs)
    else:
        runner.run_in_turn(channel, specs)
