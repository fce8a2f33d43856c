"""Files and pipes without an end, on the command line: each command refuses them at its limit, and names them."""

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from stockworker.pki.arguments import passphrase
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.given import LineBounds, first_line, read_given, read_lines

MEMORY = 1 << 30
ENDLESS = Path("/dev/zero")
BOUNDS = LineBounds(line_bytes=10, lines=3, bytes=25)


def refuse(*words: str, stdin: str = os.devnull) -> str:
    """Run a command with little memory; return its error."""
    with Path(stdin).open("rb") as given:
        done = subprocess.run(
            [sys.executable, "-m", "stockworker", *words],
            stdin=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        )
    assert done.returncode == Exit.USAGE
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("submit echo @/dev/zero", "/dev/zero: the payload is too large, more than 245,760 bytes; put the data"),
        ("submit --batch -", "standard input:1: is longer than 1,966,080 bytes; write one record per line"),
        ("pki join -", "standard input: the first line is longer than 1,024 bytes; name the right file"),
    ],
)
def test_a_file_without_an_end_is_refused(words: str, name: str) -> None:
    assert name in refuse(*words.split(), stdin=str(ENDLESS))


def test_a_passphrase_without_an_end_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^/dev/zero: the first line is longer than 1,024 bytes"):
        passphrase(argparse.Namespace(passphrase_file=ENDLESS), "")


def test_as_much_as_the_bound_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 10)
    assert read_given(str(file), 10, "the file", "retry") == b"x" * 10
    with pytest.raises(UsageError, match=r"file: the file is too large, more than 9 bytes; retry$"):
        read_given(str(file), 9, "the file", "retry")
    with pytest.raises(UsageError, match=r"file2: can't be read: No such file"):
        read_given(f"{file}2", 9, "the file", "retry")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"1234567890\n", r"file:1: is longer than 10 bytes"),
        (b"1\n2\n3\n4\n", r"file: has more than 3 lines or 25 bytes"),
        (b"1\n\n\n\n", r"file: has more than 3 lines or 25 bytes"),
        (b"123456789\n123456789\n123456\n", r"file: has more than 3 lines or 25 bytes"),
    ],
    ids=["a line", "lines", "empty lines", "bytes"],
)
def test_lines_have_three_bounds(tmp_path: Path, content: bytes, error: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=error):
        list(read_lines(str(file), BOUNDS))
    file.write_bytes(b"123456789\n123456789\n12345")
    assert b"".join(read_lines(str(file), BOUNDS)) == file.read_bytes()


def test_the_first_line_may_have_no_end(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"secret")
    assert first_line(str(file), 6) == b"secret"
    file.write_bytes(b"secret\nmore")
    assert first_line(str(file), 7) == b"secret"
