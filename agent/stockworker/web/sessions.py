"""Sessions of people who signed in. Pure: the time and the random tokens are arguments."""

# A session is a random token in a cookie, and a second one in each form: another site can make a browser send the cookie,
# but can't read the form (OWASP, "Synchronizer Token Pattern"). Sessions are in memory: after a restart people sign in
# again. Of too many, the one that was not used for longest ends.

import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from stockworker.protocol.frozen import dataclass
from stockworker.web.accounts import Account, AccountRole

IDLE_S: Final = 12 * 3600.0
"""A session ends this long after its last request."""

MOST_SESSIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class WebSession:
    """A person who has signed in, or who looks without an account."""

    name: str | None
    role: AccountRole
    form_token: str
    used_at: float

    @property
    def may_act(self) -> bool:
        """Whether the page shows what changes the fleet."""
        return self.role is AccountRole.OPERATOR

    def accepts(self, form_token: str) -> bool:
        """Whether a form is one of this session."""
        return bool(self.form_token) and hmac.compare_digest(self.form_token.encode(), form_token.encode())


VISITOR: Final = WebSession(None, AccountRole.VIEWER, "", 0.0)
"""A user of this machine, if there are no accounts."""


class WebSessions:
    """All sessions.

    Args:
        make_token: makes a random token.
    """

    def __init__(self, make_token: Callable[[], str]) -> None:
        self._make_token = make_token
        self._sessions: dict[str, WebSession] = {}

    def open(self, account: Account, now: float) -> str:
        """Begin a session; return the token for its cookie."""
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]  # they are in the order of their last requests
        token = self._make_token()
        self._sessions[token] = WebSession(account.name, account.role, self._make_token(), now)
        return token

    def find(self, token: str, now: float) -> WebSession | None:
        """The session of a cookie."""
        found = self._sessions.pop(token, None)
        if found is None or now - found.used_at > IDLE_S:
            return None
        self._sessions[token] = found = replace(found, used_at=now)
        return found

    def close(self, token: str) -> None:
        """End a session."""
        self._sessions.pop(token, None)

    def keep_only(self, accounts: dict[str, Account]) -> None:
        """End the sessions of accounts that do not exist any more, or have another role now."""
        roles = {name: account.role for name, account in accounts.items()}
        self._sessions = {
            token: session
            for token, session in self._sessions.items()
            if session.name is not None and roles.get(session.name) is session.role
        }
