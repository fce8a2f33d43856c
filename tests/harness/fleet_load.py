"""Jobs that a client submits all the time while something happens to the fleet."""

import json
from contextlib import ExitStack
from subprocess import PIPE, Popen
from types import TracebackType
from typing import Final, Self

from tests.harness.guest import Guest

_PROGRAM: Final = "/root/load.py"
_STOP: Final = "/root/load-stop"
_LONG_S: Final = 600.0
_SOURCE: Final = """\
import asyncio, json, pathlib, sys

from stockworker.client import Client
from stockworker.errors import ConnectionFailed

PAYLOAD = {"symbol": "ACME", "indicators": [{"name": "sma", "period": 1}],
           "bars": [{"date": "2026-01-05", "open": 1, "high": 1, "low": 1, "close": 1, "volume": 1}]}


async def submit(client, job_id):
    while True:
        try:
            return await client.submit("technical_analysis", PAYLOAD, id=job_id)
        except ConnectionFailed:
            pass  # no answer in time: again, with the same ID


async def main():
    jobs = []
    async with Client.from_config() as client:
        while not pathlib.Path(sys.argv[1]).exists():
            jobs.append(await submit(client, f"load-{sys.argv[2]}-{len(jobs)}"))
            await asyncio.sleep(0.25)
    print(json.dumps(jobs))


asyncio.run(main())
"""


class Load:
    """The load; it begins when the context is entered.

    Args:
        guest: the machine of a client, whose identity is that of root.
    """

    _runs = 0

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._exits = ExitStack()
        self._process: Popen[str] | None = None

    def __enter__(self) -> Self:
        type(self)._runs += 1
        self._guest.write(_PROGRAM, _SOURCE)
        self._guest.run("rm", "-f", _STOP)
        settings = ("env", "PYTHONPATH=/usr/share/stockworker-code", "HOME=/root")
        command = self._guest.command(*settings, "python3", "-B", _PROGRAM, _STOP, str(self._runs))
        self._process = self._exits.enter_context(Popen(command, stdout=PIPE, stderr=PIPE, text=True))
        self._exits.callback(self._process.kill)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def outcomes(self) -> list[str]:
        """Stop submitting, wait until every job ends, and return how each one ended."""
        assert self._process is not None
        self._guest.write(_STOP, "")
        output, errors = self._process.communicate(timeout=_LONG_S)
        assert self._process.returncode == 0, errors
        jobs = json.loads(output)
        assert jobs, "no job was submitted"
        done = self._guest.try_run(
            *("env", "HOME=/root", "stockworker", "wait", *jobs, "--timeout", "300s", "--json"), timeout_s=_LONG_S
        )
        ended = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert sorted(each["job_id"].rpartition(":")[2] for each in ended) == sorted(jobs), done.stdout
        return [each["state"] for each in ended]
