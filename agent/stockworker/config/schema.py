"""All keys of the configuration: name, kind, default and meaning."""

# The reader, the reference page and the sample file are derived from these dataclasses, so each key is defined once. A
# field name ends with the unit of its value; the key in the file is the name without the unit.

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal

from stockworker.config.exchanges import ExchangeConfig
from stockworker.config.key import described as _described
from stockworker.config.key import job_default as _job_default
from stockworker.config.key import job_limit as _job_limit
from stockworker.config.key import key as _key
from stockworker.config.key import type_limit as _type_limit
from stockworker.config.kinds import (
    BACKEND,
    BOOLEAN,
    CLIENT_ID_PREFIX,
    FUNCTION,
    HOST,
    ID,
    ID_PATTERN,
    LOCATION,
    OLD_BACKENDS,
    PATH,
    SECRET_FILE,
    SIZE,
    TIME,
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
    size_up_to,
    text,
)
from stockworker.config.monitoring import MetricsConfig, NotificationsConfig
from stockworker.config.secrets import read_secret, read_settings
from stockworker.errors import ConfigError
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import DEFAULT_DISPATCHER, ClientId, JobType, Tag, WorkerId

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Mqtt:
    host: str = _key("localhost", HOST, "Host name or address of the broker.")
    port: int = _key(1883, integer(1, 65535), "The broker's port.", shown="8883 with `tls`, else 1883")
    username: str | None = _key(None, text(), "User name at the broker. Not needed with a client certificate.")
    password: str | None = _key(None, text(), "Password at the broker. `password_file` is safer.", secret=True)
    password_file: Path | None = _key(None, SECRET_FILE, "File whose first line is the password. Replaces `password`.")
    keepalive_s: float = _key(
        60.0,
        duration(5, HOUR_S),
        "Longest silence on the connection before an MQTT ping. Services use at most 10 s (or a third of systemd's "
        "`WatchdogSec=`, if that is shorter). A worker with a longer `worker.poll_interval` uses that as its limit.",
    )
    reconnect_max_s: float = _key(
        10.0,
        duration(0.5, HOUR_S),
        "Longest pause between connection attempts; the actual pause is random. Use 60 s for a fleet of more than "
        "2000 machines.",
    )
    client_id_prefix: str = _key("", CLIENT_ID_PREFIX, "Prefix of the MQTT client ID, before the worker's ID.")

    def read_password(self) -> str | None:
        """The password, from `password` or `password_file`.

        Raises:
            ConfigError: `password_file` is not readable, or is readable for all users.
        """
        if self.password_file is None:
            return self.password
        return read_secret("queue.mqtt.password_file", self.password_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    backend: Literal["mqtt"] = _key("mqtt", BACKEND, "Transport of jobs.")
    mqtt: Mqtt = _key(Mqtt(), Section(Mqtt), "Connection to the broker.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    ca_file: Path | None = _key(
        None,
        PATH,
        "Certificate of the authority that issued the broker's certificate.",
        shown="the system's authorities",
    )
    cert_file: Path | None = _key(
        None, PATH, "Client certificate of this machine. Its common name is the ID of the worker, dispatcher or client."
    )
    key_file: Path | None = _key(None, SECRET_FILE, "Private key of `cert_file`.")
    crl_file: Path | None = _key(
        None,
        PATH,
        "Revocation list of the authority that issued the broker's certificate. A broker whose certificate is on it is "
        "refused, and so is every broker once the list has expired. Without it, revoked brokers are accepted.",
        shown="none",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    id: WorkerId = field(
        metadata=_described(ID, "ID of this worker. Must be unique in the fleet.", shown="`<hostname>-<instance>`")
    )
    slots: int = _key(5, integer(1, 1000), "Number of jobs that run at the same time.", name="max_concurrent_jobs")
    types: tuple[JobType, ...] = _key(
        (), ListOf(ID, "[price_update]"), "Run only jobs of these types.", shown="all types that have a handler"
    )
    tags: tuple[Tag, ...] = _key(
        (), ListOf(ID, "[ssd, eu]"), "Tags of this worker. A job can require tags of its worker.", shown="none"
    )
    poll_interval_s: float = _key(
        5.0,
        duration(0.1, HOUR_S),
        "Interval of requests from an idle worker. Jobs do not wait for it: the dispatcher sends them as soon as a slot "
        "is free.",
    )
    heartbeat_interval_s: float = _key(30.0, duration(1, HOUR_S), "Interval of heartbeats from the worker.")
    drain_timeout_s: float = _key(
        60.0,
        duration(0, DAY_S),
        "How long a stopping worker waits for its running jobs before it releases them to other workers.",
    )
    stop_grace_s: float = _key(
        5.0, duration(0, HOUR_S), "Time between SIGTERM and SIGKILL for a job that is cancelled or timed out."
    )
    handler_paths: tuple[Path, ...] = _key(
        (), ListOf(PATH, "[/opt/jobs]"), "Additional folders to import handlers from.", shown="none"
    )
    recycle_after_jobs: int = _key(
        1000, integer(1, 1_000_000), "Number of jobs after which a handler process is replaced."
    )
    journal: Path = field(
        metadata=_described(
            PATH,
            "The worker's journal: accepted jobs and unreported results. Must survive a reboot.",
            shown="`/var/lib/stockworker/<instance>/journal.sqlite3`",
        )
    )
    journal_quota_bytes: int = _key(
        256 * 1024**2,
        SIZE,
        "Largest total size of unreported results. Above three quarters, the worker accepts no new jobs. Above the "
        "quota, the largest results are deleted, and their jobs run again. The payloads of its jobs may take as much: the "
        "worker refuses assignments beyond that.",
        shown="`256M`",
    )
    output_bytes: int = _key(
        64 * 1024, size_up_to(128), "Most output that is kept with each attempt; 0 keeps none.", shown="`64K`"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    memory_bytes: int | None = _key(
        None,
        SIZE,
        "Memory limit of one job with all its processes, such as 512M. The kernel kills a job above the limit. Without "
        "a memory controller for control groups, the limit is for private memory of each process (RLIMIT_DATA). "
        "[job-types.md](job-types.md) has the defaults of the built-in types.",
        shown="unlimited, except for built-in types",
    )
    cpu_s: float | None = _key(
        None,
        duration(1, DAY_S),
        "CPU time limit of one job with all its processes. Without control groups, the limit is for each process.",
        shown="unlimited",
    )
    processors: float | None = _key(
        None,
        number(0.01, 1024),
        "Number of processors that one job may use, such as 0.5; the kernel throttles it. Needs a CPU controller for "
        "control groups. Without one, the worker logs at its start that the limit is not enforced.",
        shown="all",
    )
    open_files: int | None = _key(
        None, integer(16, 1_048_576), "Limit of open files and connections.", shown="the system's limit"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """The handler of one job type; without `python` and `command`, the built-in or installed handler of that name."""

    enabled: bool = _key(default=True, kind=BOOLEAN, meaning="Set to false to disable this type on this machine.")
    python: str | None = _key(None, FUNCTION, "Python function that runs jobs of this type.")
    command: tuple[str, ...] | None = _key(
        None,
        ListOf(text(), "[php, /opt/jobs/run.php]"),
        "Program and arguments. It reads the payload from standard input, and writes a JSON result to standard output. "
        "Exit code 0 means success.",
    )
    settings: Mapping[str, Json] = field(
        default_factory=dict,
        repr=False,  # may hold an API key
        metadata=_described(
            Free(),
            "Settings for the handler, passed on unchanged. [job-types.md](job-types.md) lists those of the built-in types.",
            shown="none",
        ),
    )
    settings_file: Path | None = _key(
        None,
        SECRET_FILE,
        "YAML or JSON file with more settings, which override `settings`. For API keys and passwords. A reload reads it "
        "again; a systemd credential needs a restart.",
    )
    isolation: str = _key(
        "per_type",
        choice("shared", "per_type", "per_job"),
        "Which jobs of Python handlers may run one after another in the same process: those of all types that are `shared`, "
        "those of this type, or none. [job-types.md](job-types.md#isolation) compares them.",
    )
    concurrency: int = _key(
        1,
        integer(1, 1000),
        "Number of jobs of this type that one process runs at the same time. More than 1 needs an `async def` handler. "
        "`worker.max_concurrent_jobs` bounds them, too. [job-types.md](job-types.md#many-jobs-in-one-process) explains it.",
    )
    limits: LimitsConfig = _key(
        LimitsConfig(), Section(LimitsConfig), "Resource limits of one job; with `concurrency`, of one process."
    )

    def read_settings(self, job_type: str) -> dict[str, Json]:
        """All settings: `settings` and, over them, `settings_file`.

        Raises:
            ConfigError: `settings_file` is not usable, or is readable for all users.
        """
        if self.settings_file is None:
            return dict(self.settings)
        secret = read_settings(f"handlers.{job_type}.settings_file", self.settings_file)
        return {**self.settings, **secret}


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketData:
    # An address may hold a password.
    location: str = _key(
        "/var/lib/stockworker/market/market.sqlite3",
        LOCATION,
        "Store of the built-in job types for bars: a SQLite file or a PostgreSQL database.",
        secret=True,
    )
    location_file: Path | None = _key(
        None, SECRET_FILE, "File whose first line is the location. Replaces a `location` that contains a password."
    )
    separate: bool = _key(
        default=False,
        kind=BOOLEAN,
        meaning="Whether this worker has its own market data on purpose, because tags keep the jobs of a symbol together. Then "
        "`stockworker stats` does not warn that it differs from those of other workers.",
    )
    exchanges: Mapping[str, ExchangeConfig] = field(
        default_factory=dict,
        metadata=_described(
            Each(ID, ExchangeConfig, "<exchange>"),
            "When exchanges trade. `stockworker market quality --exchange NAME` expects bars only then.",
        ),
    )

    def read_location(self) -> str:
        """The location, from `location` or `location_file`.

        Raises:
            ConfigError: `location_file` is not readable, is readable for all users, or contains no location.
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
    max_attempts: int = _job_default(3, "max_attempts")
    max_crashes: int = _job_default(3, "max_crashes")
    timeout_s: float = _job_default(600.0, "timeout_s")
    backoff_s: float = _job_default(5.0, "backoff_s")
    backoff_max_s: float = _key(600.0, duration(0, DAY_S), "Longest delay between attempts.")
    expires_after_s: float | None = _key(
        None,
        duration(1, 365 * DAY_S),
        "A job that sets no `expires_at` expires this long after its submission, or after its `not_before`, if no worker "
        "has started it. Without this key it waits until a worker can run it, even after a long outage of the workers.",
        shown="jobs do not expire",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimitsConfig:
    timeout_s: float = _job_limit(DAY_S, "timeout_s")
    max_attempts: int = _job_limit(100, "max_attempts")
    max_crashes: int = _job_limit(10, "max_crashes")
    backoff_s: float = _job_limit(DAY_S, "backoff_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimitsConfig:
    live_jobs: int = _key(
        200_000,
        integer(10, 10_000_000),
        "Most live jobs of all submitters. Each takes about 0.3 KiB of the store besides its payload, and 10 µs of each "
        "start. Most of a long queue takes no memory (docs/limits.md).",
    )
    payloads_bytes: int = _key(1024**3, SIZE, "Most bytes in the payloads of all live jobs.", shown="`1G`")
    outputs_bytes: int = _key(
        1024**3,
        SIZE,
        "Most bytes in the outputs of attempts. Beyond that, the submitter that has most loses its oldest ones.",
        shown="`1G`",
    )
    submitter_share: float = _key(
        0.5,
        number(0.01, 1),
        "The part of `live_jobs` and `payloads` that one submitter may use. With 1, one submitter can use all.",
    )
    combinations: int = _key(
        1000,
        integer(10, 1_000_000),
        "Most different combinations of type and tags of the live jobs of one submitter.",
    )
    free_space_bytes: int = _key(
        256 * 1024**2,
        SIZE,
        "With less free space on the disk of the job store, the dispatcher rejects new jobs. It keeps the rest for "
        "results.",
        shown="`256M`",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TypePolicy:
    prefetch: int = _key(
        0,
        integer(0, 500),
        "Number of jobs of this type that a worker gets in advance, so that it can continue without a connection.",
    )
    prefetch_validity_s: float = _key(
        2 * DAY_S,
        duration(60, 30 * DAY_S),
        "With `prefetch`: how long a disconnected worker keeps its jobs of this type before other workers get them.",
    )
    live_jobs: int | None = _key(
        None, integer(1, 10_000_000), "Most live jobs of this type, of all submitters.", shown="unlimited"
    )
    timeout_s: float | None = _type_limit("timeout_s")
    max_attempts: int | None = _type_limit("max_attempts")
    max_crashes: int | None = _type_limit("max_crashes")


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowanceConfig:
    types: tuple[JobType, ...] | None = _key(
        None, ListOf(ID, "[price_update]"), "Job types that these workers may get.", shown="all types"
    )
    tags: tuple[Tag, ...] | None = _key(
        None, ListOf(ID, "[ssd, eu]"), "Tags that these workers may have.", shown="all tags"
    )
    slots: int = _key(64, integer(1, 1000), "Most jobs that one of these workers may run at the same time.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherConfig:
    id: ClientId = _key(DEFAULT_DISPATCHER, ID, "ID of the dispatcher at the broker.")
    store: Path = _key(
        Path("/var/lib/stockworker/dispatcher/jobs.sqlite3"), PATH, "The job store. Its disk must keep synced data."
    )
    lease_s: float = _key(
        30.0,
        duration(2, HOUR_S),
        "How long a worker keeps a job without renewing its lease. This does not limit the run time of a job.",
    )
    max_wait_s: float = _key(
        900.0, duration(1, 30 * DAY_S), "Longest time that a job waits behind jobs of higher priority."
    )
    timeout_grace_s: float = _key(
        300.0,
        duration(1, DAY_S),
        "How much longer than its `timeout` a worker may report a job as running. Then the dispatcher ends the attempt. "
        "Must be longer than the `stop_grace` of all workers.",
    )
    worker_timeout_s: float = _key(90.0, duration(2, DAY_S), "A worker that was silent this long gets no new jobs.")
    keep_ended_s: float = _key(
        7 * DAY_S,
        duration(60, 10 * 365 * DAY_S),
        "How long an ended job and its result are kept. Then they are deleted, and the job ID can be used again.",
    )
    denied_workers: tuple[WorkerId, ...] = _key(
        (),
        ListOf(ID, "[edge-7-1]"),
        "Denied workers: their messages are ignored, and their jobs go to other workers immediately. A reload reads it "
        "again.",
        shown="none",
    )
    denied_workers_file: Path | None = _key(
        None, PATH, "File with more denied workers, one ID per line; `#` starts a comment. A reload reads it again."
    )
    accept_shared_jobs: bool = _key(
        default=True,
        kind=BOOLEAN,
        meaning="Whether jobs may be submitted on topics without a client ID. The broker can't verify who submits those: "
        "they belong to the shared owner, and every client may read and cancel them.",
    )
    notice_result_bytes: int = _key(
        4096,
        integer(0, 240 * 1024),
        "Largest result, in bytes, in the notices on `jobs/completed/…`, which every tool may watch. A larger result is "
        "`false` there. The client that submitted the job always gets its whole result, on a topic of its own.",
    )
    job_defaults: JobDefaultsConfig = _key(
        JobDefaultsConfig(), Section(JobDefaultsConfig), "Defaults for options that a job does not set."
    )
    job_limits: JobLimitsConfig = _key(
        JobLimitsConfig(),
        Section(JobLimitsConfig),
        "The most that a job may ask for. The dispatcher rejects a job that asks for more (docs/limits.md).",
    )
    limits: LiveLimitsConfig = _key(
        LiveLimitsConfig(),
        Section(LiveLimitsConfig),
        "How many live jobs the dispatcher keeps: those that wait or run. It rejects jobs beyond that (docs/limits.md).",
    )
    workers: Mapping[str, AllowanceConfig] = field(
        default_factory=dict,
        metadata=_described(
            Each(ID_PATTERN, AllowanceConfig, "<workers>"),
            "What workers may claim, by their IDs. In a name, `*` is any text; quote a name that begins with it. Of several "
            "names that match, the one with the most other characters is valid. Workers without a match may have any types "
            "and tags, and 64 slots.",
        ),
    )
    types: Mapping[JobType, TypePolicy] = field(
        default_factory=dict,
        metadata=_described(
            Each(ID, TypePolicy),
            "Rules for the jobs of one type. Limits: docs/limits.md. Jobs in advance, for times without a connection: "
            "docs/offline.md.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    id: ClientId | None = _key(
        None,
        ID,
        "ID of the client on this machine.",
        shown="the name in `tls.cert_file`; without one, `<user>-<hostname>`",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    address: str = _key(
        "127.0.0.1",
        HOST,
        "Address at which the page listens. With any other one than a loopback address, `accounts`, `cert_file` and "
        "`key_file` are required.",
    )
    port: int = _key(8880, integer(1, 65535), "Port at which the page listens.")
    names: tuple[str, ...] = _key(
        (),
        ListOf(HOST, "[fleet.example.org]"),
        "More host names in the addresses that browsers use, such as that of a proxy. Requests for other names are refused.",
        shown="`address`, `localhost`, and the names in `cert_file`",
    )
    accounts: Path | None = _key(
        None,
        SECRET_FILE,
        "File of the accounts that may sign in (`stockworker web account`). Without it, every user of this machine may look, "
        "and no user may act.",
        shown="none",
    )
    cert_file: Path | None = _key(None, PATH, "Certificate of the page, for HTTPS.", shown="none: HTTP")
    key_file: Path | None = _key(None, SECRET_FILE, "Private key of `cert_file`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    keyring: Path = _key(
        Path("/etc/stockworker/keyring"),
        PATH,
        "The keyring: trusted public keys. Must be the same file on all machines.",
    )
    key: Path | None = _key(
        None,
        SECRET_FILE,
        "Private keys of the submitter (named `client.id`) or worker (named `worker.id`) on this machine.",
    )
    group_keys: tuple[Path, ...] = _key(
        (),
        ListOf(SECRET_FILE, "[/etc/stockworker/keys/group-prices.pem]"),
        "Private keys of the groups that the worker is in. They open the jobs of these groups.",
        shown="none",
    )
    required: bool = _key(
        default=True,
        kind=BOOLEAN,
        meaning="Submit and run only sealed jobs. Set to false while a fleet migrates to sealed jobs.",
    )
    sign: bool = _key(
        default=True,
        kind=BOOLEAN,
        meaning="Sign sealed payloads and results, and accept only signed ones. Without signatures, every holder of the keyring "
        "can submit jobs.",
    )
    valid_for_s: float = _key(
        7 * DAY_S,
        duration(60, 365 * DAY_S),
        "Validity of a sealed job without `expires_at`, from its submission or its `not_before`. Workers refuse to "
        "start it afterwards.",
    )
    accept_unproven_until: float | None = _key(
        None,
        TIME,
        "Until this time, a client that does not remember a job also accepts a result in the format of version 1. Such a "
        "result does not prove that its worker could open the job. Set it for some days when a client is upgraded while "
        "results of jobs in that format are still stored.",
        shown="never",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = _key(
        "info", choice("debug", "info", "warning", "error"), "Lowest level of logged events."
    )
    format: Literal["auto", "text", "json"] = _key(
        "auto",
        choice("auto", "text", "json"),
        "`json`: one object per line. `auto`: text, or structured entries of the systemd journal under systemd.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration, with defaults, checked."""

    queue: Queue = _key(Queue(), Section(Queue, ignored=OLD_BACKENDS), "Transport of jobs.")
    tls: Tls | None = _key(
        None,
        Section(Tls),
        "TLS for the connection to the broker. Without this section: plain TCP. With `{}`: TLS without a client "
        "certificate.",
    )
    encryption: Encryption | None = _key(
        None,
        Section(Encryption),
        "Sealing of payloads and results between submitters and workers (docs/encryption.md). Without this section they "
        "are not sealed.",
    )
    worker: WorkerConfig = field(metadata=_described(Section(WorkerConfig), "The worker on this machine."))
    handlers: Mapping[JobType, Handler] = field(
        default_factory=dict,
        metadata=_described(
            Each(ID, Handler),
            "The handlers of job types. Built-in types need no entry; an entry with only `settings` or `limits` adjusts one.",
        ),
    )
    market_data: MarketData = _key(
        MarketData(), Section(MarketData), "The market-data store of the built-in job types."
    )
    dispatcher: DispatcherConfig = _key(DispatcherConfig(), Section(DispatcherConfig), "Only read by the dispatcher.")
    client: ClientConfig = _key(ClientConfig(), Section(ClientConfig), "Read by the `stockworker` command.")
    web: WebConfig = _key(WebConfig(), Section(WebConfig), "Only read by the web page (docs/web.md).")
    metrics: MetricsConfig = _key(
        MetricsConfig(),
        Section(MetricsConfig),
        "Metrics of the services for Prometheus, in files for the textfile collector of node_exporter (docs/monitoring.md).",
    )
    notifications: NotificationsConfig | None = _key(
        None,
        Section(NotificationsConfig),
        "Notifications of the dispatcher for people (docs/monitoring.md). Without this section it sends none.",
    )
    log: Log = _key(Log(), Section(Log), "Log level and format of services and commands.")
