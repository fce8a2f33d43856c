"""The access list of the broker, generated from `topics.TOPICS`: who may publish and read where.

A peer's user name is the common name of its certificate, which nobody can claim without the key. Three things follow
from how Mosquitto reads such a file (``man mosquitto.conf``, ``acl_file``), each of them held by the contract tests:

- Workers have their rights by ``pattern`` lines, ``%u`` being their own id: a new worker needs a certificate and no
  change here. Whoever holds a certificate and is not named below is a worker, and can be nothing else.
- ``pattern`` lines hold for everybody, so a client could play a worker of its own name and be given jobs. But the
  ``deny`` lines of a user are looked at before anything that allows: each user who is no worker is denied the topics
  that a worker of its name would have. Nothing is lost by it, because there is no worker of that name. So one
  certificate can't be a client's and a worker's at once, and an authority must not issue a worker's certificate in a
  name that is listed here. What a pattern allows without ``%u`` everybody may: to read the dispatcher's presence, and
  with `legacy_workers`, for workers and dispatchers, to publish on the parents (clients and operators are denied them).
- SUBSCRIBE is always granted. What may not be read is not delivered, silently.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Final

from stockworker.protocol.ids import check_id
from stockworker.protocol.topics import LEGACY_PARENTS, OWN_LEVEL, TOPICS, Role, Topic

_HEADER: Final = """\
# Who may publish and read what: generated from stockworker's table of topics. Don't edit it, but put in its place what
# this command prints, and reload Mosquitto (systemctl reload mosquitto):
#
#   stockworker acl --client NAME --operator NAME
#
# NAME is the common name of the client's certificate; both options may be repeated. A worker needs no line here: any
# certificate of the fleet's authority whose name is not listed below is a worker's, and %u stands for its id. Mosquitto
# warns of patterns without %u or %c when it starts; those that are here are meant so.
"""
_BROKER_STATE: Final = "$SYS/#"
_WORKERS_OWN: Final = OWN_LEVEL[Role.WORKER]
_ANY: Final = "+"


def acl(
    dispatchers: Sequence[str] = ("dispatcher",),
    operators: Sequence[str] = (),
    clients: Sequence[str] = (),
    bridges: Mapping[str, Sequence[str]] = MappingProxyType({}),
    *,
    legacy_workers: bool = False,
) -> str:
    """Make the text of Mosquitto's ``acl_file``.

    Args:
        dispatchers: user names of dispatchers.
        operators: user names of people and tools that may steer and watch everything, the broker's own state included.
        clients: user names of those who submit jobs and wait for them.
        bridges: user names of brokers that pass on to this one, each with the ids of the workers and clients that it
            may speak for; none means all, as this broker can't prove who is behind a bridge.
        legacy_workers: let workers publish ``workers/register`` and its like without their id as last level. The
            broker can't prove the sender there: any worker can speak for any other.

    Raises:
        ValueError: a name is no valid id, or is given twice.
    """
    users = [
        (name, role)
        for role, names in ((Role.DISPATCHER, dispatchers), (Role.OPERATOR, operators), (Role.CLIENT, clients))
        for name in names
    ]
    names = [check_id(name) for name in (*(name for name, _ in users), *bridges)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is given more than once: a name has one role")
    blocks = [_HEADER, _block("# workers", "pattern", _worker_rights(legacy=legacy_workers))]
    for name, role in users:
        rights = _user_rights(name, role, legacy=legacy_workers)
        blocks.append(_block(f"# {role}\nuser {name}", "topic", rights))
    for name, ids in bridges.items():
        rights = _bridge_rights(name, [check_id(each) for each in ids] or [_ANY], legacy=legacy_workers)
        blocks.append(_block(f"# bridge\nuser {name}", "topic", rights))
    return "\n".join(blocks)


def _block(head: str, keyword: str, rights: Iterator[tuple[str, str]]) -> str:
    return "\n".join((head, *(f"{keyword} {access} {topic}" for access, topic in rights), ""))


def _worker_rights(*, legacy: bool) -> Iterator[tuple[str, str]]:
    for topic in TOPICS:
        yield from _rights(topic, Role.WORKER, "%u")
    if legacy:
        yield from (("write", str(kind)) for kind in sorted(LEGACY_PARENTS))


def _no_worker(name: str) -> Iterator[tuple[str, str]]:
    return (("deny", topic.pattern(**{_WORKERS_OWN: name})) for topic in TOPICS if _WORKERS_OWN in topic.levels)


def _bridge_rights(name: str, ids: Sequence[str], *, legacy: bool) -> Iterator[tuple[str, str]]:
    """What the workers and clients behind a bridge have, without what goes by no id of theirs or what operators have."""
    yield from _no_worker(name)
    for topic in TOPICS:
        own = [OWN_LEVEL[role] for role in (Role.WORKER, Role.CLIENT) if OWN_LEVEL[role] in topic.levels]
        access = _access(topic, {Role.WORKER, Role.CLIENT})
        if access is not None and not topic.to_self:
            yield from dict.fromkeys((access, topic.pattern(**dict.fromkeys(own, each))) for each in ids)
    if legacy:
        yield from (("deny", str(kind)) for kind in sorted(LEGACY_PARENTS))


def _user_rights(name: str, role: Role, *, legacy: bool) -> Iterator[tuple[str, str]]:
    yield from _no_worker(name)
    for topic in TOPICS:
        yield from _rights(topic, role, name)
    if legacy:
        access = "read" if role is Role.DISPATCHER else "deny"
        yield from ((access, str(kind)) for kind in sorted(LEGACY_PARENTS))
    if role is Role.OPERATOR:
        yield "read", _BROKER_STATE


def _rights(topic: Topic, role: Role, name: str) -> Iterator[tuple[str, str]]:
    own = {OWN_LEVEL[role]: name} if role in OWN_LEVEL else {}
    access = _access(topic, {role})
    if access is not None:
        yield access, topic.pattern(**own)


def _access(topic: Topic, roles: AbstractSet[Role]) -> str | None:
    return {
        (True, True): "readwrite",
        (True, False): "write",
        (False, True): "read",
    }.get((bool(roles & topic.publishers), bool(roles & topic.subscribers)))
