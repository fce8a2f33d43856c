"""Runs the fast tests in forked processes: with a record of the functions that each test calls, or with one changed module.

The parent has imported pytest, but nothing of the product. So each child imports the product itself, with the change, and
needs no second copy of the tree.
"""

import ast
import builtins
import importlib.machinery
import importlib.util
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Final

import hypothesis
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PRODUCT: Final = ROOT / "agent" / "stockworker"
FAST: Final = (
    "tests/unit",
    "tests/property",
    "tests/contract/test_damage.py",
    "tests/contract/test_job_outputs.py",
    "tests/contract/test_job_store.py",
    "tests/contract/test_journal.py",
    "tests/contract/test_journal_entries.py",
)
"""The tests that must notice each mutant: they need no broker and no other process."""

_QUIET: Final = (
    "-q",
    "-x",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "--no-header",
    "--tb=line",
    "-o",
    "addopts=--import-mode=importlib",
)
_PRELOADED: Final = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
_MEMORY_BYTES: Final = 4 * 1024**3
_LEAST_CPU_S: Final = 10.0
_NOTE: Final = "_note_call"


@dataclass(frozen=True, slots=True)
class Change:
    """A module that a child imports with another source."""

    path: Path
    source: str


@dataclass(frozen=True, slots=True)
class Called:
    """What a test calls.

    Attributes:
        cpu_s: how long it runs, in seconds of a processor.
        functions: `path::qualified name`, with the path in the product, and without the functions inside functions; also
            the functions and classes that the file of the test imports.
    """

    cpu_s: float
    functions: frozenset[str]


class _Repeatable:
    """Hypothesis tries the same examples in each run, and does not look for simpler ones."""

    def pytest_sessionstart(self) -> None:
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutation", hypothesis.settings.get_profile("stockworker"), phases=phases, derandomize=True, database=None
        )
        hypothesis.settings.load_profile("mutation")


class _Recorder:
    """Notes which functions of the product each test calls, and which ones its file imports.

    Each function of the product begins with a statement that notes its name. A trace of all calls would take several times
    as long, because it also sees those of pytest and of Hypothesis.
    """

    def __init__(self) -> None:
        self._called: set[str] = set()
        self._imported: dict[str, set[str]] = {}
        self._failed: set[str] = set()
        self.tests: dict[str, tuple[float, list[str]]] = {}
        setattr(builtins, _NOTE, self._called.add)
        sys.meta_path.insert(0, _Finder(lambda path: noting(path.read_text(), str(path.relative_to(PRODUCT)))))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        yield
        if isinstance(collector, pytest.Module):
            places = {name for value in vars(collector.obj).values() if (name := _place(value)) is not None}
            self._imported[collector.nodeid] = places

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._called.clear()
        began = resource.getrusage(resource.RUSAGE_SELF)
        yield
        ended = resource.getrusage(resource.RUSAGE_SELF)
        names = self._called | self._imported.get(item.nodeid.partition("::")[0], set())
        cpu_s = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
        self.tests[item.nodeid] = (round(cpu_s, 4), sorted(names))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        for test in self._failed:
            self.tests.pop(test, None)


def noting(source: str, path: str) -> ast.Module:
    """The module with a call of `_NOTE` at the beginning of each function that is not inside another one."""
    tree = ast.parse(source)
    _note_calls(tree.body, f"{path}::")
    return ast.fix_missing_locations(tree)


def _note_calls(statements: Sequence[ast.stmt], prefix: str) -> None:
    for node in statements:
        if isinstance(node, ast.ClassDef):
            _note_calls(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            note = ast.Call(ast.Name(_NOTE, ast.Load()), [ast.Constant(f"{prefix}{node.name}")], [])
            after_docstring = 1 if ast.get_docstring(node) is not None else 0
            node.body.insert(after_docstring, ast.Expr(note))


def _place(value: object) -> str | None:
    """`path::qualified name` of a function, a class, or the class of a value."""
    named = value if isinstance(value, type | FunctionType) else type(value)
    package, _, module = (named.__module__ or "").partition(".")  # compiled code has no module
    return f"{module.replace('.', '/')}.py::{named.__qualname__}" if package == PRODUCT.name else None


class _OtherSource(importlib.machinery.SourceFileLoader):
    """Loads a module from another source than that of its file."""

    def __init__(self, name: str, path: Path, source: str | ast.Module) -> None:
        super().__init__(name, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 (a port)
        return compile(self._source, self.path, "exec")


class _Finder:
    """Finds the modules of the product that have another source.

    Args:
        source: of a file; None if that of the file is right.
    """

    def __init__(self, source: Callable[[Path], str | ast.Module | None]) -> None:
        self._source = source

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != PRODUCT.name:
            return None
        place = PRODUCT.parent.joinpath(*fullname.split("."))
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if (source := self._source(path) if path.exists() else None) is None:
            return None
        loader = _OtherSource(fullname, path, source)
        return importlib.util.spec_from_file_location(fullname, path, loader=loader)


def start(tests: Sequence[str], change: Change | None = None, *, cpu_s: float = 0.0, output: Path | None = None) -> int:
    """Run tests in a forked process, which gets up to five times `cpu_s` of a processor; return its process ID.

    Its exit status is that of pytest, or a signal.
    """
    process = os.fork()
    if process:
        return process
    _prepare(cpu_s, output)
    if change is not None:
        sys.meta_path.insert(0, _Finder(lambda path: change.source if path == change.path else None))
    os._exit(_pytest(tests, _Repeatable()))


def record(tests: Sequence[str], to: Path, output: Path) -> int:
    """Run tests in a forked process that writes what they call to a file; return its process ID.

    Tests that fail are left out, because they would fail with each mutant; the exit status is then 1.
    """
    process = os.fork()
    if process:
        return process
    _prepare(0.0, output)
    recorder = _Recorder()
    status = _pytest([*tests, "--maxfail=0"], _Repeatable(), recorder)
    to.write_text(json.dumps(recorder.tests))
    os._exit(status)


def recorded(files: Sequence[Path]) -> dict[str, Called]:
    """What `record` has written."""
    return {
        test: Called(cpu_s, frozenset(functions))
        for file in files
        for test, (cpu_s, functions) in json.loads(file.read_text()).items()
    }


def _prepare(cpu_s: float, output: Path | None) -> None:
    os.setpgid(0, 0)
    target = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(target, stream)
    if cpu_s:
        limit = int(_LEAST_CPU_S + 5 * cpu_s)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _pytest(tests: Sequence[str], *plugins: object) -> int:
    os.chdir(ROOT)
    try:
        return int(pytest.main([*_QUIET, *_PRELOADED, *tests], plugins=list(plugins)))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
