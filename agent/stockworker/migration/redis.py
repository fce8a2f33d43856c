"""A source in Redis or Valkey: lists, and sorted sets of delayed jobs."""

# An old worker pops an entry from its list. So a claim takes the entry from the list and stores it in keys of its own, in one
# script: Redis runs no other command meanwhile, and a client that is killed has run all of the script or nothing. The own keys:
#
#     stockworker:migration:<name>:records       a hash: token → claim ID, where the entry was, and the entry
#     stockworker:migration:<name>:claimed       a sorted set of tokens in the order of their claims; so are `moved`, `returning`
#     stockworker:migration:<name>:sequence      the number of claims
#
# `<name>` is a digest of the names of the old keys. A token is a digest of the entry, with a number that distinguishes equal
# entries. A claim ID is random, so equal entries are two records, and two jobs if the entry has no ID of its own. Both stay
# with the entry from its claim until it returns to its list.
#
# What a script has done is on the server's disk when the server writes it there. A server without an append-only file that
# loses its power may return to an older state. Then an entry can be pending again although its job is stored. A job whose
# ID comes from the entry is the same job then; one with a claim ID as its ID is stored a second time.

import hashlib
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

from stockworker.errors import ConfigError
from stockworker.migration.address import SourceAddress
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.source import (
    Container,
    Found,
    Position,
    Raw,
    Record,
    SourceFailed,
    SourcePage,
    SourceToken,
    Standing,
)
from stockworker.protocol.frozen import dataclass

_Server = Any  # a `redis.Redis`, whose annotations also describe its asynchronous twin

SAMPLES: Final = 20
"""Entries of a key that `--inspect` looks at."""

MOST_KEYS: Final = 20_000
"""Keys of a database that `--inspect` looks at. A cache may have millions."""

USUAL: Final = (b"celery", b"jobs", b"queue", b"queues:default", b"rq:queue:default", b"tasks")
"""Keys that `--inspect` looks at in any case."""

SETTINGS: Final = ("delayed", "running", "more", "hash", "takes")
"""What a mapping can set. In the names of keys, `{key}` is a key of the mapping, and `{name}` is its part after the last colon.

`delayed` and `more` are further keys with jobs, separated by blanks; `running` are keys whose entries old workers have. `hash` names
the hash of each entry, which `{value}` is. `takes` is the end of a list from which old workers take: left or right.
"""

_OWN: Final = "stockworker:migration"
_CHUNK: Final = 500
_SCANNED: Final = 1000
_QUEUES: Final = (b"list", b"zset")
_OWN_STANDINGS: Final = (Standing.CLAIMED, Standing.MOVED, Standing.RETURNING)
_TIMEOUT_S: Final = 30.0

# KEYS: records, index, sequence, then the old keys. ARGV: the end from which old workers take, then for each entry its token, its
# claim ID, the number of its key, its score or an empty text, and the entry. Returns the tokens.
_CLAIM: Final = """
local claimed = {}
for i = 2, #ARGV, 5 do
  local token, key, score, entry = ARGV[i], KEYS[3 + ARGV[i + 2]], ARGV[i + 3], ARGV[i + 4]
  local taken = 0
  if redis.call('HEXISTS', KEYS[1], token) == 0 then
    if score == '' then
      taken = redis.call('LREM', key, ARGV[1] == 'left' and 1 or -1, entry)
    else
      taken = redis.call('ZREM', key, entry)
    end
  end
  if taken == 1 then
    redis.call('HSET', KEYS[1], token, ARGV[i + 1] .. ' ' .. #key .. ' ' .. score .. ' ' .. key .. entry)
    redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), token)
    claimed[#claimed + 1] = token
  end
end
return claimed
"""

# KEYS: records, index before, index after. ARGV: whether to forget them, then tokens.
_SHIFT: Final = """
local shifted = {}
for i = 2, #ARGV do
  local place = redis.call('ZSCORE', KEYS[2], ARGV[i])
  if place then
    redis.call('ZREM', KEYS[2], ARGV[i])
    if ARGV[1] == '1' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('ZADD', KEYS[3], place, ARGV[i])
    end
    shifted[#shifted + 1] = ARGV[i]
  end
end
return shifted
"""

# KEYS: records, index. ARGV: the end from which old workers take, then tokens. The keys of the entries are in the records.
_RETURN: Final = """
local shifted = {}
for i = 2, #ARGV do
  local record = redis.call('HGET', KEYS[1], ARGV[i])
  if record and redis.call('ZREM', KEYS[2], ARGV[i]) == 1 then
    local length, score, rest = string.match(record, '^%S+ (%d+) (%S*) (.*)$')
    local key, entry = string.sub(rest, 1, tonumber(length)), string.sub(rest, tonumber(length) + 1)
    if score == '' then
      redis.call(ARGV[1] == 'left' and 'RPUSH' or 'LPUSH', key, entry)
    else
      redis.call('ZADD', key, score, entry)
    end
    redis.call('HDEL', KEYS[1], ARGV[i])
    shifted[#shifted + 1] = ARGV[i]
  end
end
return shifted
"""


@dataclass(frozen=True, slots=True)
class OldEntry:
    """An entry of an old key.

    Attributes:
        key: the name of the key.
        score: of a sorted set, as Redis writes it; empty in a list.
        value: the entry.
        claim_id: see the head of this module.
    """

    key: bytes
    score: bytes
    value: bytes
    claim_id: str

    @property
    def digest(self) -> str:
        """The same for equal entries."""
        return hashlib.sha256(b"%d %s %s" % (len(self.key), self.key, self.value)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class OldKeys:
    """The old keys of a mapping: those with jobs, and those whose entries old workers have."""

    waiting: tuple[str, ...]
    running: tuple[str, ...]
    hash: str | None
    takes: str


def keys_of(mapping: SourceMapping) -> OldKeys:
    """The keys that a mapping names, with those that its settings derive from them.

    Raises:
        ConfigError: the mapping is not one for Redis.
    """
    if mapping.kind != "key":
        raise ConfigError("the mapping must name keys of Redis, such as 'key: queues:default'")
    if mapping.standings:
        raise ConfigError(
            "'standings' is not for Redis: the key of an entry shows its owner. Remove it from the mapping"
        )
    for name in mapping.settings:
        if name not in SETTINGS:
            raise ConfigError(f"settings.{name} is not a setting of Redis; it has {', '.join(SETTINGS)}")
    takes = mapping.settings.get("takes", "left")
    if takes not in {"left", "right"}:
        raise ConfigError(f"settings.takes must be left or right, not {takes[:40]!r}")

    def derived(setting: str) -> list[str]:
        patterns = mapping.settings.get(setting, "").split(" ")
        return [
            pattern.replace("{key}", key).replace("{name}", key.rpartition(":")[2])
            for key in mapping.containers
            for pattern in patterns
            if pattern
        ]

    waiting = (*mapping.containers, *derived("more"), *derived("delayed"))
    return OldKeys(
        tuple(dict.fromkeys(waiting)), tuple(dict.fromkeys(derived("running"))), mapping.settings.get("hash"), takes
    )


class RedisSource:
    """Lists and sorted sets. See `Source`."""

    def __init__(self, server: _Server, shown: str, mapping: SourceMapping, *, read_only: bool) -> None:
        self._server = server
        self._keys = keys_of(mapping)
        self._names = [each.encode() for each in self._keys.waiting]
        self._deletes = mapping.deletes
        self.shown = f"{shown} key {', '.join(mapping.containers)}"
        digest = hashlib.sha256("\n".join(mapping.containers).encode()).hexdigest()[:12]
        self._own = f"{_OWN}:{digest}"
        self._records = f"{self._own}:records".encode()
        self._read: dict[str, OldEntry] = {}
        self._taken = dict.fromkeys(self._names, 0)
        with self._reported():
            self.identity = mapping.name or f"redis:{self._id(read_only=read_only)}/{','.join(mapping.containers)}"
        self._claim, self._shift, self._return = map(server.register_script, (_CLAIM, _SHIFT, _RETURN))

    def _id(self, *, read_only: bool) -> str:
        """The identity of this database, which a copy of its data has, too."""
        name = f"{_OWN}:identity"
        if not read_only:
            self._server.set(name, secrets.token_hex(12), nx=True)
        found = self._server.get(name)
        return found.decode() if isinstance(found, bytes) else "not yet known"

    def page(self, standing: Standing, after: Position | None, limit: int) -> SourcePage:
        """See `Source`."""
        with self._reported():
            if standing is Standing.PENDING:
                return self._pending(after, limit)
            if standing in _OWN_STANDINGS:
                return self._recorded(standing, after, limit)
        return SourcePage(())

    def _pending(self, after: Position | None, limit: int) -> SourcePage:
        """Entries that arrive during a pass, such as those that return, belong to the next one: a pass has an end."""
        self._read.clear()
        first, start, taken, left = (int(each) for each in str(after or "0:0:0:-1").split(":"))
        for place in range(first, len(self._names)):
            name = self._names[place]
            if place != first or left < 0:
                start, taken, left = 0, self._taken[name], self._size(name)
            start = max(0, start - self._taken[name] + taken)
            entries = self._entries(name, start, min(limit, left)) if left else []
            if entries:
                self._read = self._tokens(entries)
                found = [as_found(token, entry) for token, entry in self._read.items()]
                place_after = (place, start + len(entries), self._taken[name], left - len(entries))
                return SourcePage(self._filled(found), ":".join(map(str, place_after)))
        return SourcePage(())

    def _tokens(self, entries: Sequence[OldEntry]) -> dict[str, OldEntry]:
        """Tokens that no other entry has: neither one of these, nor one that is claimed, moved or returning."""
        tokens: dict[str, OldEntry] = {}
        missing = list(entries)
        number = 0
        while missing:
            wanted = [f"{each.digest}-{number}" for each in missing]
            known = self._server.hmget(self._records, wanted)
            others = []
            for token, entry, record in zip(wanted, missing, known, strict=True):
                if record is not None or token in tokens:
                    others.append(entry)
                else:
                    tokens[token] = entry
            missing = others
            number += 1
        return tokens

    def _entries(self, name: bytes, start: int, limit: int) -> list[OldEntry]:
        """The entries of an old key in the order in which old workers take them."""
        last = start + limit - 1
        if self._server.type(name) == b"zset":
            scored = self._server.zrange(name, start, last, withscores=True, score_cast_func=_score)
            return [OldEntry(name, score, value, claim_id()) for value, score in scored]
        if self._keys.takes == "left":
            values = self._server.lrange(name, start, last)
        else:
            values = self._server.lrange(name, -last - 1, -start - 1)[::-1]
        return [OldEntry(name, b"", value, claim_id()) for value in values]

    def _size(self, name: bytes) -> int:
        """The number of entries of an old key."""
        kind = self._server.type(name)
        if kind not in {b"list", b"zset", b"none"}:
            raise SourceFailed(
                f"{self.shown}: {name.decode()} is a {kind.decode()}, not a list or a sorted set. Name another key"
            )
        return size_of(self._server, name)

    def _recorded(self, standing: Standing, after: Position | None, limit: int) -> SourcePage:
        least = "-inf" if after is None else f"({after}"
        listed = self._server.zrangebyscore(self._index(standing), least, "+inf", start=0, num=limit, withscores=True)
        if not listed:
            return SourcePage(())
        values = self._server.hmget(self._records, [token for token, _ in listed])
        found = [
            as_found(token.decode(), parse_entry(value))
            for (token, _), value in zip(listed, values, strict=True)
            if value is not None
        ]
        return SourcePage(self._filled(found), int(listed[-1][1]) if len(listed) == limit else None)

    def _filled(self, found: Sequence[Found]) -> tuple[Found, ...]:
        """With the fields of the hash that each entry names, if the mapping has one."""
        pattern = self._keys.hash
        if pattern is None:
            return tuple(found)
        pipeline = self._server.pipeline(transaction=False)
        for each in found:
            pipeline.hgetall(hash_of(pattern, each.record["value"]))
        return tuple(
            Found(
                each.token, {**{name.decode(errors="replace"): value for name, value in fields.items()}, **each.record}
            )
            for each, fields in zip(found, pipeline.execute(), strict=True)
        )

    def shift(self, tokens: Collection[SourceToken], before: Standing, after: Standing) -> Collection[SourceToken]:
        """See `Source`."""
        shifted: list[SourceToken] = []
        wanted = list(tokens)
        with self._reported():
            for start in range(0, len(wanted), _CHUNK):
                some = wanted[start : start + _CHUNK]
                if before is Standing.PENDING:
                    done = self._claimed(some)
                elif after is Standing.PENDING:
                    done = self._return(keys=[self._records, self._index(before)], args=[self._keys.takes, *some])
                else:
                    done = self._shifted(some, before, after)
                shifted += [each.decode() for each in done]
        return shifted

    def _claimed(self, tokens: Sequence[SourceToken]) -> list[bytes]:
        entries = {str(token): self._read[str(token)] for token in tokens if token in self._read}
        arguments: list[Any] = [self._keys.takes]
        for token, entry in entries.items():
            arguments += [token, entry.claim_id, self._names.index(entry.key) + 1, entry.score, entry.value]
        keys = [self._records, self._index(Standing.CLAIMED), f"{self._own}:sequence".encode(), *self._names]
        claimed: list[bytes] = self._claim(keys=keys, args=arguments)
        for each in claimed:
            self._taken[self._read.pop(each.decode()).key] += 1
        return claimed

    def _shifted(self, tokens: Sequence[SourceToken], before: Standing, after: Standing) -> list[bytes]:
        forgets = after is Standing.MOVED and self._deletes
        named: list[bytes] = []
        if forgets and self._keys.hash is not None:
            values = self._server.hmget(self._records, tokens)
            named = [hash_of(self._keys.hash, parse_entry(value).value) for value in values if value is not None]
        shifted: list[bytes] = self._shift(
            keys=[self._records, self._index(before), self._index(after)], args=[int(forgets), *tokens]
        )
        if named:
            self._server.unlink(*named)
        return shifted

    def counts(self) -> Mapping[Standing, int]:
        """See `Source`."""
        with self._reported():
            own = {each: self._server.zcard(self._index(each)) for each in _OWN_STANDINGS}
            if self._deletes:
                del own[Standing.MOVED]
            running = {Standing.RUNNING: self._sizes(self._keys.running)} if self._keys.running else {}
            return {Standing.PENDING: self._sizes(self._keys.waiting), **own, **running}

    def _sizes(self, names: Sequence[str]) -> int:
        return sum(size_of(self._server, name.encode()) for name in names)

    def close(self) -> None:
        """See `Source`."""
        self._server.close()

    def _index(self, standing: Standing) -> bytes:
        return f"{self._own}:{standing}".encode()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        from redis.exceptions import RedisError  # noqa: PLC0415 (the library is optional)

        try:
            yield
        except RedisError as error:
            raise SourceFailed(f"{self.shown}: {' '.join(str(error).split())}") from error


def _score(value: Any) -> bytes:
    """As text, in which nothing is lost. Newer versions of the protocol have numbers."""
    return value if isinstance(value, bytes) else repr(float(value)).encode()


def claim_id() -> str:
    """A new claim ID."""
    return secrets.token_hex(12)


def parse_entry(record: bytes) -> OldEntry:
    """What `_CLAIM` has stored."""
    claimed_as, length, score, rest = record.split(b" ", 3)
    return OldEntry(rest[: int(length)], score, rest[int(length) :], claimed_as.decode())


def as_found(token: str, entry: OldEntry) -> Found:
    """An entry as a record."""
    record: dict[str, Raw] = {
        "claim_id": entry.claim_id,
        "key": entry.key.decode(errors="replace"),
        "score": float(entry.score) if entry.score else None,
        "value": entry.value,
    }
    return Found(token, record)


def hash_of(pattern: str, value: bytes) -> bytes:
    """The name of the hash with the fields of an entry."""
    return pattern.encode().replace(b"{value}", value)


def size_of(server: _Server, name: bytes) -> int:
    """The number of entries of a key."""
    counted = {b"list": server.llen, b"zset": server.zcard, b"hash": server.hlen, b"set": server.scard}
    count = counted.get(server.type(name))
    return 0 if count is None else int(count(name))


def connected(address: SourceAddress) -> _Server:
    """A connection to the server of an address."""
    from redis import Redis  # noqa: PLC0415 (the library is optional)

    number = address.path.strip("/")
    if address.scheme != "unix" and number and not number.isdecimal():
        raise ConfigError(f"SOURCE: {address.shown}: the path must be the number of a database, such as /0")
    common: dict[str, Any] = {
        "username": address.user or None,
        "password": address.password,
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _TIMEOUT_S,
    }
    if address.scheme == "unix":
        return Redis(unix_socket_path=address.path, db=int(address.options.get("db", "0")), **common)
    if address.scheme in {"rediss", "valkeys"}:
        common |= {"ssl": True, "ssl_ca_certs": address.options.get("ssl_ca_certs")}
    return Redis(host=address.host or "localhost", port=address.port or 6379, db=int(number or "0"), **common)


def open_source(address: SourceAddress, mapping: SourceMapping, *, read_only: bool) -> RedisSource:
    """Open the keys that a mapping names."""
    server = connected(address)
    try:
        return RedisSource(server, address.shown, mapping, read_only=read_only)
    except BaseException:
        server.close()
        raise


def survey(address: SourceAddress) -> list[Container]:
    """The lists and sorted sets that the address names with `?key=NAME`; otherwise the usual ones, and those among `MOST_KEYS` keys."""
    from redis.exceptions import RedisError  # noqa: PLC0415 (the library is optional)

    named = [each.encode() for each in address.options.get("key", "").split(",") if each]
    server = connected(address)
    try:
        note = "" if named else left_out(server.dbsize())
        names = named or [*USUAL, *islice(server.scan_iter(count=_SCANNED), MOST_KEYS)]
        found = [_container(server, name, kind, note) for name, kind in queues_among(server, names)]
    except RedisError as error:
        raise SourceFailed(f"{address.shown}: {' '.join(str(error).split())}") from error
    finally:
        server.close()
    if note and not found:
        raise SourceFailed(f"{address.shown}: no list and no sorted set was found: {note}")
    return found


def left_out(keys: int) -> str:
    """What `--inspect` has not looked at, given the number of its keys; an empty text if nothing."""
    if keys <= MOST_KEYS:
        return ""
    return (
        f"the database has {keys} keys, and --inspect looks at {MOST_KEYS} of them and at keys with usual names. Name others after "
        "the address, such as ?key=jobs"
    )


def queues_among(server: _Server, names: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Those names that are lists or sorted sets, in their order, with their type. Not the keys of this program."""
    others = sorted({name for name in names if not name.startswith(_OWN.encode())})
    for start in range(0, len(others), _SCANNED):
        some = others[start : start + _SCANNED]
        pipeline = server.pipeline(transaction=False)
        for name in some:
            pipeline.type(name)
        yield from ((name, kind) for name, kind in zip(some, pipeline.execute(), strict=True) if kind in _QUEUES)


def _container(server: _Server, name: bytes, kind: bytes, note: str) -> Container:
    shown = name.decode(errors="replace")
    if kind == b"list":
        entries = [(value, None) for value in server.lrange(name, 0, SAMPLES - 1)]
    else:
        entries = server.zrange(name, 0, SAMPLES - 1, withscores=True)
    samples: list[Record] = [{"key": shown, "score": score, "value": value} for value, score in entries]
    return Container("key", shown, tuple(samples), size_of(server, name), note)
