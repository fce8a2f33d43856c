"""The examples of README.md, run as they are printed, on a fleet that has no data yet."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.harness.fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def blocks(language: str, having: str) -> str:
    (found,) = (str(text) for kind, text in BLOCKS if kind == language and having in text)
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of an operator, whose own configuration is where commands look for it."""
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1) as fleet:
        home = tmp_path_factory.mktemp("home")
        own = home / ".config/stockworker/client.yml"
        own.parent.mkdir(parents=True)
        own.write_text(fleet.config_file("operator").read_text())
        programs = home / "bin"
        programs.mkdir()
        (programs / "stockworker").symlink_to(Path(sys.executable).with_name("stockworker"))
        yield {"HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}"}


def test_the_commands_and_the_program(environment: Mapping[str, str]) -> None:
    lines = re.sub(r"^\$ ", "", blocks("console", "$ stockworker submit"), flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-euc", lines], env=environment, capture_output=True, check=False, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "12.0" in done.stdout

    done = subprocess.run(
        [sys.executable, "-c", blocks("python", "from_config")],
        env=environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "12.0" in done.stdout


def test_the_program_finds_what_pip_installs(tmp_path: Path) -> None:
    """From a copy, because a build leaves files in its folder."""
    assert "python3 -m pip install ." in blocks("console", "pip install")
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, checkout)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "agent", checkout / "agent", ignore=ignored)
    offline = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--target", str(tmp_path / "site"), "."],
        cwd=checkout,
        check=True,
        timeout=120,
    )
    program = "import stockworker.client as client, stockworker; client.Client; print(stockworker.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.startswith(str(tmp_path / "site"))
