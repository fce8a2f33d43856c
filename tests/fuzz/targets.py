"""The parsers of untrusted bytes, and what each of them promises."""

import gzip
import io
import json
import pickle
import re
import tempfile
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from stockworker import config
from stockworker.adapters import compression, http
from stockworker.adapters.http_hosts import Hosts, read_host, read_network
from stockworker.adapters.mqtt_packets import BadPacket, PacketReader, UnreadableMessage, read_properties, read_publish
from stockworker.config.reader import key_paths
from stockworker.errors import ConfigError, DecodeError, SealRefused
from stockworker.market.bar_formats import Expected, UnreadableBars, parse_bars, tomorrow
from stockworker.market.bars import check_bar
from stockworker.market.json_records import LONGEST_RECORD, NotRecords, read_records
from stockworker.market.source_format import PROFILES, read_format
from stockworker.migration.decoding import Refused, job_id
from stockworker.migration.decoding import decode as decode_record
from stockworker.migration.mapping_file import preset_names, read_mapping
from stockworker.migration.serialized import UnsafeData, celery_message, rq_job
from stockworker.migration.source import Found, Record
from stockworker.migration.topics import matches, topic_record
from stockworker.protocol.codec import decode, encode
from stockworker.protocol.fields import FieldError, parse_json
from stockworker.protocol.ids import ClientId
from stockworker.protocol.messages import Submit
from stockworker.protocol.sealed import find, without_sealed
from stockworker.sealing import keyring
from stockworker.sealing.envelope import Refusal, read_answer, read_job
from stockworker.sealing.keys import KeyFile, OpeningKey, SigningKey
from stockworker.worker import frames
from tests.fuzz.fuzzing import Target
from tests.harness.seals import JOB, NOW, PRICE_UPDATE, Parties, job

_JSON: Final = (b'"', b"\\ud800", b"\\u0000", b"[", b"]", b"{", b"}", b"null", b"true", b'{"a":', b"[[", b"1e400")
_PUBLISH: Final = 3
_LARGEST_PACKET: Final = 20_000
_MOST_EXPIRED: Final = 10
"""Entries of a keyring that are changed one by one: each time, the whole text is read twice."""


# --- MQTT ---------------------------------------------------------------------------------------------------------------


def _packets(content: bytes) -> None:
    """Any bytes are packets or a bad one; in one piece and byte by byte they are the same."""
    whole = _cut(content, len(content) or 1)
    assert len(content) > 2_000 or whole == _cut(content, 1)  # more would take long byte by byte
    for first, packet in whole:
        if first >> 4 == _PUBLISH:
            _read_publish(first, packet)
        else:
            _read_properties(packet)


def _cut(content: bytes, size: int) -> list[tuple[int, bytes]]:
    reader, found = PacketReader(_LARGEST_PACKET), list[tuple[int, bytes]]()
    try:
        for start in range(0, len(content), size):
            found += reader.feed(content[start : start + size])
    except BadPacket:
        return [(0, b"bad"), *found]
    return found


def _read_publish(first: int, content: bytes) -> None:
    try:
        packet, packet_id = read_publish(first, content)
    except BadPacket:
        return
    assert 0 <= packet_id <= 0xFFFF
    assert len(packet.body) <= len(content)
    packet.topic.encode()


def _read_properties(content: bytes) -> None:
    try:
        found, end = read_properties(content, 0)
    except UnreadableMessage as error:
        assert str(error)
        return
    assert end <= len(content)
    assert sum(map(len, found.values())) <= len(content)


def _message(content: bytes) -> None:
    """Any content of a PUBLISH packet is a message or an error with topic and reason; a message survives the wire."""
    try:
        packet, _ = read_publish(content[0] if content else 0x32, content[1:])
    except BadPacket:
        return
    if packet.fault:
        return
    try:
        message = decode(packet)
    except DecodeError as error:
        assert error.topic == packet.topic
        assert error.reason.encode()
        return
    assert decode(encode(message)) == message


# --- sealing ------------------------------------------------------------------------------------------------------------


def _secret(name: str) -> bytes:
    return sha256(f"fuzz {name}".encode()).digest()


@cache
def _parties() -> Parties:
    """The same keys in each run, so that a saved input means the same."""

    def signing(name: str) -> SigningKey:
        return SigningKey.of(Ed25519PrivateKey.from_private_bytes(_secret(name)))

    def opening(name: str) -> OpeningKey:
        return OpeningKey.of(X25519PrivateKey.from_private_bytes(_secret(name)))

    return Parties(
        KeyFile(Path("desk"), (signing("desk"),), (opening("desk"),)),
        KeyFile(Path("edge"), (signing("edge"),), (opening("edge"),)),
        KeyFile(Path("prices"), (), (opening("prices"),)),
    )


def _sealed_job() -> str:
    return _parties().submitter().seal_job(job({"symbol": "ACME"}), JOB, NOW).text


_SEALED: Final = tuple(_sealed_job() for _ in range(2))


def _open(text: str) -> None:
    opened = _parties().worker().open_job(text, JOB, PRICE_UPDATE, NOW)
    assert json.loads(opened.payload) == {"symbol": "ACME"}


def _sealed(content: bytes) -> None:
    """Any text is refused with a reason; only texts that the submitter has sealed are opened."""
    text = content.decode(errors="surrogateescape")
    readers: tuple[Callable[[str], object], ...] = (read_job, read_answer, _open)
    for read in readers:
        try:
            read(text)
        except SealRefused as error:
            assert error.reason in set(Refusal)
    found = find(text)
    assert found is None or found in text
    without_sealed(text)


def _keyring(content: bytes) -> None:
    """Any text is a keyring, or an error that lists lines; what is shown is read as the same."""
    try:
        entries = keyring.parse(content.decode(errors="replace"), "keyring").entries
    except ConfigError as error:
        assert all(line.startswith("keyring:") for line in str(error).split("\n"))
        return
    text = "\n".join(map(keyring.show, entries))
    assert keyring.parse(text, "keyring").entries == entries
    for entry in entries[:_MOST_EXPIRED]:
        changed = keyring.parse(keyring.expire(text, entry.holder, entry.name, NOW), "keyring").entries
        assert len(changed) <= len(entries)
        assert all(
            each.not_after is not None and each.not_after <= NOW
            for each in changed
            if (each.holder, each.name) == (entry.holder, entry.name)
        )


# --- configuration ------------------------------------------------------------------------------------------------------


def _configuration(content: bytes) -> None:
    """Any file is a configuration, or an error with printable lines that begin with the file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job_processor.yml"
        file.write_bytes(content)
        found = config.problems(file)
        try:
            config.load(file)
        except ConfigError as error:
            lines = str(error).splitlines()
            assert lines == [problem.show() for problem in found if problem.severity == "error"]
            assert all(line.startswith(str(file)) and line.isprintable() for line in lines)
        else:
            assert all(problem.severity == "warning" for problem in found)


# --- old queues ---------------------------------------------------------------------------------------------------------


_PRESETS: Final = {name: read_mapping(None, name) for name in preset_names()}


def _is_job(record: Record, preset: str) -> bool:
    """Whether a record becomes a job, which the dispatcher would read as the same; otherwise it has a reason."""
    decoded = decode_record(Found(1, record), _PRESETS[preset], "fuzz", NOW)
    if isinstance(decoded, Refused):
        assert decoded.reason.encode(errors="surrogatepass")
        return False
    made = decoded.submission
    assert made.job_id == job_id("fuzz", decoded.record_id)
    message = decode(encode(Submit((made,), None, ClientId("shop"))))
    assert isinstance(message, Submit)
    assert message.jobs == (made,)
    return True


def _old_records(content: bytes) -> None:
    """Any record of any layout becomes a job, or is refused with a reason. Each field is the content, then only the payload is."""
    text = content.decode(errors="replace")
    for preset, mapping in _PRESETS.items():
        _is_job(dict.fromkeys(mapping.columns, content), preset)
        _is_job(
            {**dict.fromkeys(mapping.columns), "id": 1, "claim_id": "1", "type": "a", "payload": text, "body": text},
            preset,
        )


def _old_calls(content: bytes) -> None:
    """Any data of RQ and Celery are plain calls or refused, and run no code."""
    for read in (rq_job, celery_message):
        try:
            found = read(content)
        except (ValueError, FieldError, UnsafeData) as error:
            assert str(error)
            continue
        assert set(found) <= {"function", "args", "kwargs"}
        _is_job({"value": "1", "key": "k", "data": content, "timeout": None, "score": None}, "rq")


def _old_topics(content: bytes) -> None:
    """Any message of any topic becomes a job or is refused; equal messages have the same identity."""
    head, _, body = content.partition(b"\n")
    topic = head.decode(errors="backslashreplace")
    record = topic_record(topic, body)
    assert record["claim_id"] == topic_record(topic, body)["claim_id"] != topic_record(topic, body + b" ")["claim_id"]
    assert matches("#", topic) is not topic.startswith("$")
    assert matches(topic, topic) or topic.startswith("$") or {"#", "+"} & set(topic)
    _is_job(record, "mqtt")


# --- handlers -----------------------------------------------------------------------------------------------------------


_BAR_OPTIONS: Final[tuple[tuple[dict[str, Any], bool], ...]] = (
    ({"columns": {"close": "Last"}}, True),
    ({"content": "csv", "columns": {"close": "Last"}}, False),
    ({"content": "json", "columns": {"close": "Last"}}, False),
    ({**PROFILES["excel-de"], "prices": "any", "currency": "$", "multipliers": True}, False),
    ({**PROFILES["yahoo-chart"], "tolerance": 1}, False),
    ({**PROFILES["alphavantage-json"], "time_of_day": "ignore"}, False),
    ({**PROFILES["binance"], "comment": "#", "skip_lines": 1}, False),
    ({**PROFILES["ndjson"], "encoding": "utf-16"}, False),
    ({"interval": "5min", "time_zone": "America/New_York"}, False),
    ({**PROFILES["ib"], "interval": "1w"}, False),
    ({**PROFILES["ib"], "interval": "1h", "ambiguous_time": "first"}, True),
)
"""Options, and whether errors may show text of the source."""


def _bars(content: bytes) -> None:
    """Any bytes are rows or unreadable; each row is a bar or has a reason, which shows no text if it must not."""
    for options, quoted in _BAR_OPTIONS:
        expected = Expected("AAPL", tomorrow(), read_format(None, options), most_rows=1_000, quoted=quoted)
        try:
            parsed = parse_bars(content, expected)
        except UnreadableBars as error:
            assert len(str(error)) < 1_000
            continue
        assert parsed.rows == parsed.rejected + parsed.repeated + sum(map(len, parsed.bars.values())) <= 1_000
        for bar in parsed.bars.get("AAPL", ()):
            check_bar(bar, tolerance=expected.written.tolerance)
        assert set(parsed.bars) <= {"AAPL"}
        assert all(quoted or "'" not in rejected.reason for rejected in parsed.rejected_rows)
        json.dumps([rejected.reason for rejected in parsed.rejected_rows]).encode()


def _records(content: bytes) -> None:
    """The records of any text are those that a parser of the whole text finds."""
    text = content.decode(errors="replace")
    try:
        found: Any = list(read_records(io.StringIO(text, newline="")))
    except NotRecords:
        found = None
    try:
        whole = parse_json(text)
    except FieldError:
        assert found is None
        return
    if isinstance(whole, dict) and '"bars"' in text and text.count('"bars"') == 1 and "\\u" not in text:
        whole = whole.get("bars")
    if found is not None:
        assert isinstance(whole, dict) or repr(found) == repr(whole)
    elif isinstance(whole, list) and len(text) <= LONGEST_RECORD:
        raise AssertionError("a list was refused")


def _gzip(content: bytes) -> None:
    """Any bytes are refused, or unpacked within the limit and as another implementation does it."""
    limit = 100_000
    try:
        assert len(compression.unpack(content, limit)) <= limit
    except (compression.Damaged, compression.TooLarge) as error:
        assert str(error)
    try:
        unpacked = compression.unpack_gzip(content, limit)
    except (compression.Damaged, compression.TooLarge):
        return
    assert len(unpacked) <= limit
    try:
        other = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise AssertionError(f"gzip refuses it: {error}") from error
    assert unpacked == other


class _Server:
    """A connection to a server that sends prepared bytes, in parts of several sizes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = self._part = 0

    def settimeout(self, _timeout_s: float) -> None:
        """Never wait."""

    def sendall(self, request: bytes) -> None:
        assert request.endswith(b"\r\n\r\n")

    def recv_into(self, buffer: memoryview) -> int:
        self._part += 1
        part = self._content[self._place : self._place + min(len(buffer), (1, 30, 5_000)[self._part % 3])]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)


_URL: Final = "http://prices.example/bars.csv"
_SHOWN: Final = re.compile(
    r": (closed the connection without an answer|answered with something that is not HTTP"
    r"|answered with more than 65,536 bytes before the body|answered \d+ [A-Za-z' -]+"
    r"|larger than 100,000 bytes( when unpacked|, with the framing of its chunks)?|broke off (after )?[\d,]+ bytes( before the end)?"
    r"|answered in an encoding that was not requested; only gzip is|more than 65,536 gzip members"
    r"|gzip data ends too early|damaged gzip data: Error -\d+ while decompressing data: [a-z /]+)"
)


def _http(content: bytes) -> None:
    """Any answer is a body within the limit or an error, which shows nothing of the answer."""
    server: Any = _Server(content)
    try:
        answer = http._ask(_URL, urlsplit(_URL), server, float("inf"), {})
        body = http._read(_URL, answer, 100_000)
    except http.FetchError as error:
        assert _SHOWN.fullmatch(str(error).removeprefix(_URL)), str(error)
        return
    assert len(body) <= 100_000


def _address(content: bytes) -> None:
    """Any text is an address that may be asked, or is refused; any setting is a host, a network or refused."""
    text = content.decode(errors="surrogateescape")
    for read in (read_host, read_network):
        try:
            read(text)
        except ValueError as error:
            assert str(error)
    try:
        parts = http._checked(text, Hosts([read_host("prices.example")]), secure_only=False)
    except http.FetchError as error:
        assert str(error).isprintable()
    else:
        assert parts.hostname == "prices.example"
        assert parts.port in {None, 80, 443}


def _frames(content: bytes) -> None:
    """Any lines of a child are frames or refused; in one piece and byte by byte they are the same."""
    try:
        lines = frames.FrameBuffer(10_000).feed(content)
    except FieldError:
        return
    buffer = frames.FrameBuffer(10_000)
    assert lines[:10] == [line for at in range(0, len(content), 7) for line in buffer.feed(content[at : at + 7])][:10]
    for line in lines:
        try:
            frames.decode(line)
        except FieldError as error:
            assert str(error)


_CONFIGURATION_WORDS: Final = (*sorted({name.encode() for path in key_paths() for name in path.split(".")}), b"job_processor:\n", b"\n  ", b": ", b"- ", b"&a ", b"*a", b"<<: ", b"!!int ", b"? ", b"|\n", b"'", b"---\n", b"%YAML 9\n", b"5s", b"1M")  # fmt: skip
_PROPERTY_WORDS: Final = tuple(
    bytes([name]) + value for name in (1, 2, 3, 8, 9, 11, 31, 38, 99) for value in (b"", b"\0\1a", b"\0\1a\0\1b", b"\xff\xff")
)  # fmt: skip

_CALLS: Final = (("mail.send", None, ("a",), {"b": 2}), ["f", None, [1.5, [None]], {"a": {"b": "\u20ac"}}])

TARGETS: Final[Mapping[str, Target]] = {
    "packets": Target(_packets, (b"\x30", b"\x32", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80", *_PROPERTY_WORDS)),
    "properties": Target(_read_properties, _PROPERTY_WORDS),
    "messages": Target(_message, (b"jobs/queue/high/", b"workers/", b"schema", b"\0", *_JSON, *_PROPERTY_WORDS)),
    "sealed": Target(
        _sealed, (b"sealed.1.", b"sealed.2.", b".", b"=", b"-", b"_"), [sealed.encode() for sealed in _SEALED]
    ),
    "keyring": Target(
        _keyring,
        (b"submitter ", b"worker ", b"group ", b" types=", b" groups=", b" not-before=", b" not-after=", b" ed25519:", b" x25519:",
         b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59-14:00", b"0722-01-31", b"#"),
        ["\n".join(map(keyring.show, _parties().lines)).encode()],
    ),
    "configuration": Target(
        _configuration, _CONFIGURATION_WORDS,
        largest=3_000,  # a larger one takes a second
        calls_per_byte=400,  # PyYAML calls up to 85 functions per byte, and reads the text four times here
    ),
    "bars": Target(_bars, (b"Date,Open,High,Low,Close,Volume\n", b"2013-03-01", b'"bars":', b'"\n"', b"\xef\xbb\xbf", b"\xff\xfe", b"sep=;\n",
         b"Datum;Schluss\n", b"1.234,5", b"09:30", b"1704153600000", b'"timestamp":[', b'"chart":{"result":[', b'"Time Series (Daily)":{', *_JSON)),
    "records": Target(_records, (b'"bars":', b",", b" ", *_JSON)),
    "gzip": Target(_gzip, (b"\x1f\x8b\x08\0", gzip.compress(b"", mtime=0), gzip.compress(bytes(200_000), mtime=0))),
    "http": Target(
        _http,
        (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n",
         b"Content-Encoding: gzip\r\n", b"Location: ", b"0\r\n\r\n", b"HTTP/1.1 302 \r\n", gzip.compress(b"x", mtime=0)),
    ),
    "address": Target(
        _address, (b"http://", b"https://", b"prices.example", b"[::1]", b"@", b":80", b"//", b"%00", b"10.0.0.0/8", b"?", b"#")
    ),
    "old_records": Target(
        _old_records, (b'"id":', b'"type":', b'"payload":', b'"headers":', b'"body":', b'"displayName":', b'"data":', *_JSON, b"9" * 400),
        largest=5_000, calls_per_byte=400,  # all layouts read it, each twice
    ),
    "old_calls": Target(
        _old_calls, (b"\x80\x04", b".", b"(", b"]", b"}", b"\x94", b"h\0", b"r\xff\xff\xff\x7f", b"\x8e", b"N", b"t", b"a", b"e", b"s", b"u", *_JSON),
        [pickle.dumps(call, protocol) for call in _CALLS for protocol in (0, 2, 4)], largest=5_000,
    ),
    "old_topics": Target(_old_topics, (b"jobs/queue/high/", b"$share/", b"#", b"+", b"\n", b'"id":', b'"type":', b'"payload":', *_JSON)),
    "frames": Target(
        _frames, (b'["ready"]\n', b'["log","', b'["ended","', b'["progress","', b"\n", b",20,", b",null", b",false", *_JSON)
    ),
}  # fmt: skip
