"""The option `--jobs` of the tests of migrations."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--jobs", type=int, default=3_000, help="jobs of each old queue (default: 3000)")
