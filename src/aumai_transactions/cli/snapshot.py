"""`transactions.json`: the default store, for reading without us.

Owns: that file. It holds what `status` prints and each step's action and state, no data.
Rules:
  1. The store is the truth. Nothing is ever read from the snapshot into an existing store.
  2. It is written under the store's writer lock, and replaced whole or not at all.
  3. A file that is not what we last wrote is kept as `transactions.json.orig`, and that is said.
Source: SEMANTICS J4.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aumai_transactions.core.journal import load
from aumai_transactions.core.outcome import Summary
from aumai_transactions.core.times import instant
from aumai_transactions.core.values import canonical_json
from aumai_transactions.errors import JournalCorrupt, JournalTooNew
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Query
from aumai_transactions.stores.sqlite import SqliteStore

FORMAT = 1
OPEN_MAX = 1_000
LATEST_MAX = 1_000
FILE_BYTES_MAX = 64 * 1024 * 1024

_ABOUT = (
    "What aumai-transactions last wrote about its store, for reading. The store is "
    "transactions.db; editing this file changes nothing."
)
_OPEN = tuple(state for state in TransactionState if not state.is_final)


@dataclass(frozen=True, slots=True)
class Found:
    """Hold what stands where the snapshot should.

    Args:
        path: The file.
        kind: `ours` is what we wrote; `edited` was ours; `foreign` is anything else.
        store_id: Of which store, where it is or was ours.
        changes: The store's change counter when it was written.
        count: How many transactions it holds, as far as can be told.
        document: The parsed file; None where it is no JSON.
    """

    path: Path
    kind: Literal["none", "ours", "edited", "foreign"]
    store_id: str = ""
    changes: int = 0
    count: int = 0
    document: Any = field(default=None, repr=False)


def path_of(store_path: Path) -> Path:
    """Return where the snapshot of a store is."""
    return store_path.with_suffix(".json")


def look(path: Path) -> Found:
    """Return what stands there.

    Raises:
        OSError: It cannot be read, or is not a file.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Found(path, "none")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is not a regular file")
    if status.st_size > FILE_BYTES_MAX:
        return Found(path, "foreign")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return Found(path, "foreign")
    count = len(items_of(document))
    if not isinstance(document, dict) or not isinstance(document.get("store_id"), str):
        return Found(path, "foreign", count=count, document=document)
    changes = document.get("changes")
    intact = isinstance(changes, int) and document.get("digest") == _digest(document)
    return Found(
        path,
        "ours" if intact else "edited",
        document["store_id"],
        changes if isinstance(changes, int) else 0,
        count,
        document,
    )


def items_of(document: object) -> list[tuple[str, Any]]:
    """Return the transactions of a document, ours or the seed's, each with its place.

    A document may be a list, or a mapping from ids, or hold one of these as `transactions`.
    """
    if isinstance(document, dict) and isinstance(document.get("transactions"), (dict, list)):
        document = document["transactions"]
    if isinstance(document, dict):
        pairs = list(document.items())
    elif isinstance(document, list):
        pairs = [(f"item {place}", item) for place, item in enumerate(document, 1)]
    else:
        return []
    looks_right = any(isinstance(item, dict) and "state" in item for _, item in pairs)
    return pairs if looks_right else []


def write(store: SqliteStore) -> list[str]:
    """Write the snapshot anew, unless a newer one stands there; return what is to be said.

    Raises:
        OSError: It could not be written; the former one still stands.
        StoreError: The store could not be read.
    """
    path = path_of(store.path)
    notes = []
    with store.writers_paused() as (store_id, changes):
        found = look(path)
        is_same = found.kind == "ours" and found.store_id == store_id
        if is_same and found.changes > changes:
            text = (
                f"{path} is newer than the store (change {found.changes} after {changes}); was "
                "the store restored from a backup? The snapshot is left as it is."
            )
            return [text]
        if is_same and found.changes == changes:
            return []
        if not is_same and found.kind != "none":
            notes.append(_kept_note(found, keep(path)))
        former = dict(items_of(found.document)) if is_same else {}
        document = _document(store, store_id, changes, former)
        _replace(path, json.dumps(document, indent=1).encode("ascii") + b"\n")
    return notes


def keep(path: Path) -> Path:
    """Rename a file to the first free name with `.orig`; nothing is replaced."""
    number = 1
    while True:
        suffix = ".orig" if number == 1 else f".orig.{number}"
        target = path.with_name(path.name + suffix)
        number += 1
        try:
            os.link(path, target)
        except FileExistsError:
            continue
        except OSError:
            # A file system without links.
            try:
                with path.open("rb") as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy)
            except FileExistsError:
                continue
        path.unlink()
        return target


def _kept_note(found: Found, kept: Path) -> str:
    why = {
        "ours": "was written for another store",
        "edited": "had been edited",
        "foreign": "was not written by this program",
    }[found.kind]
    return (
        f"{found.path} {why}; it is kept as {kept.name}. What it holds is not in the store; "
        "`aumai-transactions import`, which comes with a later release, will read it."
    )


def _document(
    store: SqliteStore, store_id: str, changes: int, former: Mapping[str, Any]
) -> dict[str, Any]:
    newest = store.find(Query(limit=LATEST_MAX, newest_first=True))
    still_open = store.find(Query(states=_OPEN, limit=OPEN_MAX, newest_first=True))
    by_position = {listed.position: listed.summary for listed in [*newest, *still_open]}
    summaries = [by_position[position] for position in sorted(by_position)]
    document = {
        "about": _ABOUT,
        "format": FORMAT,
        "store_id": store_id,
        "changes": changes,
        "total": store.count(Query()),
        "transactions": {
            summary.transaction_id: _item(store, summary, former.get(summary.transaction_id))
            for summary in summaries
        },
    }
    return document | {"digest": _digest(document)}


def _item(store: SqliteStore, summary: Summary, former: object) -> dict[str, Any]:
    item: dict[str, Any] = {
        "transaction_id": summary.transaction_id,
        "state": summary.state.value,
        "steps": summary.steps,
        "created_at": instant(summary.created_at).isoformat(),
        "timeout_seconds": summary.timeout_seconds,
        "updated_at": instant(summary.updated_at).isoformat(),
    }
    # Why: most of up to 2,000 transactions have not changed since, and reading all of their
    # journals again would make every command slow.
    if isinstance(former, dict) and all(former.get(key) == item[key] for key in item):
        return former
    return item | {"step_states": _step_states(store, summary.transaction_id)}


def _step_states(store: SqliteStore, transaction_id: str) -> list[dict[str, str]] | None:
    journal = store.read(transaction_id)
    if journal is None:
        return None
    try:
        saga = load(journal)
    except (JournalCorrupt, JournalTooNew):
        return None  # `verify` names it; the others are not to suffer.
    return [
        {
            "step_id": step.step_id,
            "action": step.definition.action,
            "state": step.state.value,
        }
        for step in saga.steps
    ]


def _digest(document: Mapping[str, Any]) -> str:
    content = {key: value for key, value in document.items() if key != "digest"}
    try:
        return hashlib.sha256(canonical_json(content)).hexdigest()
    except (ValueError, RecursionError):
        return ""


def _replace(path: Path, content: bytes) -> None:
    folder, prefix = path.parent, f".{path.name}."
    with suppress(OSError):
        # What killed processes have left: nobody else writes now, for we hold the lock.
        for name in os.listdir(folder):  # noqa: PTH208 (names are all that is needed)
            if name.startswith(prefix):
                (folder / name).unlink()
    temporary = folder / f"{prefix}{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            # Order matters: the content is durable before it has the name.
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
