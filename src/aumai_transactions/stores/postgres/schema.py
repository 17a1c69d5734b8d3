"""The schema of a store, and how an older one is brought up to date.

Owns: the numbered files in `migrations/`, and when each of them may run.
Rules:
  1. All of it in one transaction, under a lock of its own, and the version is read again inside of
     it: a crash leaves the old schema or the new one, and of two processes only one migrates.
  2. A `pre` file only adds, and runs while processes of an older release are at work; they go on. A
     `post` file takes away, and waits until no driver of an older release is alive.
  3. Forwards only. A schema that this release cannot work with is refused by name.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import uuid4

from psycopg import sql

from aumai_transactions.errors import (
    InternalError,
    SchemaVersionError,
    StoreFormatError,
    StoreNotFound,
)
from aumai_transactions.stores.postgres.statements import statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.stores.postgres.address import Address
    from aumai_transactions.stores.postgres.pool import Lent

SCHEMA_VERSION: Final = 3


class Migration(NamedTuple):
    """Hold one file.

    Args:
        version: To which version it leads.
        is_post: True where it takes something away.
        script: Its statements.
    """

    version: int
    is_post: bool
    script: str


class StoreRow(NamedTuple):
    """Hold what a store says about itself."""

    store_id: str
    schema_version: int
    usable_from: int


@cache
def migrations() -> tuple[Migration, ...]:
    """Return every migration, in the order in which they run."""
    found = []
    for file in sorted((Path(__file__).parent / "migrations").glob("*.sql")):
        version, phase, _ = file.name.split(".")
        if phase not in ("pre", "post"):
            raise InternalError(f"{file.name} is neither a pre nor a post migration.")
        found.append(Migration(int(version), phase == "post", file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda one: (one.version, one.is_post)))


def opened(
    lent: Lent,
    address: Address,
    *,
    create: bool,
    known: Sequence[Migration] | None = None,
    version: int = SCHEMA_VERSION,
) -> StoreRow:
    """Return the store in a schema; make it, or bring it up to date, where that is to be done.

    Args:
        lent: A connection.
        address: The store.
        create: True where a store that does not exist is to be made.
        known: The migrations.
        version: The version that this release works with.

    Raises:
        StoreNotFound: There is none.
        SchemaVersionError: A newer release has changed it so that this one cannot use it.
        StoreFormatError: What stands there is not a store of ours.
    """
    known = migrations() if known is None else known
    row = _found(lent, address)
    if row is None and not create:
        raise StoreNotFound(
            f"there is no store in {address.place}. Check the name; a store is made by the first "
            "begin() of a manager, or by: aumai-transactions create"
        )
    if row is None or _pending(lent, row, known):
        row = _migrated(lent, address, known)
    if row.usable_from > version:
        raise SchemaVersionError(address.place, row.schema_version, version)
    return row


def _found(lent: Lent, address: Address) -> StoreRow | None:
    there = lent.read(statement("find_schema"), {"schema": address.schema}).fetchone()
    if there is None or not there[0]:
        return None
    row = lent.read(statement("store_row")).fetchone()
    if row is None:
        raise StoreFormatError(f"{address.place} has lost its identity. Restore a backup.")
    return StoreRow(*row)


def _pending(lent: Lent, row: StoreRow | None, known: Sequence[Migration]) -> list[Migration]:
    """Return the migrations that are to run now."""
    have, usable = (row.schema_version, row.usable_from) if row else (0, 0)
    wanted = []
    for one in known:
        if not one.is_post and one.version > have:
            wanted.append(one)
        if one.is_post and one.version > usable:
            if row is not None and _older_drivers(lent, one.version):
                # Order matters: what comes behind it waits too.
                break
            wanted.append(one)
    return wanted


def _older_drivers(lent: Lent, version: int) -> int:
    row = lent.read(statement("older_drivers"), {"version": version}).fetchone()
    return int(row[0]) if row else 0


def begun(lent: Lent, address: Address, store_id: str) -> StoreRow | None:
    """Make a store in a transaction that is left open; None where there is one already."""
    _lock(lent, address)
    if _found(lent, address) is not None:
        return None
    return _built(lent, address, migrations(), store_id)


def _migrated(lent: Lent, address: Address, known: Sequence[Migration]) -> StoreRow:
    _lock(lent, address)
    row = _built(lent, address, known, uuid4().hex)
    lent.write(b"COMMIT")
    return row


def _lock(lent: Lent, address: Address) -> None:
    lent.read(b"BEGIN")
    lent.read(b"SET LOCAL statement_timeout = 0")
    lent.read(b"SET LOCAL lock_timeout = '60s'")
    lent.read(statement("only_migrator"), {"lock": f"aumai-transactions {address.schema}"})


def _built(lent: Lent, address: Address, known: Sequence[Migration], store_id: str) -> StoreRow:
    """Bring a store up to date, or make it, in the transaction that is open."""
    row = _found(lent, address)
    _make_schema(lent, address)
    for one in _pending(lent, row, known):
        lent.read(one.script.encode())
        have, usable = (row.schema_version, row.usable_from) if row else (0, one.version)
        values = {
            "store_id": row.store_id if row else store_id,
            "version": max(have, one.version),
            "usable_from": one.version if one.is_post else usable,
        }
        lent.read(statement("set_version" if row else "new_store"), values)
        row = StoreRow(values["store_id"], values["version"], values["usable_from"])  # type: ignore[arg-type]
    if row is None:
        raise InternalError("there is no migration.")
    return row


def _make_schema(lent: Lent, address: Address) -> None:
    there = lent.read(statement("find_schema"), {"schema": address.schema}).fetchone()
    # Why not IF NOT EXISTS alone: it asks for the right to make one even where there is one.
    if there is not None and not there[1]:
        making = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(address.schema))
        lent.read(making.as_bytes(None))
