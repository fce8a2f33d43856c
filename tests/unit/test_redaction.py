"""What goes into a support archive: planted secrets are removed, and what helps is kept."""

import io
import tarfile
from pathlib import Path

import pytest

from stockworker.adapters.files import SECRET
from stockworker.config.document import Problem, read
from stockworker.doctor import bundle
from stockworker.doctor.redaction import REMOVED, redacted_configuration, redacted_entry, scrubbed
from stockworker.errors import ConfigError

KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1v\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("amqp://user:p/w@rd@mq.example.org/vhost", "amqp://(removed)@mq.example.org/vhost"),
        ("postgresql://app@db/prices", "postgresql://(removed)@db/prices"),
        ("https://api.example.org/v1?apikey=S3cret&x=1 failed", "https://api.example.org/v1?(removed) failed"),
        ("https://api.example.org/v1#S3cret", "https://api.example.org/v1?(removed)"),
        ("password=hunter2, then", "password=(removed), then"),
        ('{"password": "hunter 2"}', '{"password": (removed)}'),
        ("API_KEY: 'hunter 2'", "API_KEY: (removed)"),
        ("passphrase : hunter2", "passphrase : (removed)"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer (removed)"),
        ("sent bearer abcdefgh1 there", "sent bearer (removed) there"),
        (f"before {KEY}after", "before (removed)\nafter"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIJ1v", "(removed)"),
        ("stockworker:$7$101$c2FsdA==$aGFzaA==", "stockworker:(removed)"),
        ("token 0123456789abcdef01234567", "token (removed)"),
        ("key AbCdEfGhIjKlMnOpQrStUvWx0= end", "key (removed) end"),
    ],
)
def test_a_planted_secret_is_removed(text: str, kept: str) -> None:
    assert scrubbed(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "mq.example.org:8883 accepted the connection of 'edge-7-1', with TLS",
        "/usr/share/stockworker-code/stockworker/worker/service.py: is not a regular file",
        "018bcfe5-687b-7d95-85dc-86740e7a269f",
        "mqtts://mq.example.org:8883/path",
        "Run 'systemctl enable --now stockworker@1.service'",
    ],
)
def test_what_helps_is_kept(text: str) -> None:
    assert scrubbed(text) == text


CONFIGURATION = """\
# the password is S3cret-0
job_processor:
  queue:
    mqtt:
      host: mq.example.org
      username: edge-7-1
      password: S3cret-1
      password_file: /etc/stockworker/password
      pasword: S3cret-2
  worker:
    max_concurrent_jobs: 3
    types: [price_update, chart]
  handlers:
    chart:
      command: [/opt/chart, --key=S3cret-3, S3cret-4]
      limits: {memory: 512M}
      settings:
        provider: {url: "https://u:S3cret-5@example.org", key: S3cret-6}
        names: [S3cret-7]
  market_data:
    location: postgresql://app:S3cret-8@db/prices
  notes: S3cret-9
other: S3cret-10
"""


def redacted(tmp_path: Path, text: str) -> str:
    file = tmp_path / "job_processor.yml"
    file.write_text(text)
    problems: list[Problem] = []
    return redacted_configuration(read(file, problems))


def test_a_configuration(tmp_path: Path) -> None:
    assert redacted(tmp_path, CONFIGURATION).splitlines() == [
        "job_processor:",
        "  queue:",
        "    mqtt:",
        "      host: mq.example.org",
        "      username: edge-7-1",
        "      password: (removed)",
        "      password_file: /etc/stockworker/password",
        "      pasword: (removed)",
        "  worker:",
        "    max_concurrent_jobs: 3",
        "    types: [price_update, chart]",
        "  handlers:",
        "    chart:",
        "      command: (removed)",
        "      limits:",
        "        memory: 512M",
        "      settings: (removed)",
        "  market_data:",
        "    location: (removed)",
        "  notes: (removed)",
    ]


@pytest.mark.parametrize("text", ["job_processor: S3cret\n", "S3cret\n", "other: S3cret\n", ""])
def test_a_configuration_of_another_form(tmp_path: Path, text: str) -> None:
    assert redacted(tmp_path, text) == "job_processor:\n"


def test_a_file_that_is_not_yaml(tmp_path: Path) -> None:
    file = tmp_path / "broken.yml"
    file.write_text("job_processor: [S3cret")
    (text,) = bundle.configurations([file]).values()
    assert text == f"# {REMOVED}: the file can't be read, or is not valid YAML\n"


# --- the systemd journal ----------------------------------------------------------------------------------------------

AT = {"__REALTIME_TIMESTAMP": "1700000000000000"}


def test_an_event_of_the_service_keeps_its_fields() -> None:
    entry = {
        **AT,
        "STOCKWORKER_EVENT": "link_down",
        "STOCKWORKER_BROKER": "mq:8883",
        "STOCKWORKER_REASON": "refused amqp://u:S3cret@mq",
        "MESSAGE": "S3cret",
    }
    assert redacted_entry(entry) == (
        "1700000000000000 lost the broker broker=mq:8883 event=link_down reason=refused amqp://(removed)@mq"
    )


@pytest.mark.parametrize("field", ["MESSAGE", "REASON", "PROBLEM", "ERROR"])
def test_an_event_about_a_job_loses_what_a_handler_can_have_written(field: str) -> None:
    entry = {
        **AT,
        "STOCKWORKER_EVENT": "attempt_failed",
        "STOCKWORKER_JOB_ID": "alice:1",
        f"STOCKWORKER_{field}": "S3cret",
    }
    shown = redacted_entry(entry)
    assert shown is not None
    assert "job_id=alice:1" in shown
    assert "S3cret" not in shown


def test_the_output_of_a_process_is_removed() -> None:
    shown = redacted_entry(
        {**AT, "STOCKWORKER_EVENT": "process_output", "STOCKWORKER_MESSAGE": "S3cret", "MESSAGE": "S3cret"}
    )
    assert shown is not None
    assert "S3cret" not in shown


@pytest.mark.parametrize("program", ["python3", "stockworker", None])
def test_other_output_is_left_out(program: str | None) -> None:
    assert redacted_entry({**AT, "SYSLOG_IDENTIFIER": program, "MESSAGE": "S3cret"}) is None


def test_what_systemd_logs_about_a_unit_is_kept() -> None:
    entry = {**AT, "SYSLOG_IDENTIFIER": "systemd", "MESSAGE": "stockworker@1.service: Failed with result 'exit-code'."}
    assert redacted_entry(entry) == f"1700000000000000 systemd: {entry['MESSAGE']}"
    assert redacted_entry({**entry, "MESSAGE": [1, 2]}) is None


# --- the archive ------------------------------------------------------------------------------------------------------


def test_the_archive_is_readable_for_its_user_only_and_has_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "support.tar.gz"
    bundle.write_bundle(file, {"findings.jsonl": f"password=hunter2\n{KEY}", "/etc/a.yml": "a: 1\n"})
    assert file.stat().st_mode & 0o777 == SECRET
    with tarfile.open(file) as archive:
        contents = {each.name: archive.extractfile(each) for each in archive.getmembers()}
        texts = {name: (opened or io.BytesIO()).read().decode() for name, opened in contents.items()}
    assert texts == {
        "stockworker-support/findings.jsonl": "password=(removed)\n(removed)\n",
        "stockworker-support/etc/a.yml": "a: 1\n",
    }


def test_an_archive_is_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "support.tar.gz"
    file.write_text("precious")
    with pytest.raises(ConfigError, match="already exists; choose another name"):
        bundle.write_bundle(file, {})
    assert file.read_text() == "precious"
    with pytest.raises(ConfigError, match="can't be written: No such file or directory; choose another folder"):
        bundle.write_bundle(tmp_path / "absent/file", {})
