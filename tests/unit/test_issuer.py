"""Which authority has signed a certificate."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.pki.certificates import Authority, Subject
from stockworker.pki.inspection import is_issued_by

NOW = datetime.fromtimestamp(clock.wall(), UTC)


@pytest.mark.parametrize("same", [True, False])
def test_who_has_issued_a_certificate(tmp_path: Path, same: bool) -> None:  # noqa: FBT001 (a parameter of the test)
    """Two authorities may have one name: the signature decides."""
    ours, other = (Authority.create("Fleet", NOW) for _ in range(2))
    certificate, _ = (ours if same else other).issue(Subject("client"), NOW).save(tmp_path, "client")
    authority = tmp_path / "ca.crt"
    authority.write_bytes(ours.certificate_pem)
    assert is_issued_by(certificate, authority) is same


def test_an_authority_of_another_name_has_issued_nothing(tmp_path: Path) -> None:
    certificate, _ = Authority.create("Fleet", NOW).issue(Subject("client"), NOW).save(tmp_path, "client")
    authority = tmp_path / "ca.crt"
    authority.write_bytes(Authority.create("Another", NOW).certificate_pem)
    assert not is_issued_by(certificate, authority)
