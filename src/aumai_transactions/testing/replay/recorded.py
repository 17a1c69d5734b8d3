"""Where recorded journals come from.

Owns: the ways to hand one over: a store, a journal, or the JSON that `aumai-transactions show`
prints, as an object or in a file.
Rules:
  1. A journal is read without running anything of the user's (invariant I16).
  2. What stands in JSON was told for people; it becomes a journal again by the same codec, and what
     is no entry is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aumai_transactions.core.codec import FORMAT_VERSION
from aumai_transactions.core.journal import NO_HASH, Journal, StoredEntry, chain_hash
from aumai_transactions.core.kinds import KINDS
from aumai_transactions.core.values import canonical_json
from aumai_transactions.errors import InvalidData
from aumai_transactions.store import Query
from aumai_transactions.stores import open_store

PAGE = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANTS = ("due_at", "until")
_ENDINGS = (".json", ".jsonl")


class CannotRead(ValueError):
    """Say why something is no recorded journal; the message says what is."""


def journals_of(source: Any) -> Iterator[Journal]:
    """Yield every journal that something holds.

    Args:
        source: A store; a journal; what `show --json` or `show --events --json` prints, read; a
            path to a file with that, a line or a whole; a path or URL of a store; a folder of
            such files; or several of all these.

    Raises:
        CannotRead: It is none of these.
        StoreError: The store cannot be opened or read.
    """
    if isinstance(source, Journal):
        yield source
    elif isinstance(source, Mapping):
        yield _from_events(_events_in(source))
    elif isinstance(source, (str, Path)):
        yield from _at(source)
    elif hasattr(source, "find") and hasattr(source, "read"):
        yield from _in_store(source)
    elif isinstance(source, Iterable):
        listed = list(source)
        if listed and all(isinstance(one, Mapping) and "sequence" in one for one in listed):
            yield _from_events(listed)
            return
        for one in listed:
            yield from journals_of(one)
    else:
        raise CannotRead(f"{type(source).__name__} is no recorded journal: {_KNOWN}")


_KNOWN = (
    "give a store, the path or URL of one, a file with what `aumai-transactions show TX --json` "
    "prints, or what is read from that."
)


def _at(place: str | Path) -> Iterator[Journal]:
    path = Path(place)
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.suffix in _ENDINGS:
                yield from _in_file(file)
    elif path.suffix in _ENDINGS:
        yield from _in_file(path)
    else:
        store = open_store(str(place), create=False)
        try:
            yield from _in_store(store)
        finally:
            store.close()


def _in_file(path: Path) -> Iterator[Journal]:
    try:
        text = path.read_text("utf-8")
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        found = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise CannotRead(f"{path} cannot be read as JSON: {error}") from None
    for one in found:
        try:
            yield from journals_of(one)
        except CannotRead as error:
            raise CannotRead(f"{path}: {error}") from None


def _in_store(store: Any) -> Iterator[Journal]:
    query = Query(limit=PAGE)
    while page := store.find(query):
        for listed in page:
            journal = store.read(listed.summary.transaction_id)
            if journal is not None:
                yield journal
        query = query._replace(after=page[-1].position)


def _events_in(shown: Mapping[str, Any]) -> list[Any]:
    events = shown.get("events")
    if not isinstance(events, list) or not events:
        raise CannotRead(f"this JSON has no list of events: {_KNOWN}")
    return events


def _from_events(events: list[Any]) -> Journal:
    """Return the journal that events tell of."""
    name, before, stored = "", NO_HASH, []
    for number, event in enumerate(events, 1):
        if not isinstance(event, Mapping):
            raise CannotRead(f"event {number} is no object: {_KNOWN}")
        name = name or str(event.get("transaction_id", ""))
        if event.get("sequence") != number or event.get("transaction_id") != name:
            raise CannotRead(
                f"event {number} is not entry {number} of {name}: the JSON must hold the whole "
                "journal of one transaction."
            )
        body = _body(event, number)
        before = chain_hash(name, number, before, body)
        stored.append(StoredEntry(number, body, before))
    return Journal(name, tuple(stored), len(stored), before, 0, None)


def _body(event: Mapping[str, Any], number: int) -> bytes:
    """Return an event as the entry that it was."""
    kind, fields = event.get("kind"), event.get("fields", {})
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None or not isinstance(fields, Mapping):
        raise CannotRead(f"event {number} is of no kind that this release knows: {kind!r:.80}")
    try:
        body: dict[str, Any] = dict(fields) | {"at": _microseconds(event["at"])}
        for name in _INSTANTS:
            if isinstance(body.get(name), str):
                body[name] = _microseconds(body[name])
        if "step_id" in cls._fields and event.get("step_id") is not None:
            body["step_id"] = event["step_id"]
        body |= {"v": FORMAT_VERSION, "id": f"recorded.{number}", "kind": kind}
        return canonical_json(body)
    except (KeyError, TypeError, ValueError, InvalidData) as error:
        raise CannotRead(f"event {number} ({kind}) cannot be read: {error!r}") from None


def _microseconds(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
