"""What PostgreSQL's errors mean to whoever called the store.

Owns: the translation of psycopg's errors, and which of them may be tried again at once.
Rules:
  1. Nobody knows what became of a statement whose answer was lost, or whose session was ended while
     it ran. So a write that was sent is unknown then, whatever else the error says.
  2. An error that the server sent about a statement, its session going on, rolled that back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg

from aumai_transactions.errors import (
    StoreError,
    StoreFormatError,
    StoreNotFound,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from aumai_transactions.stores.postgres.address import Address

# A serialization failure, a deadlock, a lock that was not free in time: rolled back, every one.
PASSING: Final = frozenset({"40001", "40P01", "55P03"})
READ_ONLY: Final = "25006"
_FULL: Final = frozenset({"53100", "53200", "53300", "53400", "54000"})
_DAMAGED: Final = frozenset({"XX001", "XX002"})
_STRANGE_TABLES: Final = frozenset({"42P01", "42703", "42804", "3F000", "42883", "42P10"})
_SECURITY: Final = "42501"
_TOO_BIG: Final = "54000"


class CommitInDoubt(psycopg.OperationalError):
    """Say that the server gave up waiting for a standby: here it is committed, there maybe not."""


def as_lost(error: OSError) -> psycopg.OperationalError:
    """Return an error of the system's as psycopg tells of a connection that was lost.

    psycopg lets it through where a socket cannot be waited for: that may take a file, and there may
    be none left. What was sent by then may have arrived.
    """
    return psycopg.OperationalError(str(error))


def is_lost(error: psycopg.Error) -> bool:
    """Tell whether an error ended the session, or left nobody to answer."""
    if isinstance(error, CommitInDoubt):
        return True
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    severity = error.diag.severity_nonlocalized or ""
    return severity in ("FATAL", "PANIC") or error.sqlstate.startswith(("08", "57P"))


def store_error(
    error: psycopg.Error, address: Address, *, is_writing: bool, is_connecting: bool = False
) -> StoreError:
    """Return what one of psycopg's errors means to whoever called the store.

    Args:
        error: What psycopg said.
        address: The store.
        is_writing: True where a write was sent that may have been committed.
        is_connecting: True where there was no connection yet.
    """
    said = address.without_password(error).strip().split("\n")[0]
    place = address.place
    if is_connecting:
        return _no_connection(said, place)
    if is_lost(error):
        if is_writing:
            return StoreUnavailable(
                f"{place}: the connection was lost while entries were written ({said}); nobody "
                "knows yet whether they are durable. Append the very same entries again: that "
                "tells.",
                outcome_unknown=True,
            )
        return StoreUnavailable(
            f"{place}: the connection was lost ({said}). Nothing was written; try again."
        )
    return _refusal(error.sqlstate or "", said, place)


def _no_connection(said: str, place: str) -> StoreError:
    if "does not exist" in said and "database" in said:
        return StoreNotFound(
            f"there is no store in {place}: {said}. Check the name; an administrator makes a "
            "database with: createdb NAME"
        )
    return StoreUnavailable(
        f"{place} cannot be reached ({said}). Nothing was written. Check host, port, user and "
        "password, and whether the server runs, then try again."
    )


def _refusal(code: str, said: str, place: str) -> StoreError:
    if code in PASSING:
        return StoreUnavailable(
            f"{place}: others kept holding what this write needs ({said}). Nothing was written; "
            "try again."
        )
    if code == READ_ONLY:
        return StoreUnavailable(
            f"{place} takes no writes ({said}): it is a standby, or has become one. Nothing was "
            "written; try again, so that the server that takes writes is looked for."
        )
    if code in _FULL and code != _TOO_BIG:
        return StoreUnavailable(
            f"{place} has no room, no memory or no connection left ({said}). Nothing was written, "
            "everything acknowledged is still there; try again when it has."
        )
    if code == _SECURITY:
        return StoreError(
            f"{place}: this user may not do that ({said}). Nothing was written. Grant what "
            "docs/postgresql.md lists to the role."
        )
    if code in _DAMAGED:
        return StoreFormatError(
            f"{place} is damaged ({said}). Stop all processes that use it and restore a backup."
        )
    if code in _STRANGE_TABLES:
        return StoreFormatError(
            f"{place} does not have the tables that its version promises ({said}). Nothing was "
            "written. Another program's schema? Name one of its own with ?schema=NAME."
        )
    if code.startswith("23"):
        return StoreFormatError(
            f"{place} holds rows that contradict each other ({said}). Nothing was written. Stop "
            "all processes that use it and restore a backup."
        )
    if code.startswith(("57", "58")):
        return StoreUnavailable(
            f"{place}: the server gave up ({said}). Nothing was written; try again."
        )
    return StoreError(f"{place} cannot do this ({said}). Nothing was written.")
