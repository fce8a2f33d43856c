"""The accounts of the web page, and the file that has them. Pure, except for `load_accounts`."""

# A line for each account: its name, its role, and what scrypt makes of its password (RFC 7914).
#
#     shop-floor:viewer:scrypt:16384:8:1:<salt>:<hash>      both in base64
#
# An operator may act, a viewer may only look. The cost is in the line, so that it can rise without a new password.

import base64
import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from stockworker.config.secrets import read_secret_text
from stockworker.errors import ConfigError
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import check_id

_COST, _BLOCK, _LANES = 2**14, 8, 1
"""OWASP's recommendation for a server: 16 MiB and about 50 ms for each attempt."""

_MOST_COST: Final = 2**17
_MOST_BLOCK, _MOST_LANES = 16, 4
SALT_BYTES: Final = 16
_PARTS: Final = 8
KEY: Final = "web.accounts"
MOST_PASSWORD: Final = 1024
SHORTEST_PASSWORD: Final = 10


class AccountRole(StrEnum):
    """What an account may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Account:
    """One account."""

    name: str
    role: AccountRole
    cost: int
    block: int
    lanes: int
    salt: bytes
    digest: bytes

    def accepts(self, password: str) -> bool:
        """Whether this is the password."""
        return hmac.compare_digest(self.digest, _digest(password, self.salt, self.cost, self.block, self.lanes))

    def line(self) -> str:
        """The account as a line of the file."""
        salt, digest = (base64.b64encode(each).decode() for each in (self.salt, self.digest))
        return ":".join(
            (self.name, self.role, "scrypt", str(self.cost), str(self.block), str(self.lanes), salt, digest)
        )


def make_account(name: str, role: AccountRole, password: str, salt: bytes) -> Account:
    """Make an account.

    Args:
        name: an ID.
        role: what it may do.
        password: its password, `SHORTEST_PASSWORD` characters or more.
        salt: random, `SALT_BYTES` bytes.

    Raises:
        ValueError: the name or the password is not usable; the text has the reason.
    """
    check_id(name)
    if not SHORTEST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise ValueError(
            f"the password must have {SHORTEST_PASSWORD} to {MOST_PASSWORD} characters, not {len(password)}"
        )
    return Account(name, role, _COST, _BLOCK, _LANES, salt, _digest(password, salt, _COST, _BLOCK, _LANES))


def read_accounts(text: str) -> dict[str, Account]:
    """Read the content of the file.

    Raises:
        ValueError: a line is not an account; the text has its number, and nothing of its secret.
    """
    found: dict[str, Account] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            account = _read_line(line.strip())
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if account.name in found:
            raise ValueError(f"line {number}: {account.name} has an account already; remove one of the two lines")
        found[account.name] = account
    return found


def write_accounts(accounts: Mapping[str, Account]) -> str:
    """The content of the file."""
    return "".join(f"{account.line()}\n" for _, account in sorted(accounts.items()))


def load_accounts(file: Path) -> dict[str, Account]:
    """Read the accounts.

    Raises:
        ConfigError: the file is not usable, or other users can read or change it.
    """
    try:
        return read_accounts(
            read_secret_text(KEY, file, "create it with 'stockworker web account NAME --role operator'")
        )
    except ValueError as error:
        raise ConfigError(f"{KEY}: {file}: {error}. Write accounts with 'stockworker web account'") from None


def _read_line(line: str) -> Account:
    parts = line.split(":")
    if len(parts) != _PARTS or parts[2] != "scrypt":
        raise ValueError("is not 'NAME:ROLE:scrypt:COST:BLOCK:LANES:SALT:HASH'")
    name, role, _, *numbers, salt, digest = parts
    check_id(name)
    if role not in {*AccountRole}:
        raise ValueError(f"the role must be {' or '.join(AccountRole)}, not {role[:20]!r}")
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        raise ValueError("the cost must be three numbers")
    cost, block, lanes = map(int, numbers)
    if not (
        1 < cost <= _MOST_COST and cost & (cost - 1) == 0 and 0 < block <= _MOST_BLOCK and 0 < lanes <= _MOST_LANES
    ):
        raise ValueError(
            f"the cost must be a power of two up to {_MOST_COST}, with {_MOST_BLOCK} and {_MOST_LANES} at most"
        )
    return Account(
        name,
        AccountRole(role),
        cost,
        block,
        lanes,
        base64.b64decode(salt, validate=True),
        base64.b64decode(digest, validate=True),
    )


def _digest(password: str, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    memory = 128 * block * (cost + lanes + 2)  # RFC 7914, section 2
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=lanes, maxmem=2 * memory)
