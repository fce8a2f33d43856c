"""The program of the worker's fork server: what it imports, its children need not import again."""

import signal

from stockworker.adapters.fork_loop import serve
from stockworker.worker import runner


def main() -> None:
    """Fork children; in each of them, run jobs."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, exit statuses of children are lost
    if serve(0):
        runner.main()
