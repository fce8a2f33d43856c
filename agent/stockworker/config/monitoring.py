"""The keys of the configuration, continued: what watches the fleet."""

from pathlib import Path
from typing import Final

from stockworker.config.key import key as _key
from stockworker.config.kinds import BOOLEAN, PATH, SECRET_FILE, ListOf, Wrong, choice, duration, integer, pattern, text
from stockworker.config.secrets import read_secret
from stockworker.errors import ConfigError
from stockworker.protocol.frozen import dataclass

_HOUR_S: Final = 3600.0
_SUBJECTS: Final = ("jobs", "workers", "certificates", "losses")
_WEBHOOK: Final = pattern(r"https?://[!-~]{1,1000}", "an http or https address", secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    enabled: bool = _key(
        default=False,
        kind=BOOLEAN,
        meaning="Whether the services on this machine write metrics. Needs the package `python3-prometheus-client`, and a "
        "restart.",
    )
    folder: Path | None = _key(
        None,
        PATH,
        "Folder of the files: `stockworker-<id>.prom` for each service. The unit of the service must be allowed to write "
        "to another folder than the default one.",
        shown="`/run/stockworker-dispatcher`, or `/run/stockworker-worker-<instance>`",
    )
    interval_s: float = _key(15.0, duration(1, _HOUR_S), "How often a service writes its file.")
    tracers: bool = _key(
        default=True,
        kind=BOOLEAN,
        meaning="Whether the dispatcher measures losses while it writes metrics: every minute, a message for each job type "
        "travels the way of a job. It starts nothing, and is in no list. Needs a restart.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationsConfig:
    command: tuple[str, ...] | None = _key(
        None,
        ListOf(text(), "[/usr/local/bin/notify, ops@example.org]"),
        "Program and arguments. It gets the notification as JSON on standard input, and runs in the sandbox of the dispatcher.",
    )
    webhook: str | None = _key(
        None,
        _WEBHOOK,
        "Address to which the notification is sent as JSON, by POST. `webhook_file` is safer.",
        secret=True,
    )
    webhook_file: Path | None = _key(None, SECRET_FILE, "File whose first line is the address. Replaces `webhook`.")
    subjects: tuple[str, ...] = _key(
        _SUBJECTS,
        ListOf(choice(*_SUBJECTS), "[jobs, losses]"),
        "What notifications are about: failed jobs, missing workers, certificates that expire, lost messages or jobs.",
        shown="all of them",
    )
    most_per_hour: int = _key(
        10,
        integer(1, 1000),
        "Most notifications in an hour. One of them has everything that has happened since the last one.",
    )
    missing_after_s: float = _key(
        300.0,
        duration(1, 24 * _HOUR_S),
        "How long a worker must be offline before a notification reports it as missing.",
    )

    def read_webhook(self) -> str | None:
        """The address, from `webhook` or `webhook_file`.

        Raises:
            ConfigError: `webhook_file` is not usable.
        """
        if self.webhook_file is None:
            return self.webhook
        address = read_secret("notifications.webhook_file", self.webhook_file)
        try:
            return _WEBHOOK.parse(address)  # type: ignore[no-any-return] # a pattern returns its text
        except Wrong as wrong:
            raise ConfigError(f"notifications.webhook_file: the first line of {self.webhook_file} {wrong}") from None
