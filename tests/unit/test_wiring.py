"""From the configuration to the settings of the parts."""

import re
from pathlib import Path

import pytest

from stockworker.adapters.delivery import Recipient
from stockworker.cli.dispatcher import dispatcher_settings, policy
from stockworker.cli.wiring import handler_specs, service_link
from stockworker.cli.worker import worker_settings
from stockworker.client import link_settings
from stockworker.config import load
from stockworker.dispatcher.notification_sender import NotificationSettings
from stockworker.dispatcher.notifications import NotificationSubject
from stockworker.dispatcher.policy import JobLimits, LiveLimits, Policy
from stockworker.errors import ConfigError
from stockworker.handlers import BUILT_IN, BUILT_IN_MEMORY, MARKET_DATA
from stockworker.protocol.ids import JobType


@pytest.mark.parametrize(("configured", "of_clients", "of_services"), [("60s", 60, 10), ("5s", 5, 5)])
def test_a_service_notices_soon_that_it_was_cut_off(
    tmp_path: Path, configured: str, of_clients: int, of_services: int
) -> None:
    file = tmp_path / "job_processor.yml"
    file.write_text(f"job_processor: {{queue: {{mqtt: {{keepalive: {configured}}}}}}}")
    config = load(file)
    assert link_settings(config, "someone").keepalive_s == of_clients
    assert service_link(config, "dispatcher").keepalive_s == of_services


@pytest.mark.parametrize(("watchdog_s", "expected"), [(60, 10), (30, 10), (21, 7), (10, 5)])
def test_who_is_watched_more_closely_watches_its_link_more_closely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watchdog_s: int, expected: int
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", str(watchdog_s * 1_000_000))
    file = tmp_path / "job_processor.yml"
    file.write_text("job_processor: {}")
    assert service_link(load(file), "dispatcher").keepalive_s == expected


def test_a_worker_that_is_to_speak_rarely_is_not_made_to_say_more_by_its_link(tmp_path: Path) -> None:
    file = tmp_path / "job_processor.yml"
    file.write_text("job_processor: {worker: {poll_interval: 30s}}")
    assert worker_settings(file, "1").link.keepalive_s == 30


def test_only_python_handlers_are_told_where_the_market_data_are(tmp_path: Path) -> None:
    """Their address may hold a password, and a program of others has no use for it."""
    file = tmp_path / "job_processor.yml"
    file.write_text(
        "job_processor:\n  market_data: {location: 'postgresql://me:hunter2@db/bars'}\n"
        "  handlers: {chart: {command: [/bin/cat], settings: {depth: 2}}, sum: {python: 'm:f'}}\n"
    )
    specs = handler_specs(load(file))
    assert specs[JobType("chart")].settings == {"depth": 2}
    assert specs[JobType("sum")].settings == {MARKET_DATA: "postgresql://me:hunter2@db/bars"}


@pytest.mark.parametrize("runs", ["python: 'm:f'", "command: [/bin/cat]"])
def test_secret_settings_are_read_again_by_a_reload(tmp_path: Path, runs: str) -> None:
    file, secret = tmp_path / "job_processor.yml", tmp_path / "quotes.yml"
    file.write_text(f"job_processor: {{handlers: {{quotes: {{{runs}, settings: {{a: 1}}, settings_file: {secret}}}}}}}")
    secret.touch(0o640)
    seen = []
    for key in ("old", "new"):
        secret.write_text(f"api_key: {key}\n")
        seen.append(worker_settings(file, "1").handlers[JobType("quotes")].settings)
    assert [(settings["a"], settings["api_key"]) for settings in seen] == [(1, "old"), (1, "new")]


def test_the_limits_of_the_dispatcher(tmp_path: Path) -> None:
    file = tmp_path / "job_processor.yml"
    file.write_text("""\
job_processor:
  dispatcher:
    job_defaults: {timeout: 3d}
    job_limits: {max_attempts: 20}
    limits: {live_jobs: 5000, payloads: 10M, submitter_share: 0.25, combinations: 50, free_space: 1G}
    types:
      echo: {live_jobs: 100, timeout: 1m}
      sum: {prefetch: 8}
""")
    found = policy(load(file))
    # A default is never beyond its limit.
    assert found.job_limits == JobLimits(timeout_s=3 * 86400.0, max_attempts=20)
    assert found.job_limits_of_type == {"echo": JobLimits(timeout_s=60.0, max_attempts=20)}
    assert found.limits == LiveLimits(5000, 10 * 1024**2, 0.25, 50, 1024**3, {JobType("echo"): 100})


@pytest.mark.parametrize(
    ("sections", "tracers"),
    [
        ("log: {}", False),
        ("metrics: {enabled: true, folder: /run}", True),
        ("metrics: {enabled: true, folder: /run, tracers: false}", False),
        ("notifications: {command: [/bin/true]}", True),
        ("notifications: {subjects: [losses]}", False),
        ("notifications: {command: [/bin/true]}, metrics: {tracers: false}", False),
        ("notifications: {command: [/bin/true], subjects: [jobs, workers]}", False),
    ],
)
def test_the_loss_meter_runs_where_its_figure_is_read(tmp_path: Path, sections: str, *, tracers: bool) -> None:
    file = tmp_path / "config.yml"
    file.write_text(f"job_processor: {{{sections}}}")
    assert dispatcher_settings(file).tracers is tracers


def test_notifications_are_those_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("job_processor: {log: {}}")
    assert dispatcher_settings(file).notifications is None
    file.write_text(
        "job_processor: {notifications: {webhook: 'http://a/b', subjects: [jobs], most_per_hour: 3, missing_after: 1m}}"
    )
    file.chmod(0o600)
    expected = NotificationSettings(Recipient(webhook="http://a/b"), frozenset({NotificationSubject.JOBS}), 3, 60.0)
    assert dispatcher_settings(file).notifications == expected


def test_the_dispatcher_knows_its_own_id(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("job_processor: {dispatcher: {id: hub}}")
    assert dispatcher_settings(file).policy.dispatcher_id == "hub"


def test_without_a_configuration_limits_are_those_of_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "job_processor.yml"
    file.write_text("job_processor: {}")
    assert (policy(load(file)).job_limits, policy(load(file)).limits) == (JobLimits(), LiveLimits())


def test_the_examples_on_the_page_about_limits_are_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert examples
    for number, example in enumerate(examples):
        file = tmp_path / f"{number}.yml"
        file.write_text(example)
        assert policy(load(file)) != Policy()


@pytest.mark.parametrize(
    ("configured", "memory_bytes"),
    [
        ("{}", BUILT_IN_MEMORY[JobType("data_import")]),
        ("{settings: {limit_mib: 1}, limits: {open_files: 16}}", BUILT_IN_MEMORY[JobType("data_import")]),
        ("{limits: {memory: 2G}}", 2 << 30),
        ("{python: 'm:f'}", None),
        ("{command: [/bin/cat]}", None),
    ],
)
def test_a_built_in_handler_has_a_limit_of_memory(tmp_path: Path, configured: str, memory_bytes: int | None) -> None:
    file = tmp_path / "job_processor.yml"
    file.write_text(f"job_processor: {{handlers: {{data_import: {configured}}}}}")
    assert handler_specs(load(file))[JobType("data_import")].limits.memory_bytes == memory_bytes


def test_every_built_in_handler_has_a_limit_of_memory() -> None:
    assert set(BUILT_IN_MEMORY) == set(BUILT_IN)


def test_the_dispatcher_refuses_shared_jobs_where_the_configuration_says_so(tmp_path: Path) -> None:
    file = tmp_path / "job_processor.yml"
    for text, accepted in (("{}", True), ("{dispatcher: {accept_shared_jobs: false}}", False)):
        file.write_text(f"job_processor: {text}")
        assert policy(load(file)).accept_shared_jobs is accepted


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (
            "data_import: {settings: {import_folder: [/srv]}}",
            r"handlers\.data_import\.settings: unknown setting 'import_folder'; did you mean 'import_folders'",
        ),
        (
            "data_import: {settings: {limit_mib: 5000}}",
            r"handlers\.data_import\.settings\.limit_mib: must be from 1 to",
        ),
        ("price_update: {settings: {provdier: x}}", r"handlers\.price_update\.settings: unknown setting 'provdier'"),
        ("price_update: {settings: {first_day: 1.1.2000}}", r"handlers\.price_update\.settings\.provider: is missing"),
        (
            "data_import: {settings: {formats: {own: {decimal: x}}}}",
            r"handlers\.data_import\.settings\.formats\.own\.decimal: 'x' is not one of",
        ),
        (
            "technical_analysis: {settings: {last: 5}}",
            r"handlers\.technical_analysis\.settings: unknown setting 'last'",
        ),
    ],
)
def test_a_wrong_setting_of_a_built_in_job_type_is_found_before_any_job(
    tmp_path: Path, handler: str, message: str
) -> None:
    file = tmp_path / "job_processor.yml"
    file.write_text(f"job_processor: {{handlers: {{{handler}}}}}\n")
    with pytest.raises(ConfigError, match=message):
        handler_specs(load(file))


def test_the_settings_of_another_handler_are_its_own_affair(tmp_path: Path) -> None:
    file = tmp_path / "job_processor.yml"
    file.write_text("job_processor: {handlers: {data_import: {python: 'my_jobs:handle', settings: {anything: 5}}}}\n")
    assert handler_specs(load(file))[JobType("data_import")].settings["anything"] == 5
