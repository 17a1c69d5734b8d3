"""What a new store begins with, where it does not begin empty.

Owns: making a store and writing its contents in one transaction.
Rules:
  1. All of it is committed at once: whoever dies on the way leaves no store.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.errors import StoreError, StoreUnavailable
from aumai_transactions.stores.postgres import schema
from aumai_transactions.stores.postgres.address import address_of
from aumai_transactions.stores.postgres.appending import Change, Head
from aumai_transactions.stores.postgres.pool import Pool
from aumai_transactions.stores.postgres.statements import statement
from aumai_transactions.stores.postgres.writing import write_changes

if TYPE_CHECKING:
    from aumai_transactions.store import Contents, Filled
    from aumai_transactions.stores.postgres.address import Address
    from aumai_transactions.stores.postgres.pool import Lent


def fill_new(url: str, contents: Contents) -> None:
    """Make a store with these contents, or nothing at all.

    Raises:
        StoreError: There is a store already, or the contents cannot be had.
    """
    address = address_of(url)
    pool = Pool(address)
    try:
        # Why not patient: the contents can be walked through once only.
        pool.run(partial(_fill, address=address, contents=contents), is_patient=False)
    finally:
        pool.close()


def _fill(lent: Lent, address: Address, contents: Contents) -> None:
    row = schema.begun(lent, address, contents.store_id)
    if row is None:
        raise StoreError(
            f"there is a store in {address.place}, and a restored one goes to a new place only. "
            "Name another schema with ?schema=NAME, or another database. Nothing was changed."
        )
    # Why: between two statements the file is read and checked.
    lent.read(b"SET LOCAL idle_in_transaction_session_timeout = 0")
    for filled in contents.transactions():
        # Why one by one: a statement for many gives them their places by id, not by arrival.
        if not write_changes(lent.read, [_change_of(filled)]):
            raise StoreUnavailable("somebody else writes into the new store. Nothing was changed.")
    _write_locks(lent, contents)
    lent.read(statement("set_changes"), {"changes": max(contents.changes, 1)})
    lent.write(b"COMMIT")


def _change_of(filled: Filled) -> Change:
    journal = filled.journal
    summary = filled.summary
    labelled = (summary.name, summary.agents, summary.actions, summary.metadata)
    token, driver_id = journal.token, journal.driver_id
    head = Head(None, journal.head_sequence, journal.head_hash, token, driver_id, None, labelled)
    bodies = [entry.body for entry in journal.entries]
    hashes = [entry.hash for entry in journal.entries]
    return Change(journal.transaction_id, Head(), head, summary, bodies, hashes)


def _write_locks(lent: Lent, contents: Contents) -> None:
    fences, held = contents.fences(), contents.holdings()
    lent.read(statement("claim_resources"), {"names": sorted(fences)})
    values = {
        "name": list(fences),
        "token": [fence.token for fence in fences.values()],
        "version": [fence.version for fence in fences.values()],
    }
    lent.read(statement("move_fences"), values)
    columns = {
        "resource": [holding.resource for _, holding in held],
        "transaction_id": [name for name, _ in held],
        "mode": [holding.mode for _, holding in held],
        "token": [holding.token for _, holding in held],
        "cost": [holding.cost for _, holding in held],
    }
    lent.read(statement("add_locks"), columns)
