"""Every key of the configuration: name, kind, default and meaning.

The reader, the reference page and the sample file are made from these dataclasses, so that a key exists in one place.
Field names carry the unit in which the code gets the value; the key in the file is the name without it.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stockworker.config.kinds import (
    BOOLEAN,
    FUNCTION,
    HOST,
    ID,
    LOCATION,
    PATH,
    SECRET_FILE,
    SIZE,
    AnyKind,
    Each,
    Free,
    Json,
    ListOf,
    Section,
    Wrong,
    choice,
    duration,
    integer,
    number,
    text,
    written,
)
from stockworker.config.secrets import read_secret, read_settings
from stockworker.errors import ConfigError
from stockworker.protocol.ids import ClientId, JobType, Tag, WorkerId
from stockworker.protocol.job import JobOptions
from stockworker.protocol.wire import plan_of

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

_OLD_BACKEND = (
    "{} is no longer supported: set 'backend: mqtt' and 'mqtt: {{host: ...}}'. Jobs that wait in the old queue stay "
    "there: let the old workers drain it first; old and new workers can run side by side on one machine"
)
_OLD_BACKENDS = ("database", "redis", "rabbitmq")
_BACKEND = choice("mqtt", former={name: _OLD_BACKEND.format(name) for name in _OLD_BACKENDS})


@dataclass(frozen=True, slots=True)
class Key:
    """What the schema says of a key beyond its type and default.

    Attributes:
        kind: how the value is written, and what is allowed.
        meaning: one or two sentences for the reference.
        name: the key in the file, where it differs from the field's name without its unit.
        shown: the default as the reference shows it, where it depends on the machine or on other keys.
    """

    kind: AnyKind
    meaning: str
    name: str = ""
    shown: str = ""


def _key(kind: AnyKind, meaning: str, *, name: str = "", shown: str = "") -> dict[str, Key]:
    return {"key": Key(kind, meaning, name, shown)}


def _job_default(option: str) -> dict[str, Key]:
    """The key for the default of a job option: its bounds and meaning are those of the option."""
    (found,) = (each for each in plan_of(JobOptions).fields if each.attribute == option)
    return _key(written(found.kind), f"{found.meaning[0].upper()}{found.meaning[1:]}.")


def keys(section: type) -> Iterator[tuple[str, Key, "dataclasses.Field[Any]"]]:
    """The keys of a section in the order of the file: name in the file, description, dataclass field."""
    for each in dataclasses.fields(section):
        key: Key = each.metadata["key"]
        yield key.name or each.name.removesuffix("_s").removesuffix("_bytes"), key, each


@dataclass(frozen=True, slots=True, kw_only=True)
class Mqtt:
    host: str = field(default="localhost", metadata=_key(HOST, "The machine that Mosquitto runs on."))
    port: int = field(
        default=1883, metadata=_key(integer(1, 65535), "The broker's port.", shown="8883 with `tls`, else 1883")
    )
    username: str | None = field(
        default=None, metadata=_key(text(), "User name at the broker. Not needed with a client certificate.")
    )
    password: str | None = field(
        default=None,
        repr=False,
        metadata=_key(text(), "Password at the broker. Better kept in a file of its own: see `password_file`."),
    )
    password_file: Path | None = field(
        default=None, metadata=_key(SECRET_FILE, "File whose first line is the password; instead of `password`.")
    )
    keepalive_s: float = field(
        default=60.0,
        metadata=_key(
            duration(5, HOUR_S),
            "The longest silence on the connection before the other end is asked. The services don't wait longer than "
            "10 s (or a third of systemd's `WatchdogSec=`, if that is less), or than `worker.poll_interval` where that is longer.",
        ),
    )
    reconnect_max_s: float = field(
        default=10.0,
        metadata=_key(
            duration(0.5, HOUR_S),
            "The longest pause between attempts to connect. Attempts are spread at random below it; give a fleet of "
            "more than 2000 machines 60 s.",
        ),
    )
    client_id_prefix: str = field(
        default="",
        metadata=_key(text(64), "Put before the id of the worker to make its MQTT client id."),
    )

    def read_password(self) -> str | None:
        """The password, from wherever it is configured.

        Raises:
            ConfigError: `password_file` can't be read, or everybody can read it.
        """
        if self.password_file is None:
            return self.password
        return read_secret("queue.mqtt.password_file", self.password_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    backend: Literal["mqtt"] = field(default="mqtt", metadata=_key(_BACKEND, "How jobs travel."))
    mqtt: Mqtt = field(default=Mqtt(), metadata=_key(Section(Mqtt), "The broker."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    ca_file: Path | None = field(
        default=None,
        metadata=_key(PATH, "Certificate of the authority that signed the broker's.", shown="the system's authorities"),
    )
    cert_file: Path | None = field(
        default=None,
        metadata=_key(PATH, "Certificate that this machine shows to the broker; its name is the worker's id."),
    )
    key_file: Path | None = field(default=None, metadata=_key(SECRET_FILE, "Private key that belongs to `cert_file`."))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    id: WorkerId = field(
        metadata=_key(ID, "Name of this worker; unique in the fleet.", shown="`<hostname>-<instance>`")
    )
    slots: int = field(default=5, metadata=_key(integer(1, 1000), "Jobs that run at once.", name="max_concurrent_jobs"))
    types: tuple[JobType, ...] = field(
        default=(),
        metadata=_key(
            ListOf(ID, "[price_update]"), "Run only jobs of these types.", shown="all types that have a handler"
        ),
    )
    tags: tuple[Tag, ...] = field(
        default=(), metadata=_key(ListOf(ID, "[ssd, eu]"), "What this worker has; jobs can ask for tags.", shown="none")
    )
    poll_interval_s: float = field(
        default=5.0,
        metadata=_key(
            duration(0.1, HOUR_S),
            "How often an idle worker asks for jobs again. Jobs don't wait for it: they are sent as soon as a slot is free.",
        ),
    )
    heartbeat_interval_s: float = field(
        default=30.0, metadata=_key(duration(1, HOUR_S), "How often the worker says that it is alive.")
    )
    drain_timeout_s: float = field(
        default=60.0,
        metadata=_key(duration(0, DAY_S), "How long a stop waits for running jobs before they are given back."),
    )
    stop_grace_s: float = field(
        default=5.0,
        metadata=_key(
            duration(0, HOUR_S), "Time between TERM and KILL for a job that is cancelled or whose time is up."
        ),
    )
    handler_paths: tuple[Path, ...] = field(
        default=(),
        metadata=_key(
            ListOf(PATH, "[/opt/jobs]"), "Folders to import handlers from, besides what is installed.", shown="none"
        ),
    )
    recycle_after_jobs: int = field(
        default=1000, metadata=_key(integer(1, 1_000_000), "Jobs after which a handler process is replaced.")
    )
    journal: Path = field(
        metadata=_key(
            PATH,
            "What the worker has accepted and not yet reported; must survive a reboot.",
            shown="`/var/lib/stockworker/<instance>/journal.sqlite3`",
        )
    )
    journal_quota_bytes: int = field(
        default=256 * 1024**2,
        metadata=_key(
            SIZE,
            "Most bytes of results that are kept until they can be reported. From three quarters on no new jobs are "
            "taken; beyond it the largest results are evicted, and their jobs run again.",
            shown="`256M`",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    memory_bytes: int | None = field(
        default=None,
        metadata=_key(
            SIZE,
            "Memory of one job, all of its processes together, such as 512M: if they need more, the kernel kills the job. "
            "Where there are no control groups with a memory controller: private memory of each process (RLIMIT_DATA).",
            shown="unlimited",
        ),
    )
    cpu_s: float | None = field(
        default=None,
        metadata=_key(
            duration(1, DAY_S),
            "Processor time of one job, all of its processes together; without control groups, of each process.",
            shown="unlimited",
        ),
    )
    processors: float | None = field(
        default=None,
        metadata=_key(
            number(0.01, 1024),
            "How many processors one job may keep busy, such as 0.5; it is slowed down to that. Needs control groups with a "
            "cpu controller: without, the worker says when it starts that this is not enforced.",
            shown="all",
        ),
    )
    open_files: int | None = field(
        default=None,
        metadata=_key(integer(16, 1_048_576), "Files and connections open at once.", shown="the system's limit"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """What runs one job type; without `python` and `command`, the built-in or installed handler of that name."""

    enabled: bool = field(default=True, metadata=_key(BOOLEAN, "Set to false to refuse this type on this machine."))
    python: str | None = field(default=None, metadata=_key(FUNCTION, "Python function that runs jobs of this type."))
    command: tuple[str, ...] | None = field(
        default=None,
        metadata=_key(
            ListOf(text(), "[php, /opt/jobs/run.php]"),
            "Program and arguments: payload on standard input, JSON result on standard output, exit code decides.",
        ),
    )
    settings: Mapping[str, Json] = field(
        default_factory=dict,
        repr=False,  # may hold an API key
        metadata=_key(
            Free(),
            "Passed to the handler unchanged. [job-types.md](job-types.md) has those of the built-in types.",
            shown="none",
        ),
    )
    settings_file: Path | None = field(
        default=None,
        metadata=_key(
            SECRET_FILE,
            "File in YAML or JSON with more settings, laid over `settings`: for API keys and passwords. A reload reads it again (a credential: a restart).",
        ),
    )
    limits: LimitsConfig = field(default=LimitsConfig(), metadata=_key(Section(LimitsConfig), "What one job may use."))

    def read_settings(self, job_type: str) -> dict[str, Json]:
        """All settings, from wherever they are configured.

        Raises:
            ConfigError: `settings_file` can't be used, or everybody can read it.
        """
        if self.settings_file is None:
            return dict(self.settings)
        secret = read_settings(f"handlers.{job_type}.settings_file", self.settings_file)
        return {**self.settings, **secret}


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketData:
    location: str = field(
        default="/var/lib/stockworker/market/market.sqlite3",
        repr=False,  # an address may hold a password
        metadata=_key(LOCATION, "Where the built-in job types keep bars: a SQLite file or a PostgreSQL database."),
    )
    location_file: Path | None = field(
        default=None,
        metadata=_key(
            SECRET_FILE, "File whose first line is the location; instead of `location`, where that holds a password."
        ),
    )

    def read_location(self) -> str:
        """Where the bars are, from wherever it is configured.

        Raises:
            ConfigError: `location_file` can't be read, everybody can read it, or it holds no location.
        """
        if self.location_file is None:
            return self.location
        try:
            location: str = LOCATION.parse(read_secret("market_data.location_file", self.location_file))
        except Wrong:
            text = f"market_data.location_file: the first line of {self.location_file} must be {LOCATION.meaning}"
            raise ConfigError(text) from None
        return location


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDefaultsConfig:
    max_attempts: int = field(default=3, metadata=_job_default("max_attempts"))
    max_crashes: int = field(default=3, metadata=_job_default("max_crashes"))
    timeout_s: float = field(default=600.0, metadata=_job_default("timeout_s"))
    backoff_s: float = field(default=5.0, metadata=_job_default("backoff_s"))
    backoff_max_s: float = field(default=600.0, metadata=_key(duration(0, DAY_S), "The longest wait between attempts."))


@dataclass(frozen=True, slots=True, kw_only=True)
class TypePolicy:
    prefetch: int = field(
        default=0,
        metadata=_key(
            integer(0, 500),
            "Jobs of this type that a worker is given beyond those that it runs, to go on with when it is cut off.",
        ),
    )
    prefetch_validity_s: float = field(
        default=2 * DAY_S,
        metadata=_key(
            duration(60, 30 * DAY_S),
            "With `prefetch`: how long jobs of this type stay with a worker that is cut off, before others get them.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherConfig:
    id: ClientId = field(default=ClientId("dispatcher"), metadata=_key(ID, "Its name at the broker."))
    store: Path = field(
        default=Path("/var/lib/stockworker/dispatcher/jobs.sqlite3"),
        metadata=_key(PATH, "The job store; on a disk that keeps what it has synced."),
    )
    lease_s: float = field(
        default=30.0,
        metadata=_key(
            duration(2, HOUR_S),
            "How long a job stays with a worker that does not renew it. Not a limit on how long a job may run.",
        ),
    )
    max_wait_s: float = field(
        default=900.0,
        metadata=_key(duration(1, 30 * DAY_S), "The longest that a job waits behind jobs of higher priority."),
    )
    worker_timeout_s: float = field(
        default=90.0,
        metadata=_key(duration(2, DAY_S), "A worker that was silent for so long gets no new jobs."),
    )
    keep_ended_s: float = field(
        default=7 * DAY_S,
        metadata=_key(
            duration(60, 10 * 365 * DAY_S),
            "How long a job that has ended is kept, with its result; then it is forgotten, and its id can be used again.",
        ),
    )
    denied_workers: tuple[WorkerId, ...] = field(
        default=(),
        metadata=_key(
            ListOf(ID, "[edge-7-1]"),
            "Workers to which nobody listens: their jobs go to others at once. Read again on a reload.",
            shown="none",
        ),
    )
    denied_workers_file: Path | None = field(
        default=None,
        metadata=_key(PATH, "More of them, one id per line; what follows a `#` is ignored. Read again on a reload."),
    )
    job_defaults: JobDefaultsConfig = field(
        default=JobDefaultsConfig(), metadata=_key(Section(JobDefaultsConfig), "For jobs that don't say it themselves.")
    )
    types: Mapping[JobType, TypePolicy] = field(
        default_factory=dict,
        metadata=_key(
            Each(ID, TypePolicy),
            "How jobs of one type are given out ahead, for workers that are cut off: see docs/offline.md.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    id: ClientId | None = field(
        default=None,
        metadata=_key(
            ID,
            "Name of who submits from this machine.",
            shown="the name in `tls.cert_file`; without one, `<user>-<hostname>`",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    keyring: Path = field(
        default=Path("/etc/stockworker/keyring"),
        metadata=_key(PATH, "Whose keys are trusted with what; the same file on every machine."),
    )
    key: Path | None = field(
        default=None,
        metadata=_key(
            SECRET_FILE,
            "Private keys of the submitter (named `client.id`) or worker (named `worker.id`) on this machine.",
        ),
    )
    group_keys: tuple[Path, ...] = field(
        default=(),
        metadata=_key(
            ListOf(SECRET_FILE, "[/etc/stockworker/keys/group-prices.pem]"),
            "Private keys of the groups that the worker is in: it can open jobs for these.",
            shown="none",
        ),
    )
    required: bool = field(
        default=True,
        metadata=_key(
            BOOLEAN,
            "Send and run nothing that is not sealed. Set to false while a fleet changes over to sealed jobs.",
        ),
    )
    sign: bool = field(
        default=True,
        metadata=_key(
            BOOLEAN,
            "Sign what is sealed, and accept nothing unsigned. Without, whoever has the keyring can submit jobs.",
        ),
    )
    valid_for_s: float = field(
        default=7 * DAY_S,
        metadata=_key(
            duration(60, 365 * DAY_S),
            "How long a sealed job may be started, from its submission or its `not_before`; one with `expires_at` until "
            "then.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = field(
        default="info",
        metadata=_key(choice("debug", "info", "warning", "error"), "The least important events that are logged."),
    )
    format: Literal["auto", "text", "json"] = field(
        default="auto",
        metadata=_key(
            choice("auto", "text", "json"),
            "`json` is one object per line; `auto` is text, or under systemd entries of the journal with fields of their own.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration, complete and checked."""

    queue: Queue = field(default=Queue(), metadata=_key(Section(Queue, ignored=_OLD_BACKENDS), "How jobs travel."))
    tls: Tls | None = field(
        default=None,
        metadata=_key(
            Section(Tls),
            "Encrypts the connection to the broker. Absent: plain TCP; `{}`: TLS without a client certificate.",
        ),
    )
    encryption: Encryption | None = field(
        default=None,
        metadata=_key(
            Section(Encryption),
            "Seals payloads and results between submitters and workers (docs/encryption.md). Absent: they are plain.",
        ),
    )
    worker: WorkerConfig = field(metadata=_key(Section(WorkerConfig), "The worker on this machine."))
    handlers: Mapping[JobType, Handler] = field(
        default_factory=dict,
        metadata=_key(
            Each(ID, Handler),
            "What runs which job type. The built-in types need no entry; one with only `settings` or `limits` adjusts them.",
        ),
    )
    market_data: MarketData = field(
        default=MarketData(), metadata=_key(Section(MarketData), "The store of the built-in job types.")
    )
    dispatcher: DispatcherConfig = field(
        default=DispatcherConfig(), metadata=_key(Section(DispatcherConfig), "Read by the dispatcher alone.")
    )
    client: ClientConfig = field(
        default=ClientConfig(), metadata=_key(Section(ClientConfig), "Read by the `stockworker` command.")
    )
    log: Log = field(default=Log(), metadata=_key(Section(Log), "What the services and commands log, and how."))
