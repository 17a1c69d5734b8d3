"""How a connection is made, and what it must have agreed to before it is used.

Owns: the settings of every connection, and what the server promises about durability.
Rules:
  1. What durability needs is set, and read back; a weaker answer is refused by name.
  2. Timeouts are for the server to keep: whoever is stopped here holds up nobody for longer.
  3. A connection is in autocommit mode. A statement is a transaction, or BEGIN and COMMIT stand
     where the transaction is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg

from aumai_transactions.errors import StoreError, StoreUnavailable
from aumai_transactions.stores.postgres.failures import as_lost, store_error
from aumai_transactions.stores.postgres.statements import statement

if TYPE_CHECKING:
    from psycopg.errors import Diagnostic

    from aumai_transactions.stores.postgres.address import Address

Connection = psycopg.Connection[tuple[Any, ...]]

SERVER_VERSION_MIN: Final = 14
# Who warns in the server of a wait for a standby that was given up. Why not by the text: it is in
# the server's language, and the code is that of every other warning.
_WAITING: Final = "SyncRepWaitForLSN"
_SETTINGS: Final = {
    "synchronous_commit": "on",
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    # Why: a client that is stopped in a transaction would keep its rows for ever.
    "idle_in_transaction_session_timeout": "10s",
    "default_transaction_isolation": "read committed",
    # Why: to compile a statement of ours takes longer than to run it.
    "jit": "off",
    # Why: to plan the statement of a batch takes longer than to run it, whatever is in it.
    "plan_cache_mode": "force_generic_plan",
    # Why: every statement has an index, and a plan that was made while a table was small is kept.
    "enable_seqscan": "off",
}
# What the options of a URL may say otherwise.
_FREE: Final = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")


class Promises(NamedTuple):
    """Hold what a server says about durability."""

    fsync: str
    full_page_writes: str
    synchronous_commit: str

    @property
    def are_kept(self) -> bool:
        """True where an acknowledged commit survives kill -9 and power loss."""
        return self.fsync == "on" and self.full_page_writes == "on"


class Doubts:
    """Remember whether a server warned of a commit that a standby may not have.

    It is asked after each write: with synchronous replication, a wait for the standby that an
    administrator cancels ends in a success with a warning.
    """

    __slots__ = ("warned",)

    def __init__(self) -> None:
        self.warned = ""

    def hear(self, diagnostic: Diagnostic) -> None:
        """Take note of a notice."""
        if diagnostic.source_function == _WAITING:
            self.warned = diagnostic.message_primary or "a warning"


def connect(address: Address) -> tuple[Connection, Doubts, Promises]:
    """Return a connection that has agreed to everything.

    Raises:
        StoreUnavailable: Nobody answers, or a setting did not take.
        StoreError: The server is too old, or its database has another encoding than UTF-8.
    """
    try:
        connection = psycopg.connect(**address.parameters, autocommit=True)  # type: ignore[arg-type]
    except (psycopg.Error, OSError) as error:
        said = as_lost(error) if isinstance(error, OSError) else error
        raise store_error(said, address, is_writing=False, is_connecting=True) from error
    try:
        _check_server(connection, address)
        promises = _settle(connection, address)
    except (psycopg.Error, OSError) as error:
        connection.close()
        said = as_lost(error) if isinstance(error, OSError) else error
        raise store_error(said, address, is_writing=False) from error
    except BaseException:
        connection.close()
        raise
    doubts = Doubts()
    connection.add_notice_handler(doubts.hear)
    return connection, doubts, promises


def _check_server(connection: Connection, address: Address) -> None:
    found = connection.info.server_version
    if found < SERVER_VERSION_MIN * 10_000:
        major = f"{found // 10_000}.{found // 100 % 100}" if found < 100_000 else found // 10_000
        raise StoreError(
            f"{address.place}: the server is PostgreSQL {major}; this store needs "
            f"{SERVER_VERSION_MIN} or newer. Nothing was changed."
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            f"{address.place}: the database's encoding is {encoding}; a store needs UTF8. Make "
            "another database with: createdb --encoding=UTF8 --template=template0 NAME"
        )


def _settle(connection: Connection, address: Address) -> Promises:
    said = address.parameters.get("options", "")
    wanted = {
        name: value for name, value in _SETTINGS.items() if name not in _FREE or name not in said
    }
    # Why our schema first and pg_temp last: nobody can put a table of the same name before ours.
    wanted["search_path"] = f'"{address.schema}", pg_temp'
    connection.execute(
        statement("settle"), {"names": list(wanted), "values": list(wanted.values())}
    )
    promises = promises_of(connection)
    if promises.synchronous_commit not in ("on", "remote_apply"):
        raise StoreUnavailable(
            f"{address.place}: the server's synchronous_commit is "
            f"{promises.synchronous_commit!r} where 'on' was asked for; entries would not be safe."
        )
    return promises


def promises_of(connection: Connection) -> Promises:
    """Return what the server says about durability."""
    row = connection.execute(statement("promises")).fetchone()
    return Promises(*row) if row else Promises("", "", "")
