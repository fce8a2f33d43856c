"""`stockworker check` on the configuration of an old worker: the command that moves its jobs."""

import shlex
from pathlib import Path

import pytest

from stockworker.cli.old_backend import check_old_backend
from stockworker.migration.address import parse_address


def found(folder: Path, queue: str) -> str | None:
    file = folder / "job_processor.yml"
    file.write_text(f"job_processor:\n  queue: {queue}\n")
    finding = check_old_backend(file)
    return None if finding is None else finding.text


@pytest.mark.parametrize(
    ("section", "url"),
    [
        ("{dsn: 'mysql:host=db;dbname=shop;charset=utf8', username: jobs, password: secret}", "mysql://jobs@db/shop"),
        ("{dsn: 'pgsql:host=db;port=5433;dbname=shop'}", "postgresql://db:5433/shop"),
        ("{dsn: 'mysql://jobs:secret@db:3307/shop'}", "mysql://jobs@db:3307/shop"),
        ("{dsn: 'sqlite:/var/lib/app/jobs.db'}", "sqlite:///var/lib/app/jobs.db"),
        ("{driver: mysql, host: db, database: my shop, user: a@b, password: secret}", "mysql://a%40b@db/my%20shop"),
        ("{driver: pgsql, name: shop}", "postgresql://localhost/shop"),
    ],
)
def test_the_command_for_an_old_database_is_exact(tmp_path: Path, section: str, url: str) -> None:
    text = found(tmp_path, f"{{backend: database, database: {section}}}")

    assert text is not None
    assert "secret" not in text
    words = shlex.split(text.split(": ", 1)[1].split(" > ")[0])
    assert words == ["stockworker", "migrate", url, "--inspect"]
    assert parse_address(words[2]).shown == url


@pytest.mark.parametrize(
    ("queue", "url"),
    [
        ("{backend: redis, redis: {host: cache, port: 6380, database: 2, password: secret}}", "redis://cache:6380/2"),
        ("{backend: redis}", "redis://localhost"),
        (
            "{backend: rabbitmq, rabbitmq: {host: mq, port: 5672, user: jobs, password: secret, vhost: /, queue: my jobs}}",
            "amqp://jobs@mq:5672?queue=my%20jobs",
        ),
        ("{backend: rabbitmq, rabbitmq: {host: mq, vhost: shop}}", "amqp://mq/shop"),
    ],
)
def test_the_command_for_an_old_broker_is_exact(tmp_path: Path, queue: str, url: str) -> None:
    text = found(tmp_path, queue)

    assert text is not None
    assert "secret" not in text
    assert shlex.split(text.split(": ", 1)[1].split(" > ")[0]) == ["stockworker", "migrate", url, "--inspect"]
    assert parse_address(url).shown == url


@pytest.mark.parametrize("section", ["{host: db}", "{dsn: 'oracle:dbname=x'}", "[]", "{dsn: 'sqlite::memory:'}"])
def test_a_database_that_is_not_named_is_explained(tmp_path: Path, section: str) -> None:
    text = found(tmp_path, f"{{backend: database, database: {section}}}")

    assert text is not None
    assert "name it in place of URL: stockworker migrate URL --inspect" in text


@pytest.mark.parametrize("queue", ["{backend: mqtt}", "{backend: file}", "{}", "[]"])
def test_other_configurations_have_no_such_finding(tmp_path: Path, queue: str) -> None:
    assert found(tmp_path, queue) is None


def test_a_missing_file_has_no_such_finding(tmp_path: Path) -> None:
    assert check_old_backend(tmp_path / "none.yml") is None
