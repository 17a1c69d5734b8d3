"""How a PostgreSQL store is named.

Owns: what stands in its URL: what libpq is told, and what is for us.
Rules:
  1. A password goes to libpq and nowhere else; a store's own URL has none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from aumai_transactions.errors import StoreError
from aumai_transactions.store import LEASE_SECONDS

DEFAULT_SCHEMA: Final = "aumai_transactions"
POOL_SIZE: Final = 8
POOL_SIZE_MAX: Final = 1_000
LEASE_SECONDS_MAX: Final = 86_400

# Why so narrow: a schema is also the name of a channel, and is read and typed by people.
_SCHEMA: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
_OURS: Final = ("schema", "pool_size", "lease_seconds")
# Why here: a host that is gone without a word would otherwise be waited for for two hours.
_DEFAULTS: Final = {
    "application_name": "aumai-transactions",
    "client_encoding": "utf8",
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "target_session_attrs": "read-write",
    "tcp_user_timeout": "20000",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Hold what a URL says.

    Args:
        parameters: What libpq is told, password included.
        schema: Where the tables are.
        pool_size: How many connections at most serve threads.
        lease_seconds: How long a driver lives after its last sign.
        url: The URL without its password.
    """

    parameters: dict[str, str]
    schema: str
    pool_size: int
    lease_seconds: float
    url: str

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "the default host"
        port = self.parameters.get("port")
        where = f"{host}:{port}" if port and not host.startswith("/") else host
        database = self.parameters.get("dbname") or "the default one"
        return f"PostgreSQL at {where}, database {database}, schema {self.schema}"

    @property
    def channel(self) -> str:
        """On which channel news are told."""
        return f"{self.schema}_news"

    def without_password(self, text: object) -> str:
        """Return a text, with every password of this address made unreadable."""
        shown = str(text)
        for name in ("password", "sslpassword"):
            secret = self.parameters.get(name)
            if secret:
                shown = shown.replace(secret, "•••").replace(quote(secret, safe=""), "•••")
        return shown


def address_of(url: str) -> Address:
    """Return what a URL says.

    Raises:
        StoreError: It is no URL of a PostgreSQL store, or one of its options cannot be.
    """
    scheme, _, rest = url.partition("://")
    base, _, query = rest.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    ours = {name: value for name, value in options if name in _OURS}
    theirs = [(name, value) for name, value in options if name not in _OURS]
    target = f"postgresql://{base}"
    if theirs:
        # Why quote: libpq takes a plus sign for what it is.
        target += "?" + urlencode(theirs, quote_via=quote)
    schema = ours.get("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        message = (
            "in the store's URL, schema must be a name of letters, digits and _ with at most 48 of "
            f"them, not {schema!r:.80}."
        )
        raise StoreError(message)
    try:
        given = conninfo_to_dict(target)
    except psycopg.Error as error:
        raise StoreError(
            f"{_shown(scheme, base, options)} is no URL that libpq understands: "
            f"{_without(base, error)}. Write postgresql://user:password@host:5432/database, with "
            "characters such as @ : / % in a password as %40 %3A %2F %25."
        ) from None
    parameters = {name: str(value) for name, value in given.items() if value is not None}
    return Address(
        _DEFAULTS | parameters,
        schema,
        int(_number("pool_size", ours.get("pool_size", str(POOL_SIZE)), 1, POOL_SIZE_MAX)),
        _number(
            "lease_seconds", ours.get("lease_seconds", str(LEASE_SECONDS)), 1, LEASE_SECONDS_MAX
        ),
        _shown(scheme, base, options),
    )


def _number(name: str, text: str, least: float, most: float) -> float:
    is_whole = name == "pool_size"
    if re.fullmatch(r"\d{1,9}" if is_whole else r"\d{1,9}(\.\d{1,6})?", text):
        value = float(text)
        if least <= value <= most:
            return value
    kind = "a whole number" if is_whole else "a number"
    raise StoreError(
        f"in the store's URL, {name} must be {kind} from {least} to {most:,}, not {text!r:.40}."
    )


def _shown(scheme: str, base: str, options: list[tuple[str, str]]) -> str:
    """Return the URL without passwords."""
    # Why up to the last @: a password may hold one.
    user, at, place = base.rpartition("@")
    kept = [pair for pair in options if pair[0] not in ("password", "sslpassword")]
    shown = f"{scheme}://{user.partition(':')[0]}{at}{place}"
    return shown + ("?" + urlencode(kept, quote_via=quote, safe="/") if kept else "")


def _without(base: str, error: object) -> str:
    """Return what libpq complains about, without what may be a password."""
    user = base.rpartition("@")[0]
    secret = user.partition(":")[2]
    text = str(error).strip()
    for form in {secret, unquote(secret)} - {""}:
        text = text.replace(form, "•••")
    return text
