"""The addresses of old queues: what they mean, and that nothing shows their passwords."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.errors import ConfigError
from stockworker.migration.address import parse_address, redacted

PARTS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("sqlite:///var/lib/app/jobs.db", "sqlite", "sqlite:///var/lib/app/jobs.db"),
        ("postgresql://shop:secret@db/app", "postgresql", "postgresql://shop@db/app"),
        ("postgresql:///app?password=secret&host=/run", "postgresql", "postgresql:///app?password=***&host=/run"),
        ("mariadb://shop:a@secret@db/app", "mysql", "mariadb://shop@db/app"),
        ("rediss://:secret@cache:6380/1", "redis", "rediss://@cache:6380/1"),
        ("amqps://user@mq/%2F", "amqp", "amqps://user@mq/%2F"),
    ],
)
def test_an_address_has_a_kind_and_is_shown_without_its_password(url: str, kind: str, shown: str) -> None:
    address = parse_address(url)

    assert address.kind == kind
    assert address.shown == shown
    assert "secret" not in repr(address)


def test_parts_are_unquoted() -> None:
    address = parse_address("mysql://sh%40p:p%2Fw@db:3307/app%20x?unix_socket=/run/m.sock")

    assert (address.user, address.password, address.host, address.port) == ("sh@p", "p/w", "db", 3307)
    assert (address.path, address.options) == ("/app x", {"unix_socket": "/run/m.sock"})


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("jobs.db", "'jobs.db' is not a URL; write it as one, such as sqlite:///var/lib/app/jobs.db"),
        ("user:secret@host", "'host' is not a URL"),
        ("postgre://user:secret@host/db", "did you mean 'postgres'?"),
        ("mysql://user:secret/word@host:x/db", "is not a valid URL; check its host and port, and write : / ? # @"),
    ],
)
def test_a_wrong_address_is_explained_without_its_password(url: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_address(url)

    assert problem in str(refused.value)
    assert "secret" not in str(refused.value)


@given(user=PARTS, password=st.text(min_size=1, max_size=12), host=PARTS, path=PARTS)
def test_no_text_of_an_address_contains_its_password(user: str, password: str, host: str, path: str) -> None:
    marked = f"<{password}>"

    assert marked not in redacted(f"mysql://{user}:{marked}@{host}/{path}")
    assert marked not in redacted(f"postgresql:///{path}?password={marked.replace('&', '')}") or "&" in password
