"""People in front of the page: logging in, and staying so for a while.

Owns: one-time login codes, sessions and their CSRF tokens. All of it is in memory: it ends with
the process.
Rules:
  1. A code works once, and for a quarter of an hour.
  2. A session's cookie opens pages, never the API.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from aumai_transactions.clock import Clock
    from aumai_transactions.web.principals import Principal

CODE_SECONDS = 900
SESSION_SECONDS = 12 * 3_600
SESSIONS_MAX = 1_000
CODES_MAX = 20
TOLD_MAX = 5


class Told(NamedTuple):
    """Hold something to tell on the next page.

    Args:
        text: What.
        is_bad: True where something was not done.
    """

    text: str
    is_bad: bool


class Session(NamedTuple):
    """Hold one login.

    Args:
        name: What the cookie says.
        csrf: What each form must say.
        principal: Who it is.
        until: When it ends, microseconds since 1970 UTC.
    """

    name: str
    csrf: str
    principal: Principal
    until: int

    def has_csrf(self, given: str) -> bool:
        """Tell whether a form was one of this session's pages."""
        return hmac.compare_digest(self.csrf.encode(), given.encode("utf-8", "replace"))


class Sessions:
    """Keep who is logged in.

    Args:
        clock: What time it is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._codes: dict[str, tuple[int, Principal]] = {}
        self._sessions: dict[str, Session] = {}
        self._told: dict[str, list[Told]] = {}

    def new_code(self, principal: Principal) -> str:
        """Return a code that logs somebody in once."""
        if len(self._codes) >= CODES_MAX:
            self._codes.pop(next(iter(self._codes)))
        code = secrets.token_urlsafe(32)
        self._codes[code] = (self._clock.now() + CODE_SECONDS * 1_000_000, principal)
        return code

    def redeem(self, code: str) -> Session | None:
        """Log somebody in by a code; None where it does not work, or not any more."""
        # Why a look-up is enough: 256 random bits cannot be felt out by how long it takes.
        until, principal = self._codes.pop(code, (0, None))
        if principal is None or until < self._clock.now():
            return None
        return self.open(principal)

    def open(self, principal: Principal) -> Session:
        """Log somebody in."""
        now = self._clock.now()
        self._sessions = {name: one for name, one in self._sessions.items() if one.until > now}
        if len(self._sessions) >= SESSIONS_MAX:
            self._sessions.pop(next(iter(self._sessions)))
        self._told = {name: told for name, told in self._told.items() if name in self._sessions}
        until = now + SESSION_SECONDS * 1_000_000
        made = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), principal, until)
        self._sessions[made.name] = made
        return made

    def find(self, name: str) -> Session | None:
        """Return the session that a cookie names; None where it has ended."""
        found = self._sessions.get(name)
        if found is None or found.until <= self._clock.now():
            return None
        return found

    def close(self, session: Session) -> None:
        """Log somebody out."""
        self._sessions.pop(session.name, None)
        self._told.pop(session.name, None)

    def tell(self, session: Session, text: str, *, is_bad: bool = False) -> None:
        """Have something told on the next page that this session looks at."""
        told = self._told.setdefault(session.name, [])
        told.append(Told(text, is_bad))
        del told[:-TOLD_MAX]

    def has_to_tell(self, session: Session) -> bool:
        """Tell whether the next page is to tell something."""
        return session.name in self._told

    def told(self, session: Session) -> list[Told]:
        """Return what is to be told now; it is told once."""
        return self._told.pop(session.name, [])
