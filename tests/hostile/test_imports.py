"""The attacker submits imports, and may write to a folder that a worker imports from. Bombs, and links at every step."""

import gzip
import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from stockworker.handlers.api import PermanentError
from stockworker.market import data_import
from stockworker.market.store import open_market_store
from tests.harness.handler_run import HandlerRun

_MIB = 1_048_576
HEADER = "Date,Open,High,Low,Close,Volume\n"
OPEN_ROW = "2013-03-01,10,12,9,11,500\n"
OUTER_ROW = "2013-03-01,10,12,9,9.87654321,500\n"
HIDDEN = "s3cr3t-content"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "import"
    (folder / "deep").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "bars.csv").write_text(HEADER + OUTER_ROW)
    (outside / "secret.txt").write_text(f"{HIDDEN}\n{HIDDEN},{HIDDEN}\n")
    return folder


@pytest.fixture
def run(tmp_path: Path, folder: Path) -> HandlerRun:
    settings: dict[str, Any] = {"market_data": str(tmp_path / "market.db"), "import_folders": [str(folder)]}
    return HandlerRun("data_import", data_import.handle, settings)


def outcome(run: HandlerRun, source: object, **payload: Any) -> str:
    """What the submitter gets."""
    try:
        return json.dumps(run({"source": str(source), "symbol": "AAPL", **payload}))
    except PermanentError as error:
        return str(error)


def imported(run: HandlerRun) -> set[float]:
    """The closing prices in the store."""
    store = open_market_store(run.settings["market_data"])
    closes = {bar.close for bar in store.bars("AAPL")}
    store.close()
    return closes


@contextmanager
def before_call(number: int, act: Callable[[], object]) -> Iterator[list[str]]:
    """Acts before the given one of the calls into the system, counted from 0; gives the names of those that were made."""
    calls: list[str] = []

    def profile(_frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function.__module__ in {"posix", "io", "_io"}:
            calls.append(function.__name__)
            if len(calls) == number + 1:
                sys.setprofile(None)
                act()
                sys.setprofile(profile)

    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def replace(path: Path, link: str | None) -> None:
    """Put a link, or a pipe, in the place of a file or folder."""
    path.rename(path.with_name("away"))
    if link is None:
        os.mkfifo(path)
    else:
        path.symlink_to(link)


SWAPS: dict[str, Callable[[Path], object]] = {
    "the file by a link": lambda folder: replace(folder / "deep/bars.csv", f"{folder.parent}/outside/bars.csv"),
    "the file by a relative link": lambda folder: replace(folder / "deep/bars.csv", "../../outside/bars.csv"),
    "the file by a pipe": lambda folder: replace(folder / "deep/bars.csv", None),
    "its folder by a link": lambda folder: replace(folder / "deep", f"{folder.parent}/outside"),
    "its folder by a relative link": lambda folder: replace(folder / "deep", "../outside"),
    "the place of its folder": lambda folder: (folder / "deep").rename(folder.parent / "outside/deep"),
}


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS)
def test_a_swap_at_any_step_reads_nothing_outside(
    run: HandlerRun, folder: Path, tmp_path: Path, swap: Callable[[Path], object]
) -> None:
    (folder / "deep/bars.csv").write_text(HEADER + OPEN_ROW)
    with before_call(-1, lambda: None) as calls:
        outcome(run, folder / "deep/bars.csv")
    assert {"open", "fstat"} <= set(calls)
    closes: list[set[float]] = []
    for number in range(len(calls)):
        (tmp_path / f"{number}/import/deep").mkdir(parents=True)
        (tmp_path / f"{number}/outside").mkdir()
        (tmp_path / f"{number}/outside/bars.csv").write_text(HEADER + OUTER_ROW)
        folder = tmp_path / f"{number}/import"
        (folder / "deep/bars.csv").write_text(HEADER + OPEN_ROW)
        run.settings.update(import_folders=[str(folder)], market_data=str(tmp_path / f"{number}/market.db"))
        with before_call(number, lambda folder=folder: swap(folder)):  # type: ignore[misc]  # binds it now
            outcome(run, folder / "deep/bars.csv")
        closes.append(imported(run))
    assert all(each <= {11.0} for each in closes)
    assert {11.0} in closes  # a swap that comes too late has no effect either


@pytest.mark.parametrize(
    "link", ["/etc/passwd", "../outside/secret.txt", "deep/../../outside/secret.txt", "..", "up/outside"]
)
@pytest.mark.parametrize("name", ["link", "deep/link", "deep"])
def test_a_link_to_outside_is_not_followed(run: HandlerRun, folder: Path, link: str, name: str) -> None:
    (folder / "up").symlink_to("..")
    if name == "deep":
        (folder / "deep").rmdir()
    (folder / name).symlink_to(link)
    for rest in ("", "/secret.txt", "/../../outside/secret.txt"):
        shown = outcome(run, f"{folder}/{name}{rest}")
        assert (
            "this worker does not read" in shown or "is not a file on this worker" in shown or "can't be read" in shown
        )
        assert HIDDEN not in shown


def test_a_relative_link_that_stays_inside_is_followed(run: HandlerRun, folder: Path) -> None:
    (folder / "bars.csv").write_text(HEADER + OPEN_ROW)
    (folder / "deep/latest.csv").symlink_to("../deep/.././bars.csv")
    (folder / "today").symlink_to("deep")
    assert json.loads(outcome(run, folder / "today/latest.csv"))["inserted"] == 1
    assert imported(run) == {11.0}


def test_a_loop_of_links_ends(run: HandlerRun, folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("deep/../a")
    (folder / "c").symlink_to("c/c")
    with before_call(-1, lambda: None) as calls:
        for name in ("a", "c", "deep/../" * 10_000 + "a"):
            assert "can't be read: Too many levels of symbolic links" in outcome(run, f"{folder}/{name}")
    assert len(calls) < 5_000


@pytest.mark.parametrize("kind", ["pipe", "folder", "null device", "terminal"])
def test_what_is_not_a_file_is_not_opened(run: HandlerRun, folder: Path, kind: str) -> None:
    match kind:
        case "pipe":
            os.mkfifo(folder / "x")
        case "folder":
            (folder / "x").mkdir()
        case _:
            run.settings["import_folders"] = ["/dev"]
            folder = Path("/dev")
    name = {"null device": "null", "terminal": "ptmx"}.get(kind, "x")
    assert outcome(run, folder / name) == f"payload.source: '{folder}/{name}' is not a file on this worker"


def test_no_text_of_a_local_file_is_shown(run: HandlerRun, folder: Path) -> None:
    lines = ["root:x:0:0", HIDDEN, f"{HIDDEN},1,2", f"2013-03-01,{HIDDEN}"]
    for format_, text in (("csv", "\n".join(lines)), ("json", json.dumps([{"root:x:0:0": HIDDEN}])), ("json", HIDDEN)):
        (folder / "x").write_text(text)
        for columns in ({}, dict.fromkeys(("day", "open", "high", "low", "close", "volume"), "root:x:0:0")):
            for on_error in ("fail", "skip"):
                shown = outcome(run, folder / "x", format=format_, columns=columns, on_error=on_error)
                assert HIDDEN not in shown
                assert "root" not in shown


def bombs() -> Iterator[tuple[str, bytes]]:
    size = 2 * _MIB
    row = OPEN_ROW.strip()
    yield "empty lists", b"[" + b"[]," * (size // 3) + b"[]]"
    yield "empty objects", b"[" + b"{}," * (size // 3) + b"{}]"
    yield "one record of lists", b"[[" + b"[]," * (size // 3) + b"[]]]"
    yield "another value of lists", b'{"x":[' + b"[]," * (size // 3) + b'[]],"bars":[]}'
    yield "distinct keys", b"[" + b",".join(b'{"k%d":0}' % number for number in range(size // 14)) + b"]"
    yield "keys of a record", b"[{" + b",".join(b'"k%d":0' % number for number in range(size // 13)) + b"}]"
    yield "numbers", b"[" + b"1," * (size // 2) + b"1]"
    yield "brackets", b"[" * size
    yield "spaces", b" " * size + b"[]"
    yield "a long text", b'["' + b"x" * size + b'"]'
    yield "wide characters", b'["' + "\N{GRINNING FACE}".encode() + b"x" * size + b'"]'
    yield "commas", b"," * size
    yield "commas in a row", (HEADER + row).encode() + b"," * size
    yield "quoted lines in a row", HEADER.encode() + b'"\n\n",' * (size // 5)
    yield "wide characters in lines", (HEADER + "\N{GRINNING FACE}\n").encode() + b"x\n" * (size // 2)
    yield "empty lines", HEADER.encode() + b"\n" * size
    yield "no line", b"x" * size


BOMBS = dict(bombs())


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_bomb_takes_little_memory(run: HandlerRun, folder: Path, content: bytes) -> None:
    """Of these files, only their own bytes and the work of one row are in memory; old releases needed 20 times as much."""
    (folder / "bomb.gz").write_bytes(gzip.compress(content, 1))
    run.settings |= {"limit_mib": 3, "limit_rows": 20_000}  # as many bytes are reserved for reading
    outcome(run, folder / "bomb.gz")  # imports modules
    tracemalloc.start()
    try:
        outcome(run, folder / "bomb.gz")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2.5 * len(content) + 1_500_000  # the file is in memory twice while it is unpacked
