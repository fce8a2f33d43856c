"""The process gateway on its own; what it is for is tested with the executor."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from stockworker.adapters.process import Process, keep_exit_statuses
from tests.harness import processes

PATH = {"PATH": os.environ["PATH"]}
TIMEOUT_S = 30.0


class Recorder:
    """A process, and what came of it."""

    def __init__(self, *argv: str, stdin: bytes = b"", environment: Mapping[str, str] = PATH) -> None:
        self.output = b""
        self.errors = b""
        self.returncode: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.process = Process(
            argv,
            environment=environment,
            stdin=stdin,
            on_output=self._take_output,
            on_errors=self._take_errors,
            on_exit=self.returncode.set_result,
        )

    def _take_output(self, data: bytes) -> None:
        self.output += data

    def _take_errors(self, data: bytes) -> None:
        self.errors += data

    async def end(self) -> int | None:
        return await asyncio.wait_for(self.returncode, TIMEOUT_S)


def test_everything_written_arrives_before_the_exit_is_told() -> None:
    async def scenario() -> None:
        recorder = Recorder("sh", "-c", "cat; echo complaint >&2; exit 7", stdin=b"x" * 5_000_000)
        assert await recorder.end() == 7
        assert (len(recorder.output), recorder.errors) == (5_000_000, b"complaint\n")

    asyncio.run(scenario())


def test_a_program_has_a_group_and_session_of_its_own_and_no_other_files() -> None:
    show = "import json, os; print(json.dumps([os.getpid(), os.getpgid(0), os.getsid(0), os.listdir('/proc/self/fd')]))"

    async def scenario() -> None:
        recorder = Recorder(sys.executable, "-I", "-c", show)
        await recorder.end()
        pid, group, session, files = json.loads(recorder.output)
        assert pid == group == session == recorder.process.pid
        assert len(files) == 5  # three streams, the tether, and the folder that is being listed

    asyncio.run(scenario())


def test_an_exit_status_that_the_kernel_has_forgotten_is_unknown_and_not_a_success() -> None:
    async def scenario() -> None:
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            recorder = Recorder("sh", "-c", "read -r line; kill -9 $$", stdin=b"x" * 5_000_000)
            assert await recorder.end() is None
        finally:
            signal.signal(signal.SIGCHLD, before)

    asyncio.run(scenario())


def test_a_service_keeps_exit_statuses_whatever_its_parent_ignores() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        keep_exit_statuses()
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)


ORPHANS = """
import asyncio, ctypes, os, sys
from stockworker.adapters.process import Process, reap_orphans

async def main():
    ended = []
    reap_orphans(0.01)
    for code in (3, 4, 5):
        script = f"for n in 1 2 3; do setsid sh -c 'exec sleep 0.0$0' $n & done; exit {code}"
        Process(("sh", "-c", script), environment=dict(os.environ), on_output=print, on_exit=ended.append)
    while len(ended) < 3 or open(f"/proc/self/task/{os.getpid()}/children").read():
        await asyncio.sleep(0.01)
    print(sorted(ended))

ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans become children of this process, as of process 1
if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_first_process_of_a_container_leaves_no_zombies(loop: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ORPHANS, loop], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert (ended.stdout, ended.stderr) == ("[3, 4, 5]\n", "")


def test_one_that_outlives_its_program_outside_the_group_is_not_waited_for() -> None:
    async def scenario() -> None:
        recorder = Recorder(
            "sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & read -r pid < /dev/null; exec sleep 1000"
        )
        async with asyncio.timeout(TIMEOUT_S):
            while not recorder.output:  # noqa: ASYNC110 (callbacks fill it)
                await asyncio.sleep(0.005)
        recorder.process.kill()
        assert await recorder.end() == -9
        escaped = int(recorder.output)
        assert processes.is_alive(escaped)
        os.kill(escaped, 9)

    asyncio.run(scenario())


def test_a_message_of_any_size_gets_through_in_both_directions() -> None:
    sent = b"x" * 3_000_000
    echo = "import os\nwhile data := os.read(0, 1 << 16): os.write(0, data)"

    async def scenario() -> None:
        done = asyncio.get_running_loop().create_future()
        gone = asyncio.get_running_loop().create_future()
        received = bytearray()

        def take(data: bytes) -> None:
            received.extend(data)
            if len(received) == 2 * len(sent):
                done.set_result(None)

        process = Process(
            (sys.executable, "-I", "-c", echo),
            environment=PATH,
            on_output=received.extend,  # it prints nothing
            on_message=take,
            on_exit=gone.set_result,
        )
        process.send(sent)
        process.send(sent)
        await asyncio.wait_for(done, TIMEOUT_S)
        assert bytes(received) == sent + sent
        process.kill()
        assert await asyncio.wait_for(gone, TIMEOUT_S) == -9
        process.send(sent)
        process.kill()

    asyncio.run(scenario())


def test_a_program_that_cannot_be_started_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        before = processes.descendants(), processes.descriptors()
        with pytest.raises(FileNotFoundError, match="/nowhere/program"):
            Recorder("/nowhere/program")
        assert (processes.descendants(), processes.descriptors()) == before

    asyncio.run(scenario())


def test_a_start_that_fails_half_way_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_pid: int) -> int:
        raise OSError(24, "Too many open files")

    async def scenario() -> None:
        before = processes.descendants(), processes.descriptors()
        monkeypatch.setattr(os, "pidfd_open", fail)
        with pytest.raises(OSError, match="Too many open files"):
            Recorder("sleep", "1000")
        assert (processes.descendants(), processes.descriptors()) == before

    asyncio.run(scenario())
