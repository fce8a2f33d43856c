"""docs/python-api.md: its programs run as printed, and its reference has every public name."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages.python_api import methods
from stockworker import client
from stockworker.handlers import api
from tests.harness.fleet import Fleet

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "python-api.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
TUTORIAL = (DOCS / "tutorial.md").read_text()
HANDLER = re.findall(r"^cat > /opt/jobs/words\.py <<'END'\n(.*?)^END$", TUTORIAL, re.DOTALL | re.MULTILINE)
EXPECTED = (
    r"\{'words': 6, 'longest': 'not'\}\n",
    r'(\S+ completed \{"words":2,"longest":"\w+"\}\n){3}0 rejected\n',
    (
        r"\{'words': 2, 'longest': 'to'\}\n"
        r"accepted, but: job count-2 is failed: AttributeError: [^\n]*\n(.*\n)*"
        r"not accepted: [^\n]*'not a valid ID'[^\n]*\n"
    ),
    r"queued; [^\n]*runs jobs of type no_such_type\ncancelled\n\S+ no_such_type [0-9.]+\n",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a client, whose configuration is where programs look for it."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "words.py").write_text(HANDLER[0])
    settings = {
        "handlers": {"count_words": {"python": "words:handle"}},
        "worker": {"handler_paths": [str(folder)]},
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings) as fleet:
        own = tmp_path_factory.mktemp("home") / ".config/stockworker/client.yml"
        own.parent.mkdir(parents=True)
        own.write_text(fleet.config_file("client").read_text())
        yield own.parents[2]


@pytest.mark.parametrize(("program", "expected"), [*zip(PROGRAMS, EXPECTED, strict=True)])
def test_a_program_of_the_page_runs(home: Path, program: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(expected, done.stdout), done.stdout


def test_the_reference_has_every_public_name() -> None:
    headings = set(re.findall(r"^### `(\S+)`$", PAGE, re.MULTILINE))
    handlers = {name for name, found in vars(api).items() if getattr(found, "__module__", None) == api.__name__}
    assert {f"Client.{name}" for name in methods()} <= headings
    assert {*client.__all__, *handlers, "Handler"} <= headings
