"""The sections of the configuration that are about watching the fleet."""

import re
from pathlib import Path

import pytest

from stockworker import config
from stockworker.errors import ConfigError
from tests.harness.config_files import Write, errors, writer


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


def test_notifications_have_one_recipient(write: Write) -> None:
    (error,) = errors(write("job_processor: {notifications: {webhook: 'http://a/b', command: [/bin/true]}}"))
    assert "set only one of 'command', 'webhook' and 'webhook_file'" in error


def test_notifications_without_a_recipient_are_warned_of(write: Write) -> None:
    (problem,) = config.problems(write("job_processor: {notifications: {subjects: [jobs]}}"))
    assert problem.severity == "warning"
    assert "names no recipient, so nothing is sent" in problem.show()


def test_the_address_of_notifications_is_a_secret(write: Write, tmp_path: Path) -> None:
    file = tmp_path / "webhook"
    file.write_text("https://chat.example/hush\n")
    file.chmod(0o600)
    found = config.load(write(f"job_processor: {{notifications: {{webhook_file: {file}}}}}")).notifications
    assert found is not None
    assert found.read_webhook() == "https://chat.example/hush"
    assert found.subjects == ("jobs", "workers", "certificates", "losses")
    file.write_text("ftp://chat.example/hush\n")
    with pytest.raises(
        ConfigError, match=r"^notifications\.webhook_file: .* must be an http or https address$"
    ) as refused:
        found.read_webhook()
    assert "hush" not in str(refused.value)
    path = write("job_processor: {notifications: {webhook: 'https://chat.example/hush'}}")
    assert "hush" not in repr(config.load(path))
    path.chmod(0o644)
    assert [bool(re.search("or use 'webhook_file'", problem.show())) for problem in config.problems(path)] == [True]
