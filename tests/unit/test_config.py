"""The configuration: accepted files, their values, and the errors for mistakes."""

import os
import re
from pathlib import Path

import pytest

from stockworker import config
from stockworker.config import schema
from stockworker.config.reader import key_paths
from stockworker.errors import ConfigError
from tests.harness.advice import follows
from tests.harness.config_files import Write, errors, writer

OLD_FILE = """\
job_processor:
  queue:
    backend: mqtt
    database:
      dsn: mysql://old
    redis: {host: old}
    rabbitmq: [old]
    mqtt:
      host: broker.example
      port: 1883
      username: u
      password: p
      keepalive: 60
      client_id_prefix: worker_
  worker:
    max_concurrent_jobs: 5
    poll_interval: 1000
    heartbeat_interval: 30
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


def one_error(write: Write, body: str) -> str:
    """The only error about a file with `body`, which is indented by two, under the root key."""
    [error] = errors(write(f"job_processor:\n{body}\n"))
    return error


def test_an_old_file_loads_unchanged(write: Write) -> None:
    loaded = config.load(write(OLD_FILE), "2")

    assert loaded.queue.mqtt.host == "broker.example"
    assert (loaded.queue.mqtt.port, loaded.queue.mqtt.username, loaded.queue.mqtt.password) == (1883, "u", "p")
    assert (loaded.queue.mqtt.keepalive_s, loaded.queue.mqtt.client_id_prefix) == (60.0, "worker_")
    assert (loaded.worker.slots, loaded.worker.poll_interval_s, loaded.worker.heartbeat_interval_s) == (5, 1000.0, 30.0)


@pytest.mark.parametrize("backend", ["database", "redis", "rabbitmq"])
def test_an_old_backend_is_told_how_to_move(write: Write, backend: str) -> None:
    error = one_error(write, f"  queue: {{backend: {backend}}}")

    assert error.startswith(
        f"job_processor.yml:2: queue.backend: {backend} is no longer supported. Set 'backend: mqtt'"
    )
    assert "empty it first" in error
    assert "on the same machine" in error


def test_defaults_follow_machine_and_instance(write: Write) -> None:
    loaded = config.load(write(""), "7")

    assert loaded.worker.id == f"{os.uname().nodename}-7"
    assert loaded.worker.journal == Path("/var/lib/stockworker/7/journal.sqlite3")
    assert str(loaded.client.id).endswith(f"-{os.uname().nodename}")
    assert loaded.queue.mqtt.port == 1883
    assert loaded.tls is None
    assert loaded.handlers == {}


@pytest.mark.parametrize(("tls", "port"), [("{}", 8883), ("null", 1883), ("{ca_file: /ca}", 8883)])
def test_the_port_follows_tls(write: Write, tls: str, port: int) -> None:
    assert config.load(write(f"job_processor:\n  tls: {tls}\n")).queue.mqtt.port == port


@pytest.mark.parametrize("nothing", ["{}", "null", "~"])
def test_a_section_that_is_empty_on_purpose_means_its_defaults(write: Write, nothing: str) -> None:
    body = "".join(f"  {name}: {nothing}\n" for name in ("queue", "worker", "log", "market_data", "client"))
    loaded = config.load(write(f"job_processor:\n{body}  handlers:\n    price_update: {nothing}\n"))

    assert loaded.worker.slots == 5
    assert loaded.log.level == "info"
    assert loaded.handlers == {"price_update": config.Handler()}


SECTIONS = sorted({path.rpartition(".")[0] for path in key_paths()} - {""})
INNER = ("handlers", "handlers.prices", "handlers.prices.settings", "handlers.prices.limits", "dispatcher.types.prices")


@pytest.mark.parametrize("section", [*SECTIONS, *INNER])
def test_a_section_whose_keys_are_commented_out_is_an_error(write: Write, section: str) -> None:
    """Above all, no jobs must travel in plain text because of that."""
    names = section.split(".")
    body = "\n".join(f"{'  ' * depth}{name}:" for depth, name in enumerate(names, 1))
    error = one_error(write, f"{body}\n{'  ' * (len(names) + 1)}# key: value")
    assert error == (
        f"job_processor.yml:{1 + len(names)}: {section}: is empty: the lines below it are missing or comments. Set its "
        "keys, or remove this line, too"
    )


def test_a_file_whose_keys_are_commented_out_is_an_error(write: Write) -> None:
    [error] = errors(write("job_processor:\n  # tls: {}\n"))
    assert error.startswith("job_processor.yml:1: job_processor: is empty")


def test_an_empty_section_does_not_turn_off_the_one_of_an_earlier_file(write: Write) -> None:
    path = write("job_processor:\n  encryption: {}\n")
    write("job_processor:\n  encryption:\n    # required: false\n", "job_processor.d/10-test.yml")
    [error] = errors(path)
    assert error.startswith("job_processor.d/10-test.yml:2: encryption: is empty")


def test_every_section_is_read(write: Write) -> None:
    loaded = config.load(
        write("""\
job_processor:
  queue: {mqtt: {username: u, password_file: /run/secret}}
  tls: {ca_file: /ca, cert_file: /cert, key_file: /key}
  worker:
    id: edge-1
    types: [price_update]
    tags: [ssd, eu]
    drain_timeout: 2m
    journal: /data/journal
    recycle_after_jobs: 10
    stop_grace: 500ms
  handlers:
    price_update:
      settings: {url: "https://x", retries: 3, ratio: 0.5, on: true, none: null, list: [1, a]}
      limits: {memory: 512M, cpu: 60, open_files: 256, processors: 0.5}
    mail: {python: "jobs.mail:send"}
    legacy: {command: [php, /opt/job.php, 10]}
    data_import: {enabled: false}
  market_data: {location: "postgresql://db/market"}
  dispatcher:
    store: /data/jobs
    lease: 10s
    max_wait: 1h
    worker_timeout: 1.5m
    job_defaults: {max_attempts: 1, max_crashes: 2, timeout: 1d, backoff: 0, backoff_max: 1m}
  client: {id: desk}
  log: {level: DEBUG, format: json}
""")
    )

    assert loaded.tls == config.Tls(ca_file=Path("/ca"), cert_file=Path("/cert"), key_file=Path("/key"))
    assert loaded.worker.types == ("price_update",)
    assert (loaded.worker.drain_timeout_s, loaded.worker.stop_grace_s) == (120.0, 0.5)
    price_update = loaded.handlers["price_update"]  # type: ignore[index] # a JobType is a str that was checked
    assert price_update.settings == {
        "url": "https://x", "retries": 3, "ratio": 0.5, "on": True, "none": None, "list": [1, "a"],
    }  # fmt: skip
    assert price_update.limits == schema.LimitsConfig(
        memory_bytes=512 * 1024**2, cpu_s=60.0, open_files=256, processors=0.5
    )
    assert [handler.command for handler in loaded.handlers.values()][2] == ("php", "/opt/job.php", "10")
    assert [handler.enabled for handler in loaded.handlers.values()] == [True, True, True, False]
    assert loaded.dispatcher.worker_timeout_s == 90.0
    assert loaded.dispatcher.job_defaults.timeout_s == 86400.0
    assert loaded.log == schema.Log(level="debug", format="json")


def test_text_is_taken_as_written(write: Write) -> None:
    mqtt = config.load(write("job_processor: {queue: {mqtt: {username: 0123, password: yes}}}")).queue.mqtt

    assert (mqtt.username, mqtt.password) == ("0123", "yes")


def test_files_are_laid_over_each_other(write: Write) -> None:
    write("job_processor: {worker: {max_concurrent_jobs: 2, tags: [b]}}", "job_processor.d/20-b.yml")
    write("job_processor: {worker: {max_concurrent_jobs: 9}, log: {level: error}}", "job_processor.d/10-a.yml")
    write("job_processor: {worker: {max_concurrent_jobs: 99}}", "job_processor.d/README")
    write("job_processor: {worker: {poll_interval: 1s}, log: null}", "instances/2.yml")
    path = write("job_processor: {worker: {max_concurrent_jobs: 1, tags: [a, c], poll_interval: 9}}")

    plain, second = config.load(path, "1"), config.load(path.parent, "2")

    assert (plain.worker.slots, plain.worker.tags, plain.worker.poll_interval_s) == (2, ("b",), 9.0)
    assert (second.worker.slots, second.worker.tags, second.worker.poll_interval_s) == (2, ("b",), 1.0)
    assert (plain.log.level, second.log.level) == ("error", "info")


@pytest.mark.parametrize("host", ["::1", "fe80::1%eth0", "localhost.", "broker-1.example"])
def test_a_host_is_a_name_or_an_address(write: Write, host: str) -> None:
    assert config.load(write(f"job_processor: {{queue: {{mqtt: {{host: '{host}'}}}}}}")).queue.mqtt.host == host


def test_an_error_names_the_file_that_it_is_in(write: Write) -> None:
    path = write(OLD_FILE)
    write("job_processor:\n  worker:\n    max_concurrent_jobs: many\n", "instances/3.yml")

    assert errors(path, "3") == ["instances/3.yml:3: worker.max_concurrent_jobs: must be a whole number, not 'many'"]


def test_everything_wrong_is_said_at_once(write: Write) -> None:
    text = "job_processor:\n  wroker: {}\n  queue:\n    mqtt: {hots: x, port: 0}\n  log: {level: loud}\n"

    assert errors(write(text)) == [
        "job_processor.yml:2: wroker: unknown key; did you mean 'worker'?",
        "job_processor.yml:4: queue.mqtt.hots: unknown key; did you mean 'host'?",
        "job_processor.yml:4: queue.mqtt.port: must be a whole number, 1 to 65535, not 0",
        "job_processor.yml:5: log.level: must be debug or info or warning or error, not 'loud'",
    ]


def test_a_known_key_is_suggested_for_the_first_of_many_unknown_ones(write: Write) -> None:
    """Comparing names takes long."""
    text = "job_processor:\n  worker:\n" + "".join(f"    poll_intervall{number}: 5s\n" for number in range(50))

    found = errors(write(text))
    assert len(found) == 50
    assert ["did you mean 'poll_interval'?" in error for error in found] == [True] * 5 + [False] * 45


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("  mqtt: {host: x}", "mqtt: unknown key; did you mean 'queue.mqtt'?"),
        ("  worker: {host: x}", "worker.host: unknown key; did you mean 'queue.mqtt.host'?"),
        ("  worker: {xyz: x}", "worker.xyz: unknown key"),
        ('  worker: {"a\\nb": x}', "worker.'a\\nb': unknown key"),
        ("  worker: [1]", "worker: must be a section with keys, not a list"),
        ("  worker: 5", "worker: must be a section with keys, not a single value"),
        ("  worker: {max_concurrent_jobs: [1]}", "not a list"),
        ("  worker: {max_concurrent_jobs: 010}", "must be a whole number, not '010'"),
        ("  worker: {max_concurrent_jobs: 1:30}", "must be a whole number, not '1:30'"),
        ("  worker: {max_concurrent_jobs: 2000}", "must be a whole number, 1 to 1000, not 2000"),
        (f"  worker: {{max_concurrent_jobs: {'9' * 5000}}}", "must be a whole number"),
        ("  worker: {poll_interval: 5 minutes}", "must be a duration (a number of seconds, "),
        ("  worker: {poll_interval: 2d}", "must be a duration, 0.1 to 1h, not '2d'"),
        ("  worker: {poll_interval: -1}", "such as 30s or 5m), not '-1'"),
        ("  worker: {id: a/b}", "must be an ID (1 to 64 of A-Z a-z 0-9 . _ -), not 'a/b'"),
        ("  worker: {tags: ssd}", "worker.tags: must be a list, such as [ssd, eu]"),
        ("  worker: {tags: [a/b]}", "worker.tags: must be an ID (1 to 64 of A-Z a-z 0-9 . _ -), not 'a/b'"),
        ("  worker: {journal: journal.sqlite3}", "must be an absolute path"),
        ("  handlers: {a/b: {}}", "handlers.a/b: must be an ID (1 to 64 of A-Z a-z 0-9 . _ -), not 'a/b'"),
        ("  handlers: {a: {python: os}}", "handlers.a.python: must be module:function, not 'os'"),
        ("  handlers: {a: {command: php x}}", "must be a list, such as [php, /opt/jobs/run.php]"),
        ("  handlers: {a: {command: []}}", "'command' is empty; name the program"),
        ("  handlers: {a: {command: [x], python: 'm:f'}}", "set either 'python' or 'command', not both"),
        ("  handlers: {a: {command: [x], isolation: shared}}", "each job of a command has its own process"),
        ("  handlers: {a: {isolation: per_worker}}", "must be shared or per_type or per_job, not 'per_worker'"),
        ("  handlers: {a: {enabled: perhaps}}", "must be true or false, not 'perhaps'"),
        ("  handlers: {a: {settings: {x: .nan}}}", "handlers.a.settings.x: must be a decimal number, not '.nan'"),
        (
            "  handlers:\n    a:\n      settings:\n        hours:\n          - opening: 12:30",
            "job_processor.yml:6: handlers.a.settings.hours.opening: must be a decimal number, not '12:30'; quote it if it is",
        ),
        ("  handlers: {a: {settings: {x: 0123}}}", "x: must be a decimal number, not '0123'; quote it if it is text"),
        ("  handlers: {a: {settings: {x: 0x1F}}}", "x: must be a decimal number, not '0x1F'; quote it if it is text"),
        ("  handlers: {a: {settings: {x: 1_000}}}", "x: must be a decimal number, not '1_000'; quote it if it is text"),
        (
            "  queue: {mqtt: {host: localhost:8883}}",
            "must be the host alone, not 'localhost:8883'; put the port into 'port'",
        ),
        (
            "  queue: {mqtt: {host: 127.0.0.1:8883}}",
            "must be the host alone, not '127.0.0.1:8883'; put the port into 'port'",
        ),
        ("  queue: {mqtt: {host: '[::1]:8883'}}", "must be the host alone, not '[::1]:8883'; put the port into 'port'"),
        (
            "  queue: {mqtt: {client_id_prefix: größe-}}",
            "job_processor.yml:2: queue.mqtt.client_id_prefix: must be ASCII text of up to 64 characters, not 'gr\\xf6",
        ),
        ("  handlers: {a: {settings: [x]}}", "must be a section with keys"),
        ("  handlers: {a: {limits: {memory: 1.5G}}}", "such as 512M), not '1.5G'"),
        ("  handlers: {a: {limits: {memory: 512}}}", "must be at least 1M, not 512 bytes"),
        ("  handlers: {a: {limits: {processors: 0}}}", "must be a number, 0.01 to 1024, not '0'"),
        ("  handlers: {a: {limits: {processors: half}}}", "must be a number, 0.01 to 1024, not 'half'"),
        ("  handlers: {a: {limits: {processors: .nan}}}", "must be a number, 0.01 to 1024, not '.nan'"),
        ("  queue: {mqtt: {username: ''}}", "is empty; set a value, or remove the key"),
        ('  queue: {mqtt: {username: "a\\0b"}}', "contains a control character"),
        ("  queue: {mqtt: {username: u, password: p, password_file: /p}}", "set either 'password' or"),
        ("  queue: {mqtt: {password: p}}", "has a password but no 'username'"),
        ("  tls: {cert_file: /c}", "'cert_file' and 'key_file' belong together; add 'key_file'"),
        ("  dispatcher: {job_defaults: {backoff: 1h}}", "'backoff' is longer than 'backoff_max'"),
        (
            "  dispatcher: {job_defaults: {timeout: 1h}, job_limits: {timeout: 1m}}",
            "is less than 'dispatcher.job_defaults.timeout'",
        ),
        (
            "  dispatcher: {lease: 10m, types: {backtest: {prefetch: 5, prefetch_validity: 5m}}}",
            "dispatcher.types.backtest.prefetch_validity: is shorter than 'dispatcher.lease'",
        ),
        ("  log: &a {level: info}\n  client: *a", "job_processor.yml:3: aliases (*name) are not supported"),
        ("  <<: {log: {}}", "job_processor.yml:2: merge keys (<<) are not supported"),
        ("  log: !!python/object:os.system {}", "the tag '!!python/object:os.system' is not supported"),
        ("\tlog: {}", "job_processor.yml:2: is not valid YAML: the line is indented with a tab"),
        ("  log: {level: info", "is not valid YAML"),
        ('  log: {level: "\\UFFFFFFFF"}', "is not valid YAML"),
        ("  log: {level: \x07}", "is not valid YAML"),
        ("  log: {}\n  log: {}", "job_processor.yml:3: log: is given twice, first on line 2; remove one"),
        ("  ? [a]\n  : b", "a key must be plain text"),
        (f"  a: {'[' * 1000}", "is nested deeper than 20 levels"),
        ("---\njob_processor:", "is not valid YAML"),
    ],
)
def test_a_mistake_is_explained(write: Write, body: str, expected: str) -> None:
    assert expected in one_error(write, body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("job_procesor: {}", "job_processor.yml:1: has no key 'job_processor'; is 'job_procesor' a misspelling?"),
        ("- a", "job_processor.yml:1: has no key 'job_processor'; move all keys under it"),
        ("job_processor: 5", "job_processor.yml:1: job_processor: must be a section with keys"),
        ("# " + "x" * 1024 * 1024, "job_processor.yml: is larger than 1 MiB"),
    ],
)
def test_a_file_of_the_wrong_shape_is_explained(write: Write, text: str, expected: str) -> None:
    [error] = errors(write(text))

    assert error.startswith(expected)


def test_a_file_that_is_not_utf8_is_explained(write: Write) -> None:
    path = write("")
    path.write_bytes("job_processor:\n  client: {id: ü}".encode("latin-1"))

    assert errors(path) == ["job_processor.yml:2: is not UTF-8; save the file in this encoding"]


def test_a_missing_file_is_an_error_only_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "job_processor.yml"
    assert errors(missing) == ["job_processor.yml: does not exist. Create it, or correct the path"]

    monkeypatch.setattr("stockworker.config.loading.DEFAULT_PATH", missing)
    assert config.load().queue.mqtt.host == "localhost"


def test_a_device_is_not_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    assert errors(fifo) == ["fifo: is not a regular file; name the file itself"]


@pytest.mark.parametrize("instance", ["", "../x", "a/b", "a" * 65])
def test_an_instance_is_an_id(write: Write, instance: str) -> None:
    [error] = errors(write(""), instance)

    assert "the instance" in error


def warnings(path: Path) -> list[str]:
    found = config.problems(path)
    assert {problem.severity for problem in found} <= {"warning"}
    return [problem.show().replace(f"{path.parent}/", "") for problem in found]


def test_a_password_that_everybody_can_read_is_warned_of(write: Write) -> None:
    path = write("job_processor:\n  queue: {mqtt: {username: u, password: hush}}")
    assert warnings(path) == []

    path.chmod(0o644)
    [warning] = warnings(path)
    assert warning.startswith("job_processor.yml:2: warning: queue.mqtt.password: every user of this machine can read")
    assert "hush" not in warning


@pytest.mark.parametrize(
    ("body", "warned"),
    [
        ("{queue: {mqtt: {host: localhost}}}", False),
        ("{queue: {mqtt: {host: 127.0.0.2}}}", False),
        ("{queue: {mqtt: {host: '::1'}}}", False),
        ("{queue: {mqtt: {host: broker}}, tls: {}}", False),
        ("{queue: {mqtt: {host: broker}}}", True),
        ("{queue: {mqtt: {host: 10.0.0.1}}}", True),
    ],
)
def test_a_connection_in_the_clear_is_warned_of(write: Write, body: str, *, warned: bool) -> None:
    found = warnings(write(f"job_processor: {body}"))

    assert [bool(re.search("are sent unencrypted", text)) for text in found] == [True] * warned


def test_slow_heartbeats_and_keys_beside_the_root_are_warned_of(write: Write) -> None:
    found = warnings(write("job_processor: {worker: {heartbeat_interval: 1m}}\nparameters: {}\n"))

    assert [text.split(" is ")[0] for text in found] == [
        "job_processor.yml:1: warning: worker.heartbeat_interval:",
        "job_processor.yml:2: warning: 'parameters':",
    ]


def test_secrets_are_not_shown(write: Write) -> None:
    body = "{queue: {mqtt: {username: u, password: hush}}, handlers: {a: {settings: {key: hush}}}, market_data: {location: 'postgresql://u:hush@db/x'}}"
    loaded = config.load(write(f"job_processor: {body}"))

    assert "hush" not in repr(loaded)
    assert "hush" not in one_error(write, "  market_data: {location: 'mysql://u:hush@db/x'}")


def test_the_password_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hush\n")
    file.chmod(0o600)

    assert schema.Mqtt(password="inline").read_password() == "inline"  # noqa: S106 (no secret)
    assert schema.Mqtt(password_file=file).read_password() == "hush"
    with pytest.raises(ConfigError, match=r"password_file: .*/gone can't be read: No such file"):
        schema.Mqtt(password_file=tmp_path / "gone").read_password()


@follows("…: the first line of … is empty; write the secret into that line")
def test_a_secret_may_follow_a_byte_order_mark_but_not_an_empty_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.touch(0o600)
    file.write_bytes(b"\xef\xbb\xbfhush\r\n")
    assert schema.Mqtt(password_file=file).read_password() == "hush"
    for content in (b"", b"\nhush\n", b"\xef\xbb\xbf\r\n"):
        file.write_bytes(content)
        with pytest.raises(
            ConfigError, match=f"password_file: the first line of {file} is empty; write the secret into"
        ):
            schema.Mqtt(password_file=file).read_password()
        file.write_text("hush\n")
        assert schema.Mqtt(password_file=file).read_password() == "hush"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644])
def test_a_secret_that_everybody_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "password"
    file.write_text("hush\n")
    file.chmod(mode)

    with pytest.raises(ConfigError, match=rf"password_file: every user .* Run 'chmod o-rw {file}'") as refused:
        schema.Mqtt(password_file=file).read_password()
    assert "hush" not in str(refused.value)
    file.chmod(0o640)
    assert schema.Mqtt(password_file=file).read_password() == "hush"


def test_a_secret_may_be_a_credential_of_the_unit(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "mqtt-password"
    secret.write_text("hush")
    secret.chmod(0o600)
    body = "{queue: {mqtt: {username: u, password_file: mqtt-password}}}"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert config.load(write(f"job_processor: {body}")).queue.mqtt.read_password() == "hush"

    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    elsewhere = config.load(write(f"job_processor: {body}"))
    with pytest.raises(ConfigError, match=r"password_file: /run/credentials/mqtt-password can't be read: No such file"):
        elsewhere.queue.mqtt.read_password()
    assert "the name of a systemd credential" in one_error(write, "  queue: {mqtt: {password_file: a/b}}")


def test_a_file_that_the_unit_hands_over_is_read_from_the_copy(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key_file(name: str) -> Path | None:
        tls = config.load(write(f"job_processor: {{tls: {{cert_file: /x.crt, key_file: /keys/{name}}}}}")).tls
        return None if tls is None else tls.key_file

    (tmp_path / "1.key").write_text("hush")
    (tmp_path / "2.key").write_text("\n")  # the unit passes an empty copy of a missing file
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert key_file("1.key") == tmp_path / "1.key"
    assert key_file("2.key") == Path("/keys/2.key")
    assert key_file("3.key") == Path("/keys/3.key")

    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert key_file("1.key") == Path("/keys/1.key")


def test_the_location_of_market_data_may_stand_in_a_file(write: Write, tmp_path: Path) -> None:
    file = tmp_path / "dsn"
    file.write_text("postgresql://u:hush@db/x\n")
    file.chmod(0o600)
    path = write(f"job_processor: {{market_data: {{location_file: {file}}}}}")
    assert config.load(path).market_data.read_location() == "postgresql://u:hush@db/x"
    file.write_text("mysql://u:hush@db/x")
    with pytest.raises(ConfigError, match="must be an absolute path, or a postgresql:// address") as refused:
        config.load(path).market_data.read_location()
    assert "hush" not in str(refused.value)
    body = f"  market_data: {{location: /a, location_file: {file}}}"
    assert "set either 'location' or 'location_file', not both" in one_error(write, body)


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "quotes.yml"
    file.write_text("api_key: hush\n")
    file.chmod(0o640)
    return file


@pytest.mark.parametrize("text", ["api_key: hush\ndepth: 3", '{"api_key": "hush", "depth": 3}'])
def test_settings_of_a_handler_may_stand_in_a_file(settings_file: Path, text: str) -> None:
    settings_file.write_text(text)
    handler = config.Handler(settings={"depth": 2, "url": "u"}, settings_file=settings_file)
    assert handler.read_settings("quotes") == {"url": "u", "depth": 3, "api_key": "hush"}
    assert config.Handler(settings={"depth": 2}).read_settings("quotes") == {"depth": 2}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hush", "{file} must contain settings, one line 'name: value' for each"),
        ("", "{file} must contain settings, one line 'name: value' for each"),
        ("api_key: [hush", "{file}:1: is not valid YAML: "),
        ("api_key: 1\napi_key: hush", "{file}:2: api_key: is given twice, first on line 1; remove one"),
        (
            "api_key: 1\npin: 0x12hush\nnumber: 0777",
            "{file}:3: 'number' contains a number that is not decimal; quote it",
        ),
        ("open:\n  at: 12:30", "{file}:2: 'open.at' contains a number that is not decimal; quote it"),
    ],
)
def test_a_file_of_settings_that_is_none_is_refused_without_showing_it(
    settings_file: Path, text: str, problem: str
) -> None:
    settings_file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        config.Handler(settings_file=settings_file).read_settings("quotes")
    assert str(refused.value).startswith(f"handlers.quotes.settings_file: {problem.format(file=settings_file)}")
    assert not re.search("hush|0777", str(refused.value))


def test_a_file_of_settings_that_is_not_there_or_open_to_everybody_is_refused(settings_file: Path) -> None:
    handler = config.Handler(settings_file=settings_file)
    settings_file.chmod(0o644)
    mend = f"every user of this machine can read or change it. Run 'chmod o-rw {settings_file}'"
    with pytest.raises(ConfigError, match=rf"^handlers\.quotes\.settings_file: {mend}$"):
        handler.read_settings("quotes")
    settings_file.unlink()
    with pytest.raises(
        ConfigError, match=r"^handlers\.quotes\.settings_file: .*quotes\.yml: does not exist\. Create it"
    ):
        handler.read_settings("quotes")


@pytest.mark.parametrize(
    ("location", "warned"),
    [("postgresql://u:hush@db/x", True), ("postgresql://db/x?user=u&password=hush", True), ("postgresql://u@db/x", False),
     ("/var/lib/a:b@c", False), ("postgresql://[::1", False)],
)  # fmt: skip
def test_a_location_with_a_password_that_everybody_can_read_is_warned_of(
    write: Write, location: str, *, warned: bool
) -> None:
    path = write(f"job_processor: {{market_data: {{location: '{location}'}}}}")
    assert warnings(path) == []
    path.chmod(0o644)
    assert [bool(re.search("or use 'location_file'", text)) for text in warnings(path)] == [True] * warned


def test_a_private_key_that_everybody_can_read_is_warned_of(write: Write, tmp_path: Path) -> None:
    key = tmp_path / "w.key"
    key.touch(0o600)
    path = write(f"job_processor: {{tls: {{cert_file: /w.crt, key_file: {key}}}}}")
    assert warnings(path) == []
    key.chmod(0o604)
    assert "replace the key" in warnings(path)[0]


def test_every_default_is_one_that_may_be_written(write: Write) -> None:
    """The reference prints defaults; each must be accepted when a user copies it."""
    reference = Path("docs/configuration.md").read_text(encoding="utf-8")
    section, copied = "", []
    for line in reference.splitlines():
        if heading := re.fullmatch(r"## `(.+)`", line):
            section = re.sub(r"<\w+>", "any", heading[1])
        elif (row := re.match(r"\| `(\w+)` \| .* \| `([^`<]+)` \| ", line)) is not None:
            copied.append((*section.split("."), row[1], row[2]))
    assert len(copied) > 20
    for *path, value in copied:
        body = value
        for name in reversed(path):
            body = f"{{{name}: {body}}}"
        config.load(write(f"job_processor: {body}"))


def test_the_keys_of_the_old_file_are_known() -> None:
    assert {"queue.backend", "queue.mqtt.client_id_prefix", "worker.max_concurrent_jobs"} <= set(key_paths())
