"""The access control list of the broker, generated from `topics.TOPICS`: who may publish and read which topic."""

# The user name of a client is the common name of its certificate, so no client can use a name without its private key.
# Mosquitto's rules for this file (``man mosquitto.conf``, ``acl_file``) have four consequences. Contract tests check
# each:
#
# - Workers get their rights from ``pattern`` lines, in which ``%u`` is their own ID. So a new worker needs a
#   certificate, but no change of this file. Every certificate whose name is not listed belongs to a worker.
# - ``pattern`` lines apply to all users. So a client could act as a worker of its own name, and receive jobs. But
#   Mosquitto checks the ``deny`` lines of a user before all lines that allow. So each listed user is denied the topics
#   of a worker of the same name. This takes nothing away, because no worker may have that name: one certificate can't
#   be a client's and a worker's, and an authority must not issue a worker's certificate for a listed name. A pattern
#   without ``%u`` allows all users the same: to read the dispatcher's presence and, with `legacy_workers`, to publish
#   on the parent topics (clients and operators are denied these).
# - A listed user that is not listed any longer would have the rights of a worker, although its certificate is still
#   valid. So its name stays in the file, and is denied everything.
# - SUBSCRIBE always succeeds. Messages that a client may not read are silently not delivered.

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from stockworker.pki.access_list import REMOVED
from stockworker.protocol.ids import DEFAULT_DISPATCHER, check_id
from stockworker.protocol.topics import (
    BY_KIND,
    DROPPED_BY_BROKER,
    LEGACY_PARENTS,
    OWN_LEVEL,
    TOPICS,
    Role,
    Topic,
    TopicKind,
)

_HEADER: Final = """\
# Access control list: who may publish and read which topic. Generated from stockworker's table of topics. Do not edit
# it: replace it with the output of this command, and reload Mosquitto (systemctl reload mosquitto):
#
#   stockworker acl --client NAME --operator NAME --in-force FILE
#
# NAME is the common name of a client's certificate; both options may be repeated. Workers are not listed: every other
# certificate of the fleet's authority belongs to a worker, and %u is its ID. FILE is this file: names in it that are not
# listed any longer stay, without any rights. At start, Mosquitto warns about patterns
# without %u or %c; the ones in this file are intended.
"""
_BROKER_STATE: Final = "$SYS/#"
_TRACER_RIGHTS: Final = ((TopicKind.QUEUE, "write"), (TopicKind.RECEIPT, "read"), (TopicKind.NOTICE, "read"))
"""With these, the dispatcher submits tracers under its own name, and reads what becomes of them."""

_WORKERS_OWN: Final = OWN_LEVEL[Role.WORKER]
_ANY: Final = "+"


def acl(
    dispatchers: Sequence[str] = (DEFAULT_DISPATCHER,),
    operators: Sequence[str] = (),
    clients: Sequence[str] = (),
    bridges: Mapping[str, Sequence[str]] = MappingProxyType({}),
    *,
    removed: Iterable[str] = (),
    legacy_workers: bool = False,
) -> str:
    """Generate the text of Mosquitto's ``acl_file``.

    Args:
        dispatchers: user names of dispatchers.
        operators: user names of people and tools that may control and watch everything, including the broker's state.
        clients: user names of clients that submit jobs and wait for them.
        bridges: user names of site brokers that forward to this broker, each with the IDs of its workers and clients.
            No IDs means all, because this broker can't verify senders behind a bridge.
        removed: user names that were listed before, or may have been. Those that have a role now are ignored.
        legacy_workers: let workers publish ``workers/register`` and similar topics without their ID as last level. The
            broker can't verify the sender there: every worker can impersonate every other one.

    Raises:
        ValueError: a name is not a valid ID, or is given twice.
    """
    users = [
        (name, role)
        for role, names in ((Role.DISPATCHER, dispatchers), (Role.OPERATOR, operators), (Role.CLIENT, clients))
        for name in names
    ]
    names = [check_id(name) for name in (*(name for name, _ in users), *bridges)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is given more than once; a name has only one role")
    blocks = [_HEADER, _block("# workers", "pattern", _worker_rights(legacy=legacy_workers))]
    for name, role in users:
        rights = _user_rights(name, role, legacy=legacy_workers)
        blocks.append(_block(f"# {role}\nuser {name}", "topic", rights))
    for name, ids in bridges.items():
        rights = _bridge_rights(name, [check_id(each) for each in ids] or [_ANY], legacy=legacy_workers)
        blocks.append(_block(f"# bridge\nuser {name}", "topic", rights))
    former = sorted({check_id(name) for name in removed} - {*names})
    blocks += [_block(f"# {REMOVED}\nuser {name}", "topic", iter([("deny", "#")])) for name in former]
    return "\n".join(blocks)


def _block(head: str, keyword: str, rights: Iterator[tuple[str, str]]) -> str:
    return "\n".join((head, *(f"{keyword} {access} {topic}" for access, topic in rights), ""))


def _worker_rights(*, legacy: bool) -> Iterator[tuple[str, str]]:
    yield from _rights((Role.WORKER, "%u"))
    if legacy:
        yield from (("write", str(kind)) for kind in sorted(LEGACY_PARENTS))


def _no_worker(name: str) -> Iterator[tuple[str, str]]:
    for topic in TOPICS:
        if _WORKERS_OWN in topic.levels:
            yield from (("deny", each) for each in topic.patterns(**{_WORKERS_OWN: name}))


def _bridge_rights(name: str, ids: Sequence[str], *, legacy: bool) -> Iterator[tuple[str, str]]:
    """The rights of the workers and clients behind a bridge, as far as the topics contain their IDs."""
    yield from _no_worker(name)
    yield from _rights(*((role, each) for each in ids for role in (Role.WORKER, Role.CLIENT)), forwarded=True)
    if legacy:
        yield from (("deny", str(kind)) for kind in sorted(LEGACY_PARENTS))


def _user_rights(name: str, role: Role, *, legacy: bool) -> Iterator[tuple[str, str]]:
    yield from _no_worker(name)
    yield from _rights((role, name))
    if legacy:
        access = "read" if role is Role.DISPATCHER else "deny"
        yield from ((access, str(kind)) for kind in sorted(LEGACY_PARENTS))
    if role is Role.OPERATOR:
        yield "read", _BROKER_STATE
    if role is Role.DISPATCHER:
        yield from ((access, BY_KIND[kind].pattern(client_id=name)) for kind, access in _TRACER_RIGHTS)
        yield "read", DROPPED_BY_BROKER


def _rights(*peers: tuple[Role, str], forwarded: bool = False) -> Iterator[tuple[str, str]]:
    """The rights of these peers together: the role of each, and its ID. A bridge forwards no message to its sender."""
    for topic in TOPICS:
        rights: dict[str, set[str]] = {}
        for role, name in peers:
            for access, pattern in _rights_of_one(topic, role, name):
                rights.setdefault(pattern, set()).add(access)
        if not (forwarded and topic.to_self):
            yield from (("readwrite" if len(found) > 1 else found.pop(), pattern) for pattern, found in rights.items())


def _rights_of_one(topic: Topic, role: Role, name: str) -> Iterator[tuple[str, str]]:
    own = {OWN_LEVEL[role]: name}
    if role in topic.publishers:
        yield from (("write", pattern) for pattern in topic.patterns(**own))
    if role in topic.subscribers:
        yield from (("read", pattern) for pattern in topic.patterns(**own))
    if role in topic.watchers:
        yield from (("read", pattern) for pattern in topic.patterns())
