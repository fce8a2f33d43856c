"""Mosquitto's configuration for each place that a broker may have in a fleet. Pure but for reading the parts.

The parts are files beside this module, written in Mosquitto's language and filled in by `string.Template`; the profiles
share them, so that a line and its reason exist once.
"""

from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from string import Template
from typing import Final

from stockworker.protocol.ids import check_id
from stockworker.protocol.topics import TOPICS, Role, Topic

TLS_PORT: Final = 8883
PLAIN_PORT: Final = 1883
LOOPBACK: Final = "127.0.0.1"


class Profile(StrEnum):
    """The place of a broker."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"
    WAN = "wan"
    BRIDGE = "bridge"


_PARTS: Final = {
    Profile.PRODUCTION: ("speed", "limits", "persistence", "access", "tls", "certificates"),
    Profile.DEVELOPMENT: ("speed", "limits", "loopback"),
    Profile.WAN: ("speed", "limits_wan", "persistence", "access", "tls", "certificates", "tls_wan"),
    Profile.BRIDGE: ("speed", "limits_wan", "persistence", "access", "tls", "certificates", "tls_wan", "bridge"),
}

_MEANINGS: Final = {
    Profile.PRODUCTION: "a broker in the network of its workers",
    Profile.DEVELOPMENT: "a broker for this machine alone, without certificates: to try things out",
    Profile.WAN: "a broker whose workers come over the internet, mobile and metered links",
    Profile.BRIDGE: "the broker of a site, which passes on to a central one",
}

_HEADER: Final = """\
# Mosquitto 2.0.11 or newer as the broker of stockworker: {meaning}.
# Made by `stockworker broker` for the profile {profile}: make it anew rather than edit it, and put lines of your own
# into another file. Belongs into /etc/mosquitto/conf.d/, beside the distribution's own mosquitto.conf (which sets pid_file
# and persistence_location; Mosquitto refuses them twice). Mosquitto knows no comments at the end of a line.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where the broker's own files are, as the configuration names them.

    With `passwords` clients prove who they are by what that file says; without, by their certificates.
    """

    acl: str = "/etc/mosquitto/stockworker/acl"
    ca: str = "/etc/mosquitto/stockworker/ca.crt"
    cert: str = "/etc/mosquitto/stockworker/broker.crt"
    key: str = "/etc/mosquitto/stockworker/broker.key"
    crl: str = "/etc/mosquitto/stockworker/crl.pem"
    passwords: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """The way to the central broker.

    Attributes:
        name: of this site: the common name of the bridge's certificate.
        central: host name or address of the central broker, and its port behind a colon.
        client_id: at the central broker; nobody else may know it.
        ca, cert, key: files with the central broker's authority, and the bridge's certificate and private key.
    """

    name: str
    central: str
    client_id: str
    ca: str = "/etc/mosquitto/stockworker/ca.crt"
    cert: str = "/etc/mosquitto/stockworker/bridge.crt"
    key: str = "/etc/mosquitto/stockworker/bridge.key"


def broker_config(profile: Profile, listener: str, paths: Files, bridge: Bridge | None = None) -> str:
    """Make the text of a file for ``/etc/mosquitto/conf.d/``.

    Args:
        profile: the place of the broker.
        listener: its port, and after a space the address to listen on; every address without one.
        paths: the broker's own files.
        bridge: the way to the central broker, for `Profile.BRIDGE` alone.

    Raises:
        ValueError: a value can't stand in Mosquitto's configuration, or the profile does not fit to `bridge` or to
            passwords.
    """
    if (bridge is not None) != (profile is Profile.BRIDGE):
        raise ValueError("the profile 'bridge', and no other, needs to know the central broker")
    values = {
        "LISTENER": listener,
        "ACL_FILE": paths.acl,
        "CA_FILE": paths.ca,
        "CERT_FILE": paths.cert,
        "KEY_FILE": paths.key,
        "CRL_FILE": paths.crl,
    }
    names = _PARTS[profile]
    if paths.passwords is not None:
        if profile is Profile.DEVELOPMENT:
            raise ValueError("the profile 'development' lets everybody in: it has no use for passwords")
        values["PASSWORD_FILE"] = paths.passwords
        names = tuple("passwords" if name == "certificates" else name for name in names)
    if bridge is not None:
        values |= {
            "NAME": check_id(bridge.name),
            "CENTRAL": bridge.central,
            "CLIENT_ID": check_id(bridge.client_id),
            "CENTRAL_CA_FILE": bridge.ca,
            "BRIDGE_CERT_FILE": bridge.cert,
            "BRIDGE_KEY_FILE": bridge.key,
        }
    for value in values.values():
        if not value or not value.isprintable() or value != value.strip():
            raise ValueError(f"{value[:80]!r} can't stand in Mosquitto's configuration: one line, no spaces around it")
    values["TOPICS"] = "\n".join(bridge_topics())
    parts = [_HEADER.format(meaning=_MEANINGS[profile], profile=profile)]
    parts += [Template(_part(name)).substitute(values) for name in names]
    return "\n".join(parts)


def bridge_topics() -> list[str]:
    """The ``topic`` lines of a bridge: what workers and clients say goes out, what they hear comes in."""
    return [f"topic {topic.pattern()} {_direction(topic)} {topic.qos}" for topic in TOPICS if _crosses(topic)]


def _crosses(topic: Topic) -> bool:
    return not topic.to_self and bool({Role.WORKER, Role.CLIENT} & (topic.publishers | topic.subscribers))


def _direction(topic: Topic) -> str:
    said = bool({Role.WORKER, Role.CLIENT} & topic.publishers)
    heard = bool({Role.WORKER, Role.CLIENT} & topic.subscribers)
    return "both" if said and heard else "out" if said else "in"


def sample(profile: Profile) -> str:
    """The page ``etc/mosquitto/<profile>.conf``: with the files where they usually are."""
    if profile is Profile.DEVELOPMENT:
        return broker_config(profile, f"{PLAIN_PORT} {LOOPBACK}", Files())
    bridge = Bridge(name="site-1", central="broker.example.org:8883", client_id="site-1-TAKE-A-SECRET-OF-YOUR-OWN")
    return broker_config(profile, str(TLS_PORT), Files(), bridge if profile is Profile.BRIDGE else None)


def _part(name: str) -> str:
    return files("stockworker.broker").joinpath("parts", f"{name}.conf").read_text(encoding="utf-8")
