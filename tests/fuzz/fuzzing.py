"""Runs a target on its corpus and on mutants of it, and keeps the mutants that reach something new."""

# A target is a parser with its promise. It breaks the promise by any exception: one that the parser does not document, or
# an assertion about its result. It also breaks it by too much work. Work is counted in calls of functions, not in seconds.
# So a finding is the same on every machine, and a parser that never ends is a finding as well.
#
# The calls also lead the search. A mutant that reaches another function, or one twice as often as any before, joins the
# inputs that are mutated.

import hashlib
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any, Final, Self

from tests.fuzz.mutation import Mutator
from tests.harness.counting import without_collections

CORPUS: Final = Path(__file__).parent / "corpus"
_FREE_CALLS: Final = 60_000  # five suggestions for misspelt words take most of them
_LARGEST_KEPT: Final = 4_000
"""Bytes of an input that is mutated again: mutants of larger ones are slow, and reach little more."""


class TooMuchWork(BaseException):
    """A parser called more functions than its input justifies."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parser of untrusted bytes.

    Attributes:
        run: parses, and checks what the parser promises.
        words: what means something to the parser, as parts for mutants.
        inputs: more of the corpus, which can't be files.
        largest: most bytes of a mutant.
        calls_per_byte: how many calls of functions a byte of the input justifies.
    """

    run: Callable[[bytes], None]
    words: Sequence[bytes] = ()
    inputs: Sequence[bytes] = ()
    largest: int = 70_000
    calls_per_byte: int = 60


@dataclass(slots=True)
class Report:
    """What a run has found.

    Attributes:
        executions: of the target.
        calls: of functions, in the executions without a finding.
        kept: mutants that reached something new.
        findings: by place and kind of the failure, the first input and the traceback.
    """

    executions: int = 0
    calls: int = 0
    kept: int = 0
    findings: dict[str, tuple[bytes, str]] = field(default_factory=dict)


class Calls:
    """Counts the calls of functions while it is entered.

    Attributes:
        made: how many.
        reached: of each Python function.
    """

    def __init__(self, most: int) -> None:
        self.made = 0
        self.reached: Counter[CodeType] = Counter()
        self._most = most

    def __enter__(self) -> Self:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            self.reached[frame.f_code] += 1
        elif event != "c_call":
            return
        self.made += 1
        if self.made > self._most:
            sys.setprofile(None)
            raise TooMuchWork(f"more than {self._most:,} calls of functions")


def execute(target: Target, content: bytes) -> Calls:
    """Run a target once.

    Raises:
        BaseException: what the target must not raise.
    """
    with without_collections(), Calls(_FREE_CALLS + target.calls_per_byte * len(content)) as calls:
        target.run(content)
    return calls


def corpus(name: str, target: Target) -> list[bytes]:
    """The inputs of a target that are known."""
    files = sorted((CORPUS / name).glob("*.bin"))
    return [*(file.read_bytes() for file in files), *target.inputs]


class Fuzzer:
    """A run of one target."""

    def __init__(self, name: str, target: Target, seed: int) -> None:
        self.report = Report()
        self._target = target
        self._random = Random(f"{name} {seed}")  # noqa: S311 (repeatable on purpose)
        self._mutator = Mutator(self._random, target.words, target.largest)
        self._inputs: list[bytes] = []
        self._reached: set[tuple[CodeType, int]] = set()
        for content in corpus(name, target) or [b""]:
            self._inputs.append(content)
            self._try(content)
        self.report.kept = 0

    def step(self) -> None:
        """Try one mutant: of the newest inputs every other time."""
        newest = self._inputs[-16:]
        self._try(self._mutator.mutate(newest if self._random.random() < 1 / 2 else self._inputs))

    def _try(self, content: bytes) -> None:
        self.report.executions += 1
        try:
            calls = execute(self._target, content)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 (whatever it raises is a finding)
            kind = describe(error)
            self.report.findings.setdefault(kind, (content, "".join(traceback.format_exception(error))))
            return
        self.report.calls += calls.made
        now = {(code, count.bit_length()) for code, count in calls.reached.items()}
        if not now <= self._reached:
            self._reached |= now
            self.report.kept += 1
            if len(content) <= _LARGEST_KEPT:
                self._inputs.append(content)


def describe(error: BaseException) -> str:
    """The kind of an exception, and where it was raised: equal for equal defects."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    where = "" if last is None or isinstance(error, TooMuchWork) else f" in {Path(last.filename).name}:{last.lineno}"
    return f"{type(error).__name__}{where}"


def save(folder: Path, name: str, content: bytes) -> Path:
    """Write an input to a file that is named after it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.bin"
    file.write_bytes(content)
    return file
