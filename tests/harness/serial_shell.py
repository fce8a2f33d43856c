"""Runs commands that arrive on the serial line of a virtual machine, one at a time.

A request is a line with the command, as a JSON list; an answer is a line with its exit status and output. It needs only
the Python of the machine.
"""

import json
import subprocess
import sys
import tty
from pathlib import Path


def serve(port: Path) -> None:
    """Send an empty list, then answer requests for ever."""
    with port.open("rb") as requests, port.open("wb", buffering=0) as answers:
        tty.setraw(requests.fileno())
        answers.write(b"[]\n")
        for request in requests:
            done = subprocess.run(
                json.loads(request),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            printed = done.stdout.decode(errors="replace")
            answers.write(json.dumps([done.returncode, printed]).encode() + b"\n")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
