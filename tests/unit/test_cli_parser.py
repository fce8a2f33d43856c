"""The parser: lazy, complete, and the same as the manual."""

import gc
import re
import shlex
import subprocess
import sys
from enum import Enum

import pytest

from docs.pages import commands as manual
from docs.pages import configuration
from docs.pages.man_pages import man_pages
from stockworker.cli import main
from stockworker.cli.commands import COMMANDS, make_parser
from stockworker.cli.worker import run_worker
from stockworker.errors import (
    AccessDenied,
    CertificateRefused,
    ConfigError,
    ConnectionFailed,
    JobRejected,
    JobUnknown,
    NoAnswer,
    StoreError,
)
from stockworker.terminal.exits import Exit, UsageError, exit_of

HEAVY = {"asyncio", "cryptography", "gmqtt", "sqlite3", "ssl", "yaml"}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The man pages."""
    return man_pages()


def test_help_imports_nothing_that_is_slow() -> None:
    program = "import sys; from stockworker.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)

    assert HEAVY.isdisjoint(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())

    _, parsers = make_parser()
    parsers[name].complete()
    assert shown.startswith(f"usage: stockworker {name}")
    assert " ".join(str(parsers[name].description).split()) in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_can_be_parsed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = COMMANDS[name].example
    parser, _ = make_parser()
    assert example.startswith(name)
    assert callable(parser.parse_args(shlex.split(example)).run)

    main([*name.split(), "--help"])
    assert f"example:\n  stockworker {example}\n" in capsys.readouterr().out


@pytest.mark.parametrize("example", [example for _, example in manual.EXAMPLES])
def test_every_example_of_the_manual_can_be_parsed(example: str) -> None:
    commands = [command for line in example.split(";") for command in line.split("|") if "stockworker" in command]
    for command in commands:
        words = shlex.split(command)
        arguments = words[words.index("stockworker") + 1 :]
        if words[0] == "xargs":
            arguments.append("JOB")
        parser, _ = make_parser()
        assert callable(parser.parse_args(arguments).run)


def test_the_worker_command_keeps_its_former_name_as_an_alias(capsys: pytest.CaptureFixture[str]) -> None:
    parser, _ = make_parser()
    (alias,) = COMMANDS["worker"].aliases
    by_name, by_alias = (parser.parse_args([word, "--instance", "2"]) for word in ("worker", "agent"))
    assert alias == "agent"
    assert by_name == by_alias
    assert by_name.run is run_worker

    assert main(["--help"]) == 0
    assert f"worker ({alias})" in capsys.readouterr().out
    assert f"(alias `{alias}`)" in manual.markdown()


def test_the_configuration_may_be_named_before_and_after_the_command() -> None:
    parser, _ = make_parser()

    assert str(parser.parse_args(["--config", "/a", "stats"]).config) == "/a"
    assert str(parser.parse_args(["stats", "--config", "/b"]).config) == "/b"
    assert parser.parse_args(["stats"]).config is None


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["status"], ["stats", "--unknown"], ["list", "--limit", "0"]])
def test_what_can_not_be_parsed_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == Exit.USAGE
    assert ": error: " in capsys.readouterr().err


def test_the_manual_has_the_json_output_of_every_command() -> None:
    _, parsers = make_parser()
    for parser in parsers.values():
        parser.complete()
    documented = [name for names, _ in manual.JSON_OUTPUT for name in names.split(", ")]
    assert sorted(documented) == sorted(name for name, parser in parsers.items() if "--json" in parser.format_help())


def test_the_manual_has_every_command_option_and_status(pages: dict[str, str]) -> None:
    page = manual.markdown()
    _, parsers = make_parser()
    for name, parser in parsers.items():
        parser.complete()
        assert f"## stockworker {name}\n" in page
        for word in parser.format_usage().split():
            option = word.strip("[]")
            if option.startswith("--"):
                assert f"`{option}" in page
                of_command = pages[f"stockworker-{name.replace(' ', '-')}.1"]
                assert option.replace("-", "\\-") in of_command + pages["stockworker.1"]
    for status in Exit:
        assert f"| {status} | {status.meaning} |" in page


def test_each_command_has_a_man_page_of_its_own_that_leaves_out_what_all_share(pages: dict[str, str]) -> None:
    _, parsers = make_parser()
    commands = {f"stockworker-{name.replace(' ', '-')}.1" for name in parsers}
    assert set(pages) == {"stockworker.1", "job_processor.yml.5", *commands}
    assert "\\fB\\-\\-state" in pages["stockworker-list.1"]
    assert "\\fB\\-\\-quiet" not in pages["stockworker-list.1"]
    assert "\\fB\\-\\-quiet" in pages["stockworker.1"]


def test_the_man_page_of_the_configuration_has_every_key(pages: dict[str, str]) -> None:
    page = pages["job_processor.yml.5"]
    for chapter in configuration.chapters():
        for row in configuration.rows(chapter):
            assert f"\n\\fB{row.name}\\fR (" in page


def test_man_shows_each_page_without_a_warning(pages: dict[str, str]) -> None:
    command = ("groff", "-man", "-ww", "-K", "utf8", "-T", "utf8")
    shown = subprocess.run(command, input="".join(pages.values()), capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    heads = re.findall(r"^([A-Z_.-]+)\((\d)\) +[UF]", shown.stdout, re.MULTILINE)
    assert [f"{name.lower()}.{section}" for name, section in heads] == [*pages]


def test_no_line_of_a_man_page_is_a_request_by_accident(pages: dict[str, str]) -> None:
    requests = {".TH", ".SH", ".SS", ".B", ".PP", ".TP", ".IP", ".nf", ".fi"}
    for line in "".join(pages.values()).splitlines():
        assert not line.startswith("'")
        assert not line.startswith(".") or line.split()[0] in requests


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError(""), 2),
        (CertificateRefused(""), 2),
        (JobUnknown(""), 3),
        (TimeoutError(), 4),
        (ConnectionFailed(""), 69),
        (NoAnswer(""), 69),
        (StoreError(""), 74),
        (AccessDenied(""), 77),
        (ConfigError(""), 78),
        (JobRejected(""), 1),
    ],
)
def test_each_kind_of_error_has_its_status(error: Exception, status: int) -> None:
    assert exit_of(error) == status


@pytest.mark.parametrize("words", [["list", "--state", "lost"], ["check", "--role", "lost"]])
def test_a_wrong_choice_lists_the_choices_as_they_are_typed(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser, _ = make_parser()
    with pytest.raises((SystemExit, UsageError)):
        parser.parse_args(words)
    assert "invalid choice: 'lost'" in (shown := capsys.readouterr().err)
    assert "<" not in shown


def test_each_choice_is_the_word_that_is_typed() -> None:
    """An enumeration as the type of an argument would show its members in place of the words."""
    for parser in make_parser()[1].values():
        parser.complete()
        for action in parser._actions:
            assert {type(choice) for choice in action.choices or ()} <= {str}, (parser.prog, action.dest)
            assert not (isinstance(action.type, type) and issubclass(action.type, Enum)), (parser.prog, action.dest)


@pytest.mark.parametrize(
    ("missing", "command", "package"),
    [
        ("stockworker.worker", "worker", "stockworker-agent"),
        ("stockworker.dispatcher", "dispatcher", "stockworker-dispatcher"),
        ("stockworker.dispatcher", "backup", "stockworker-dispatcher"),
    ],
)
def test_a_command_of_a_package_that_is_missing_names_it(missing: str, command: str, package: str) -> None:
    """In a process of its own, in which the code of the package is missing."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from stockworker.cli import main; sys.exit(main([{command!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == Exit.CONFIG
    assert f"'apt install {package}'" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_other_commands_need_neither_service() -> None:
    others = [name for name in COMMANDS if name not in {"worker", "dispatcher", "backup"}]
    code = (
        "import sys; sys.modules.update({'stockworker.worker': None, 'stockworker.dispatcher': None})\n"
        f"from stockworker.cli.commands import COMMANDS\nfor name in {others!r}: COMMANDS[name].load()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_program_that_calls_the_command_keeps_its_garbage_collector() -> None:
    assert main(["no-such-command"]) == Exit.USAGE
    assert gc.isenabled()
