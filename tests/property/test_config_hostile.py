"""Any configuration file gives a configuration or an error with a reason."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stockworker import config
from stockworker.config.reader import key_paths
from stockworker.errors import ConfigError

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.text(max_size=20),
    st.sampled_from(["5s", "1M", "/p", "mqtt"]),
)
KEYS = st.one_of(
    st.sampled_from(sorted({name for path in key_paths() for name in path.split(".")})),
    st.text(max_size=10),
    st.integers(),
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=30
)
YAML_WORDS = st.lists(
    st.sampled_from(
        ["job_processor:", " worker:", "\n", "  ", "\t", "&a ", "*a", "<<: ", "!!int ", "? ", ": ", "- ", "{", "}", "[", "]", ",",
         "'", '"', "|", ">", "#", "%YAML 9", "---", "...", "\\U", "\x00", "\ufeff", "\ud800", "5s", "=", "~"]
    )
).map("".join)  # fmt: skip


@pytest.fixture(scope="module")
def file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "job_processor.yml"


def load(file: Path, data: bytes) -> config.Config | None:
    """The configuration, or None where it was refused in the way that it should be."""
    file.write_bytes(data)
    found = config.problems(file)
    try:
        loaded = config.load(file)
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines == [problem.show() for problem in found if problem.severity == "error"]
        assert all(line.startswith(str(file)) and line.isprintable() for line in lines)
        return None
    assert all(problem.severity == "warning" for problem in found)
    assert type(loaded) is config.Config
    return loaded


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(str.encode)
    | YAML_WORDS.map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@settings(max_examples=300)
def test_any_file_is_a_configuration_or_an_error(file: Path, data: bytes) -> None:
    load(file, data)


@given(TREES)
@settings(max_examples=300)
def test_any_tree_is_a_configuration_or_an_error(file: Path, tree: object) -> None:
    load(file, yaml.safe_dump({"job_processor": tree}).encode())


@pytest.mark.parametrize(
    "bomb",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\njob_processor: *c",
        "job_processor: &a {worker: *a}",
        "job_processor: " + "[" * 100_000,
        "job_processor: " + "{a: " * 100_000,
        "- " * 100_000,
        "job_processor: " + "9" * 100_000,
        "? " * 100_000,
    ],
    ids=["laughs", "recursion", "lists", "mappings", "items", "digits", "keys"],
)
def test_a_bomb_is_refused(file: Path, bomb: str) -> None:
    assert load(file, bomb.encode()) is None
