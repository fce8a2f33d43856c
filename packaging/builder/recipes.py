"""The content and the dependencies of each package."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CODE: Final = "/usr/share/stockworker-code"
"""The folder of the code and its libraries, which packages share: the same on every architecture, and not on Python's
default path.

Not /usr/share/stockworker: the Python package in it has the same name, and lintian rejects a path that repeats a name.
"""

FROM_DISTRIBUTION: Final = {
    "PyYAML": ("python3-yaml", "(python3-pyyaml or python3-PyYAML)"),
    "cryptography": ("python3-cryptography (>= 38)", "python3-cryptography >= 38"),
}
"""Dependencies that the distribution has and maintains, with their .deb and .rpm names. The others are vendored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One package.

    Attributes:
        name: of the package.
        summary: one line, without a full stop.
        description: a few sentences.
        files: source by target. A source that ends in a slash is a whole folder, without what other packages have of
            it. Files below /etc are configuration: an administrator's changes stay.
        folders: empty folders that belong to the package.
        deb: dependencies of the .deb, besides the same version of `stockworker`.
        rpm: dependencies of the .rpm, in the same way.
        suggests: packages that it uses if they are installed.
        scripts: the folder of its maintainer scripts.
        values: replacements for the names between at signs in these scripts.
        section: of the archive, in Debian's sense.
        standalone: whether it works without `stockworker`, and so does not depend on it.
        license: SPDX expression.
        overrides: what lintian reports of the .deb although it is meant so.
    """

    name: str
    summary: str
    description: str
    files: Mapping[str, str]
    folders: tuple[str, ...] = ()
    deb: tuple[str, ...] = ()
    rpm: tuple[str, ...] = ()
    suggests: tuple[str, ...] = ()
    scripts: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    section: str = "net"
    standalone: bool = False
    license: str = "Apache-2.0"
    overrides: tuple[str, ...] = ()


def _only_systemd(unit: str) -> tuple[str, ...]:
    """The sandbox of a service is made of systemd's options, so no other init may start it."""
    return (f"package-supports-alternative-init-but-no-init.d-script [usr/lib/systemd/system/{unit}]",)


_UNITS: Final = "/usr/lib/systemd/system"

LIBRARIES: Final = Recipe(
    name="stockworker-libraries",
    summary="Python libraries of stockworker",
    description=(
        "The libraries of stockworker that distributions lack, beside its code: other\n"
        "programs don't find them. The document stockworker.cdx.json lists them."
    ),
    files={},
    deb=("python3 (>= 3.11)",),
    rpm=("python3 >= 3.11",),
    scripts="libraries",
    standalone=True,
    license="Apache-2.0 AND MIT",
)

CORE: Final = Recipe(
    name="stockworker",
    summary="Job processing for fleets of Linux machines over MQTT",
    description=(
        "A dispatcher stores jobs and assigns them to workers. Workers run jobs, and\n"
        "report results even after days without a network. A Mosquitto broker is the\n"
        "wire between them. This package has the code, and the command to submit,\n"
        "watch and control jobs, and the authority of the fleet's certificates. The\n"
        "services, with their code, are separate packages. Installing does not start\n"
        "the authority's join server. To start it:\n"
        "systemctl enable --now stockworker-join."
    ),
    files={
        "/usr/bin/stockworker": "packaging/stockworker",
        f"{CODE}/stockworker": "agent/stockworker/",
        f"{_UNITS}/stockworker.target": "systemd/stockworker.target",
        f"{_UNITS}/stockworker-join.service": "systemd/stockworker-join.service",
        "/usr/share/doc/stockworker/examples/join-passphrase.conf": "systemd/examples/join-passphrase.conf",
        "/usr/lib/systemd/catalog/stockworker.catalog": "systemd/stockworker.catalog",
        "/etc/stockworker/job_processor.yml": "etc/stockworker/job_processor.yml",
        "/usr/share/doc/stockworker/configuration.md": "docs/configuration.md",
        "/usr/share/doc/stockworker/job_processor.schema.json": "etc/stockworker/job_processor.schema.json",
    },
    folders=("/etc/stockworker/instances", "/etc/stockworker/job_processor.d", "/etc/stockworker/tls"),
    deb=("python3 (>= 3.11)", "util-linux (>= 2.21)"),
    rpm=("python3 >= 3.11", "util-linux"),
    suggests=(
        "prometheus-node-exporter",
        "python3-matplotlib",
        "python3-numpy",
        "python3-prometheus-client",
        "python3-psycopg",
        "python3-uvloop",
        "stockworker-doc",
    ),
    scripts="code",
    overrides=_only_systemd("stockworker-join.service"),
)

WORKER: Final = Recipe(
    name="stockworker-agent",
    summary="Worker service of stockworker",
    description=(
        "Runs jobs on this machine, one service per worker: stockworker@1,\n"
        "stockworker@2. Installing does not start a service. To start one:\n"
        "systemctl enable --now stockworker@1."
    ),
    files={
        f"{CODE}/stockworker/worker": "agent/stockworker/worker/",
        f"{CODE}/stockworker/market": "agent/stockworker/market/",
        f"{_UNITS}/stockworker@.service": "systemd/stockworker@.service",
        f"{_UNITS}/stockworker@.path": "systemd/stockworker@.path",
        "/usr/lib/sysusers.d/stockworker-agent.conf": "systemd/sysusers.d/stockworker-agent.conf",
        "/usr/lib/tmpfiles.d/stockworker-agent.conf": "systemd/tmpfiles.d/stockworker-agent.conf",
        "/usr/share/doc/stockworker-agent/examples/encrypted-key.conf": "systemd/examples/encrypted-key.conf",
        "/usr/share/doc/stockworker-agent/examples/late-certificates.conf": "systemd/examples/late-certificates.conf",
        "/usr/share/doc/stockworker-agent/examples/network.conf": "systemd/examples/network.conf",
    },
    deb=("systemd (>= 252)",),
    rpm=("systemd >= 252",),
    scripts="service",
    values={
        "UNITS": "stockworker@.path stockworker@.service",
        "RUNNING": "'stockworker@*.path' 'stockworker@*.service'",
        "INSTANCES": "stockworker@*",
        "USER": "stockworker",
        "CODE": f"{CODE}/stockworker/worker {CODE}/stockworker/market",
    },
)

DISPATCHER: Final = Recipe(
    name="stockworker-dispatcher",
    summary="Dispatcher service of stockworker",
    description=(
        "Stores the jobs of a fleet and assigns them to its workers. A fleet has one\n"
        "dispatcher. Installing does not start the service. To start it:\n"
        "systemctl enable --now stockworker-dispatcher."
    ),
    files={
        f"{CODE}/stockworker/dispatcher": "agent/stockworker/dispatcher/",
        f"{_UNITS}/stockworker-dispatcher.service": "systemd/stockworker-dispatcher.service",
        f"{_UNITS}/stockworker-dispatcher.path": "systemd/stockworker-dispatcher.path",
        "/usr/lib/sysusers.d/stockworker-dispatcher.conf": "systemd/sysusers.d/stockworker-dispatcher.conf",
        "/usr/lib/tmpfiles.d/stockworker-dispatcher.conf": "systemd/tmpfiles.d/stockworker-dispatcher.conf",
        "/usr/share/doc/stockworker-dispatcher/examples/network.conf": "systemd/examples/network.conf",
    },
    deb=("systemd (>= 252)",),
    rpm=("systemd >= 252",),
    scripts="service",
    values={
        "UNITS": "stockworker-dispatcher.path stockworker-dispatcher.service",
        "RUNNING": "stockworker-dispatcher.path stockworker-dispatcher.service",
        "INSTANCES": "stockworker-dispatcher",
        "USER": "stockworker-dispatcher",
        "CODE": f"{CODE}/stockworker/dispatcher",
    },
)

WEB: Final = Recipe(
    name="stockworker-web",
    summary="Web page of a stockworker fleet",
    description=(
        "Shows a fleet in a browser: its jobs, queues and workers, and charts of its\n"
        "market data. Operators who sign in can act. Installing does not start the\n"
        "service, and it listens on the machine itself only. To start it:\n"
        "systemctl enable --now stockworker-web."
    ),
    files={
        f"{CODE}/stockworker/web": "agent/stockworker/web/",
        f"{_UNITS}/stockworker-web.service": "systemd/stockworker-web.service",
        "/usr/lib/sysusers.d/stockworker-web.conf": "systemd/sysusers.d/stockworker-web.conf",
        "/usr/lib/tmpfiles.d/stockworker-web.conf": "systemd/tmpfiles.d/stockworker-web.conf",
        "/usr/share/doc/stockworker-web/web.md": "docs/web.md",
    },
    deb=("python3-aiohttp (>= 3.8)", "python3-jinja2 (>= 3.1)", "systemd (>= 252)"),
    rpm=("python3-aiohttp >= 3.8", "python3-jinja2 >= 3.1", "systemd >= 252"),
    suggests=("stockworker-agent",),
    scripts="service",
    values={
        "UNITS": "stockworker-web.service",
        "RUNNING": "stockworker-web.service",
        "INSTANCES": "stockworker-web",
        "USER": "stockworker-web",
        "CODE": f"{CODE}/stockworker/web",
    },
    overrides=_only_systemd("stockworker-web.service"),
)

MIGRATION: Final = Recipe(
    name="stockworker-migrate",
    summary="Moves jobs from an old queue to stockworker",
    description=(
        "The command 'stockworker migrate'. It moves the waiting jobs of a database,\n"
        "Redis or RabbitMQ to the dispatcher. It can be interrupted at any moment,\n"
        "and can return jobs. After the move it is not needed any longer."
    ),
    files={f"{CODE}/stockworker/migration": "agent/stockworker/migration/"},
    suggests=("python3-pika", "python3-psycopg", "python3-pymysql", "python3-redis"),
    scripts="module",
    values={"CODE": f"{CODE}/stockworker/migration"},
)

DOCTOR: Final = Recipe(
    name="stockworker-doctor",
    summary="Diagnosis of the machines of a stockworker fleet",
    description=(
        "The command 'stockworker doctor'. It finds out what is wrong on a machine\n"
        "with a worker, the dispatcher or the broker, and what to type next."
    ),
    files={f"{CODE}/stockworker/doctor": "agent/stockworker/doctor/"},
    scripts="module",
    values={"CODE": f"{CODE}/stockworker/doctor"},
)

BROKER: Final = Recipe(
    name="stockworker-broker",
    summary="Mosquitto as the broker of stockworker",
    description=(
        "The dependencies of 'stockworker broker setup', which makes this machine's\n"
        "Mosquitto the broker of a fleet, and puts it into a sandbox. Installing does\n"
        "not affect Mosquitto."
    ),
    files={
        "/usr/share/stockworker-broker": "etc/mosquitto/",
        "/usr/share/stockworker-broker/sandbox.conf": "systemd/mosquitto.service.d/stockworker.conf",
        f"{_UNITS}/stockworker-broker-check.service": "systemd/stockworker-broker-check.service",
        f"{_UNITS}/stockworker-broker-check.timer": "systemd/stockworker-broker-check.timer",
        "/usr/share/doc/stockworker-broker/mosquitto.md": "docs/mosquitto.md",
        "/usr/share/doc/stockworker-broker/examples/network.conf": "systemd/examples/network.conf",
    },
    deb=("mosquitto (>= 2.0.11)", "systemd (>= 252)"),
    rpm=("mosquitto >= 2.0.11", "systemd >= 252"),
    scripts="broker",
)

_EXAMPLES: Final = "/usr/share/doc/stockworker/examples"

_DOCUMENTS: Final = (
    "cli",
    "encryption",
    "glossary",
    "handlers",
    "job-types",
    "lifecycle",
    "limits",
    "logging",
    "market-data",
    "migrating",
    "monitoring",
    "mosquitto",
    "offline",
    "operations",
    "packages",
    "pki",
    "protocol",
    "python-api",
    "tutorial",
    "web",
)

_IMAGES: Final = ("web-fleet", "web-job", "web-market", "web-phone")

DOCUMENTS: Final = Recipe(
    name="stockworker-doc",
    summary="Documents of stockworker",
    description=(
        "A tutorial, and how to write handlers and use the Python API. How to operate\n"
        "a fleet, and how to set up certificates, sealed payloads, the\n"
        "broker and sites without a network. What the job types accept, every topic\n"
        "and message, and every log event. The package stockworker has the man pages\n"
        "and the document that its services name."
    ),
    files={
        "/usr/share/doc/stockworker/README.md": "README.md",
        "/usr/share/doc/stockworker/CHANGELOG.md": "CHANGELOG.md",
        "/usr/share/doc/stockworker/SECURITY.md": "SECURITY.md",
        **{f"/usr/share/doc/stockworker/{name}.md": f"docs/{name}.md" for name in _DOCUMENTS},
        **{f"/usr/share/doc/stockworker/images/{name}.png": f"docs/images/{name}.png" for name in _IMAGES},
        f"{_EXAMPLES}/stockworker.rules.yml": "etc/prometheus/stockworker.rules.yml",
        f"{_EXAMPLES}/stockworker.json": "etc/grafana/stockworker.json",
    },
    section="doc",
    standalone=True,
)

KEYRING: Final = Recipe(
    name="stockworker-archive-keyring",
    summary="Key of stockworker's package repository",
    description=(
        "The public key that signs the packages in stockworker's own repository. apt\n"
        "and dnf verify the packages with it. A new key arrives as a new version of\n"
        "this package, which the previous key has signed."
    ),
    files={},
    standalone=True,
)

PLACES: Final = {
    "deb": {
        "key": "/usr/share/keyrings/stockworker-archive-keyring.asc",
        "zsh": "/usr/share/zsh/vendor-completions/_stockworker",
    },
    "rpm": {
        "key": "/etc/pki/rpm-gpg/RPM-GPG-KEY-stockworker",
        "zsh": "/usr/share/zsh/site-functions/_stockworker",
    },
}
"""Files whose place differs between the two families of distributions."""

RECIPES: Final = (LIBRARIES, CORE, WORKER, DISPATCHER, WEB, MIGRATION, DOCTOR, BROKER, DOCUMENTS)
