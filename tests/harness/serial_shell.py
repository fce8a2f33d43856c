"""The far end of a virtual machine's serial line: runs what comes, one command at a time.

A request is a line with a JSON list, the command; an answer is a line with its exit status and what it printed. It runs on
the machine's own Python, where nothing of ours need be installed.
"""

import json
import subprocess
import sys
import tty
from pathlib import Path


def serve(port: Path) -> None:
    """Greet with an empty list, then answer for ever."""
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
