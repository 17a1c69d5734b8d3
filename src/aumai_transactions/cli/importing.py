"""What an earlier release has left: `transactions.json` without a store.

Owns: reading that file once into a new default store.
Rules:
  1. Pending transactions stay pending; finished ones become records of which nothing runs.
  2. What cannot be taken over is said, item by item, and the file is kept.
  3. All of it is one durable write, and a second reader adds nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import ValidationError

from aumai_transactions.actions import ActionRegistry
from aumai_transactions.cli import snapshot
from aumai_transactions.clock import SystemClock
from aumai_transactions.core.entries import Entry, PlanRecorded, TransactionImported
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.core.saga import IllegalEntry, Saga
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.freezing import frozen
from aumai_transactions.errors import TransactionError
from aumai_transactions.models import Transaction, TransactionState
from aumai_transactions.store import Append, Query
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.wording.characters import shown

PROBLEMS_SHOWN_MAX = 20


class Malformed(Exception):
    """Say why one item cannot be taken over."""


def import_once(store: SqliteStore) -> list[str]:
    """Read an earlier release's file into an empty store; return what is to be said.

    Raises:
        OSError: The file cannot be read or renamed.
        StoreError: The store cannot be written.
    """
    path = snapshot.path_of(store.path)
    found = snapshot.look(path)
    items = snapshot.items_of(found.document) if found.kind == "foreign" else []
    if not items or store.count(Query()):
        return []
    source = path.name
    digest = hashlib.sha256(repr(items).encode("utf-8", "backslashreplace")).hexdigest()[:16]
    appends: dict[str, Append] = {}
    problems = []
    for place, item in items:
        try:
            append = _append(place, item, source, f"import-{digest}")
        except Malformed as problem:
            problems.append(f"  {shown(place)}: {shown(problem)}")
            continue
        if append.transaction_id in appends:
            problems.append(f"  {shown(place)}: {append.transaction_id} stands there twice")
        appends.setdefault(append.transaction_id, append)
    if appends:
        store.append(list(appends.values()))
    kept = snapshot.keep(path)
    total = f"{len(appends)} transaction{'' if len(appends) == 1 else 's'}"
    notes = [f"{total} taken over from {path}, which is kept as {kept.name}."]
    if problems:
        more = len(problems) - PROBLEMS_SHOWN_MAX
        listed = problems[:PROBLEMS_SHOWN_MAX] + ([f"  … and {more} more"] if more > 0 else [])
        notes.append("\n".join([f"{len(problems)} could not be taken over:", *listed]))
    return notes


def _append(place: str, item: object, source: str, name: str) -> Append:
    if not isinstance(item, dict):
        raise Malformed("is not an object")
    missing = [name for name in ("state", "created_at", "timeout_seconds") if name not in item]
    if missing:
        raise Malformed(f"has no {missing[0]}")
    fields: dict[str, Any] = {"transaction_id": place, **item}
    if isinstance(fields.get("steps"), int):
        if fields["steps"]:
            raise Malformed("its steps are only counted, not listed")
        fields["steps"] = []
    fields.pop("actions", None)
    try:
        transaction = Transaction.model_validate(fields)
        transaction_id = checked_name(transaction.transaction_id, "transaction_id")
        state, transaction.state = transaction.state, TransactionState.pending
        definition = frozen(transaction, ActionRegistry(), None)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Malformed(f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from None
    except (TransactionError, OverflowError) as error:
        raise Malformed(str(error)) from None
    if not transaction_id.isprintable():
        raise Malformed("its id holds characters that do not print")
    now = SystemClock().now()
    entry: Entry
    if state is TransactionState.pending:
        entry = PlanRecorded(now, definition)
    elif state.is_final:
        entry = TransactionImported(now, definition, state, source)
    else:
        raise Malformed(f"is {state.value}; nobody knows how far it had come")
    saga = Saga(transaction_id)
    try:
        evolve(saga, entry)
    except (TransactionError, IllegalEntry) as error:
        raise Malformed(str(error)) from None
    return Append(transaction_id, 0, f"{name}.{transaction_id}", [entry], summary_of(saga))
