"""The identity of this machine at the broker: the name in its certificate or its user name, and its role."""

from stockworker.adapters.tls import common_name
from stockworker.config import Config
from stockworker.errors import ConfigError
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.topics import Role
from stockworker.terminal.findings import Finding, fail


@dataclass(frozen=True, slots=True)
class Participant:
    """The identity of this machine at the broker."""

    name: str
    role: Role


def identify(config: Config, wanted: Role | None) -> Participant | Finding:
    """Determine the identity of this machine, or what is wrong with it.

    Args:
        config: has the ID of each role on this machine.
        wanted: the role to check; None takes the first role whose ID is the name in the certificate.
    """
    file = None if config.tls is None else config.tls.cert_file
    ids = {Role.DISPATCHER: config.dispatcher.id, Role.CLIENT: config.client.id, Role.WORKER: config.worker.id}
    if file is None:
        # Whether the broker lets a user name act for another ID depends on its access control list: `check` tests that.
        role = next((role for role, known in ids.items() if known == config.queue.mqtt.username), Role.CLIENT)
        role = wanted or role
        return Participant(str(ids[role]), role)
    try:
        name = common_name(file)
    except ConfigError as error:
        return fail("identity", str(error))
    considered = {role: known for role, known in ids.items() if wanted in {None, role}}
    roles = [role for role, known in considered.items() if known == name]
    if roles:
        return Participant(name, roles[0])
    if Role.CLIENT in considered and config.client.id is None:
        return Participant(name, Role.CLIENT)  # without `client.id`, the certificate names the client
    shown = ", ".join(f"{role}.id is {known!r}" for role, known in considered.items())
    text = f"{file} is the certificate of {name!r}, but {shown}; the broker will deny access to the topics of this ID"
    remedy = f"Or, if no other machine or service uses that certificate, set the ID to {name!r}"
    return fail("identity", f"{text}. Set tls.cert_file and tls.key_file to the certificate of this ID. {remedy}")
