"""What an authority has signed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockworker.errors import ConfigError
from stockworker.pki.registry import EXPIRES_SOON, CertificateKind, CertificateRecord, CertificateState, Registry

NOW = datetime(2026, 5, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


def record(serial: str, name: str = "edge-1", until: datetime = NOW + YEAR, **details: object) -> CertificateRecord:
    fields: dict[str, object] = {"kind": CertificateKind.WORKER, "hosts": (), "issued_at": NOW, **details}
    return CertificateRecord(serial=serial, name=name, until=until, **fields)  # type: ignore[arg-type] # any of them


def states(*records: CertificateRecord, now: datetime = NOW) -> list[CertificateState]:
    return [state for _, state in Registry(Path(), records).states(now)]


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "issued.jsonl"
    broker = record("ab", "broker", kind=CertificateKind.BROKER, hosts=("broker", "::1"))
    Registry(file, [broker, record("cd", revoked_at=NOW)]).save()
    assert Registry.load(file).records == [broker, record("cd", revoked_at=NOW)]
    assert [path.name for path in tmp_path.iterdir()] == ["issued.jsonl"]


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", "null", '{"serial": "xyz"}', '{"serial": "ab", "name": "a", "kind": "king"}']
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "issued.jsonl"
    Registry(file, [record("ab")]).save()
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=r"issued\.jsonl:2: line is damaged"):
        Registry.load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"issued\.jsonl: can't read the registry of the authority"):
        Registry.load(tmp_path / "issued.jsonl")


def test_how_certificates_stand() -> None:
    assert states(
        record("1", "valid"),
        record("2", "soon", NOW + EXPIRES_SOON - timedelta(seconds=1)),
        record("3", "expired", NOW - timedelta(seconds=1)),
        record("4", "renewed"),
        record("5", "renewed"),
        record("6", "revoked", revoked_at=NOW),
    ) == [
        CertificateState.VALID,
        CertificateState.EXPIRES_SOON,
        CertificateState.EXPIRED,
        CertificateState.REPLACED,
        CertificateState.VALID,
        CertificateState.REVOKED,
    ]


def test_what_was_replaced_counts_again_when_its_successor_is_revoked() -> None:
    assert states(record("1"), record("2", revoked_at=NOW)) == [CertificateState.VALID, CertificateState.REVOKED]


def test_a_name_has_its_kind_for_as_long_as_a_certificate_says_so() -> None:
    expired = NOW - 2 * YEAR
    records = [record("1"), record("2", "edge-2", revoked_at=NOW), record("4", "edge-4", expired)]
    registry = Registry(Path(), records)
    assert registry.kind_of("edge-1") is CertificateKind.WORKER
    assert registry.kind_of("edge-2") is None
    assert registry.kind_of("edge-3") is None
    assert registry.kind_of("edge-4") is CertificateKind.WORKER


def test_the_first_revocation_counts() -> None:
    registry = Registry(Path(), [record("1"), record("2")])
    registry.revoke(["1"], NOW)
    registry.revoke(["1"], NOW + YEAR)
    assert [each.revoked_at for each in registry.records] == [NOW, None]
