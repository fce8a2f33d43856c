"""What each package is and has in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CODE: Final = "/usr/share/stockworker-code"
"""Where the code lives, and the libraries beside it: the same on every architecture, and not on anybody else's path.

Not /usr/share/stockworker: the package in it has that name too, and lintian objects to a path that repeats itself.
"""

FROM_DISTRIBUTION: Final = {
    "PyYAML": ("python3-yaml", "(python3-pyyaml or python3-PyYAML)"),
    "cryptography": ("python3-cryptography (>= 38)", "python3-cryptography >= 38"),
}
"""Dependencies of the code that the distribution has, and mends; as .deb and .rpm name them. The rest is vendored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One package.

    Attributes:
        name: of the package.
        summary: one line, without a full stop.
        description: a few sentences.
        files: source by target; a source that ends in a slash is a folder, and taken whole. What lies below /etc is
            configuration: an administrator's changes stay.
        folders: empty folders that belong to it.
        deb: what the .deb depends on, besides the same version of `stockworker`.
        rpm: the same of the .rpm.
        suggests: what it can use where it is installed.
        scripts: the folder of its maintainer scripts.
        words: what stands in them between at signs.
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
    words: Mapping[str, str] = field(default_factory=dict)


_UNITS: Final = "/usr/lib/systemd/system"

CORE: Final = Recipe(
    name="stockworker",
    summary="Job processing for fleets of Linux machines over MQTT",
    description=(
        "A dispatcher keeps jobs and decides who gets them; workers run them, and\n"
        "report even after days without a network; a Mosquitto broker is the wire\n"
        "between them. This package has the code and the command, with which jobs are\n"
        "submitted, watched and steered. The services are in packages of their own."
    ),
    files={
        "/usr/bin/stockworker": "packaging/stockworker",
        f"{CODE}/stockworker": "agent/stockworker/",
        f"{_UNITS}/stockworker.target": "systemd/stockworker.target",
        "/usr/lib/systemd/catalog/stockworker.catalog": "systemd/stockworker.catalog",
        "/etc/stockworker/job_processor.yml": "etc/stockworker/job_processor.yml",
        "/usr/share/man/man1/stockworker.1": "docs/man/stockworker.1",
        "/usr/share/doc/stockworker/configuration.md": "docs/configuration.md",
        "/usr/share/doc/stockworker/operations.md": "docs/operations.md",
        "/usr/share/doc/stockworker/packages.md": "docs/packages.md",
        "/usr/share/doc/stockworker/pki.md": "docs/pki.md",
        "/usr/share/doc/stockworker/protocol.md": "docs/protocol.md",
        "/usr/share/doc/stockworker/logging.md": "docs/logging.md",
        "/usr/share/doc/stockworker/README.md": "README.md",
    },
    folders=("/etc/stockworker/instances", "/etc/stockworker/job_processor.d", "/etc/stockworker/tls"),
    deb=("python3 (>= 3.11)", "util-linux (>= 2.21)"),
    rpm=("python3 >= 3.11", "util-linux"),
    suggests=("python3-psycopg", "python3-uvloop"),
    scripts="code",
)

AGENT: Final = Recipe(
    name="stockworker-agent",
    summary="Worker service of stockworker",
    description=(
        "Runs jobs on this machine, one service per worker: stockworker@1,\n"
        "stockworker@2. It starts when it is told to: systemctl enable --now\n"
        "stockworker@1."
    ),
    files={
        f"{_UNITS}/stockworker@.service": "systemd/stockworker@.service",
        f"{_UNITS}/stockworker@.path": "systemd/stockworker@.path",
        "/usr/lib/sysusers.d/stockworker-agent.conf": "systemd/sysusers.d/stockworker-agent.conf",
        "/usr/lib/tmpfiles.d/stockworker-agent.conf": "systemd/tmpfiles.d/stockworker-agent.conf",
        "/usr/share/doc/stockworker-agent/examples/encrypted-key.conf": "systemd/examples/encrypted-key.conf",
        "/usr/share/doc/stockworker-agent/examples/network.conf": "systemd/examples/network.conf",
    },
    deb=("systemd (>= 252)",),
    rpm=("systemd >= 252",),
    scripts="service",
    words={"UNIT": "stockworker@", "INSTANCES": "stockworker@*", "USER": "stockworker"},
)

DISPATCHER: Final = Recipe(
    name="stockworker-dispatcher",
    summary="Dispatcher service of stockworker",
    description=(
        "Keeps the jobs of a whole fleet and gives them to its workers: one per fleet.\n"
        "It starts when it is told to: systemctl enable --now stockworker-dispatcher."
    ),
    files={
        f"{_UNITS}/stockworker-dispatcher.service": "systemd/stockworker-dispatcher.service",
        f"{_UNITS}/stockworker-dispatcher.path": "systemd/stockworker-dispatcher.path",
        "/usr/lib/sysusers.d/stockworker-dispatcher.conf": "systemd/sysusers.d/stockworker-dispatcher.conf",
        "/usr/lib/tmpfiles.d/stockworker-dispatcher.conf": "systemd/tmpfiles.d/stockworker-dispatcher.conf",
        "/usr/share/doc/stockworker-dispatcher/examples/network.conf": "systemd/examples/network.conf",
    },
    deb=("systemd (>= 252)",),
    rpm=("systemd >= 252",),
    scripts="service",
    words={
        "UNIT": "stockworker-dispatcher",
        "INSTANCES": "stockworker-dispatcher",
        "USER": "stockworker-dispatcher",
    },
)

DROP_IN: Final = "systemd/mosquitto.service.d/stockworker.conf"

BROKER: Final = Recipe(
    name="stockworker-broker",
    summary="Mosquitto as the broker of stockworker",
    description=(
        "What 'stockworker broker setup' needs to make this machine's Mosquitto the\n"
        "broker of a fleet, and a drop-in that lets Mosquitto run as its own user from\n"
        "its start, and do nothing but its work."
    ),
    files={
        "/usr/share/stockworker-broker": "etc/mosquitto/",
        "/usr/share/doc/stockworker-broker/mosquitto.md": "docs/mosquitto.md",
        "/usr/share/doc/stockworker-broker/examples/network.conf": "systemd/examples/network.conf",
    },
    deb=("mosquitto (>= 2.0.11)", "systemd (>= 252)"),
    rpm=("mosquitto >= 2.0.11", "systemd >= 252"),
    scripts="broker",
)

KEYRING: Final = Recipe(
    name="stockworker-archive-keyring",
    summary="Key of stockworker's package repository",
    description=(
        "The public key that the packages of stockworker's own repository are signed\n"
        "with, for apt and dnf to tell them from others. A new key comes as a new\n"
        "version of this package, signed with the former one."
    ),
    files={},
)

PLACES: Final = {
    "deb": {
        # Below /etc, as the administrator's to edit: it is about a service that is not ours.
        DROP_IN: "/etc/systemd/system/mosquitto.service.d/stockworker.conf",
        "key": "/usr/share/keyrings/stockworker-archive-keyring.asc",
        "zsh": "/usr/share/zsh/vendor-completions/_stockworker",
    },
    "rpm": {
        DROP_IN: f"{_UNITS}/mosquitto.service.d/stockworker.conf",
        "key": "/etc/pki/rpm-gpg/RPM-GPG-KEY-stockworker",
        "zsh": "/usr/share/zsh/site-functions/_stockworker",
    },
}
"""What the two families of distributions keep at different places."""

RECIPES: Final = (CORE, AGENT, DISPATCHER, BROKER)
