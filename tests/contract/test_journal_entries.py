"""What the journal gets, over a real socket in its place."""

import logging
import os
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.pages.log_events import catalog
from stockworker.adapters.journal import JournalHandler, encode
from stockworker.logs import configure, log_event
from stockworker.logs.events import EVENTS, Ready
from stockworker.logs.journal_names import journal_field, message_id
from stockworker.logs.worker_events import AttemptFailed, HandlerLog

LOGGER = logging.getLogger("stockworker.test")
_LARGEST = 1 << 20


class Journal:
    """The other end of the journal's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(10)
        self._socket.bind(str(path))
        self.files = 0

    def next(self) -> dict[str, str]:
        """The next entry."""
        data, descriptors, _flags, _address = socket.recv_fds(self._socket, _LARGEST, 1)
        for descriptor in descriptors:
            self.files += 1
            assert data == b""
            with pytest.raises(PermissionError), os.fdopen(descriptor, "r+b", closefd=False, buffering=0) as file:
                file.write(b"x")
            with os.fdopen(descriptor, "rb") as file:
                file.seek(0)
                data = file.read()
        return decoded(data)

    def close(self) -> None:
        self._socket.close()


def decoded(data: bytes) -> dict[str, str]:
    """An entry, parsed as the protocol specifies."""
    entry = {}
    while data:
        name, _, rest = data.partition(b"\n")
        (size,) = struct.unpack_from("<Q", rest)
        assert rest[8 + size : 9 + size] == b"\n"
        entry[name.decode()] = rest[8 : 8 + size].decode()
        data = rest[9 + size :]
    return entry


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "socket")) as journal:
        yield journal


@pytest.fixture
def said(tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Logging set up as under systemd; the file has what went to standard error."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    with (tmp_path / "stderr").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        configure("info", "auto", stream, partial(JournalHandler, {"worker": "host-1"}, path=journal.path))
        ours = root.handlers[:]
        yield tmp_path / "stderr"
    for handler in ours:
        handler.close()
    root.handlers[:], root.level = before


@pytest.mark.usefixtures("said")
def test_an_event_is_an_entry_with_its_fields(journal: Journal) -> None:
    event = AttemptFailed(job="j1", type="echo", attempt=2, outcome="error", reason="a\nb", ran_s=None)
    log_event(LOGGER, event)

    assert journal.next() == {
        "MESSAGE": r'an attempt failed job=j1 type=echo attempt=2 outcome=error reason="a\nb"',
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "stockworker",
        "MESSAGE_ID": message_id(AttemptFailed),
        "STOCKWORKER_EVENT": "attempt_failed",
        "STOCKWORKER_LOGGER": "stockworker.test",
        "STOCKWORKER_WORKER_ID": "host-1",
        "STOCKWORKER_JOB_ID": "j1",
        "STOCKWORKER_JOB_TYPE": "echo",
        "STOCKWORKER_ATTEMPT": "2",
        "STOCKWORKER_OUTCOME": "error",
        "STOCKWORKER_REASON": "a\nb",
    }


@pytest.mark.usefixtures("said")
def test_what_a_handler_says_stands_under_its_job(journal: Journal) -> None:
    event = HandlerLog(job="j1", type="echo", attempt=1, message="no such file")
    log_event(LOGGER, event, level=logging.ERROR)

    entry = journal.next()
    assert (entry["PRIORITY"], entry["STOCKWORKER_JOB_ID"]) == ("3", "j1")
    assert entry["STOCKWORKER_MESSAGE"] == "no such file"


@pytest.mark.usefixtures("said")
def test_a_library_has_no_event(journal: Journal) -> None:
    logging.getLogger("asyncio").warning("slow")

    entry = journal.next()
    assert (entry["MESSAGE"], entry["STOCKWORKER_LOGGER"]) == ("asyncio: slow", "asyncio")
    assert "MESSAGE_ID" not in entry


@pytest.mark.usefixtures("said")
def test_what_is_too_large_for_a_datagram_arrives_in_a_file(journal: Journal) -> None:
    size = 4 * _LARGEST
    fields: dict[str, object] = {f"field_{number}": "x" * 2000 for number in range(size // 2000)}
    LOGGER.warning("large", extra={"fields": fields})

    small = {name: value for name, value in journal.next().items() if not name.startswith("STOCKWORKER_FIELD")}
    assert small["PRIORITY"] == "4"
    assert journal.files == 1


def test_without_a_journal_it_goes_to_standard_error(said: Path, journal: Journal) -> None:
    journal.close()
    journal.path.unlink()
    log_event(LOGGER, Ready(id="host-1"))
    assert said.read_text() == "<6>ready id=host-1\n"

    with closing(Journal(journal.path)) as again:
        log_event(LOGGER, Ready(id="host-1"))
        assert again.next()["STOCKWORKER_EVENT"] == "ready"
    assert said.read_text().count("\n") == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_another_format_is_left_to_standard_error(said: Path, form: str) -> None:
    def refuse(_stream: logging.Handler) -> logging.Handler:
        raise AssertionError("not asked for")

    with said.open("a") as stream:
        configure("info", "json" if form == "json" else "text", stream, refuse)
        log_event(LOGGER, Ready(id="host-1"))
    assert "ready" in said.read_text()


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z_]{0,60}", fullmatch=True), st.text()))
def test_no_value_can_pretend_to_be_a_field(entry: dict[str, str]) -> None:
    assert decoded(encode(entry.items())) == {
        name: value.encode(errors="replace").decode() for name, value in entry.items()
    }


def test_each_event_has_an_id_of_its_own_that_never_changes() -> None:
    assert message_id(Ready) == "07b7436b57155f038864ad97687a18c6"
    assert len({message_id(event) for event in EVENTS}) == len(EVENTS)


def test_every_field_has_a_name_that_the_journal_takes() -> None:
    names = {journal_field(name) for event in EVENTS for name in event.field_names}
    assert [name for name in names if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name)] == []


def test_systemd_understands_the_catalogue(tmp_path: Path) -> None:
    folder = tmp_path / "usr" / "lib" / "systemd" / "catalog"
    folder.mkdir(parents=True)
    (tmp_path / "var" / "lib" / "systemd" / "catalog").mkdir(parents=True)
    (folder / "stockworker.catalog").write_text(catalog())

    def journalctl(action: str) -> str:
        command = ["journalctl", f"--root={tmp_path}", action]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        assert done.stderr == ""
        return done.stdout

    journalctl("--update-catalog")
    assert journalctl("--dump-catalog").count("Defined-By: stockworker") == len(EVENTS)
