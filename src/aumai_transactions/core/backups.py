"""What a backup says, line by line.

Owns: the form of a backup: a text of lines, each one JSON object in UTF-8, the same for every
store, so that what was kept in one can go on in another.

    {"backup":1,"changes":…,"made_at":…,"release":…,"store_id":…}     the head
    {"driver_id":…,"entries":n,"hash":…,"transaction":…}              one for each transaction, and
    …                                                                 n bodies of entries behind it
    {"damaged":…,"problem":…}                                         what could not be backed up
    {"fence":…,"token":…,"version":…}                                 one for each resource
    {"transaction":…,"waits":…}                                       who waits, in order of arrival
    {"end":{"entries":…,"fences":…,"transactions":…},"sha256":…}      of every byte before this line

Rules:
  1. The body of an entry is the very bytes that were hashed. Hashes are computed again by whoever
     reads: nothing in the file is believed because it says so itself.
  2. What has no end line, or another hash, is no backup.
  3. Every line and every journal has a limit, in both directions.

Source of the shape: a mysqldump-like logical copy, with the closing line of a tar's or a Git
bundle's checksum.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from aumai_transactions.core.journal import NO_HASH, Journal, StoredEntry, chain_hash
from aumai_transactions.core.values import canonical_json

FORMAT = 1
LINE_BYTES_MAX = 32 * 1024 * 1024
JOURNAL_BYTES_MAX = 256 * 1024 * 1024
ENTRIES_MAX = 1_000_000
NUMBER_MAX = 2**63 - 1


class Malformed(Exception):
    """Say what is wrong with a line of a backup."""


class Head(NamedTuple):
    """Hold the first line.

    Args:
        store_id: Whose it is.
        changes: The store's change counter when the copy was taken.
        made_at: When that was, microseconds since 1970 UTC.
        release: Which release made it.
    """

    store_id: str
    changes: int
    made_at: int
    release: str


class Begun(NamedTuple):
    """Hold the line before the entries of one transaction."""

    transaction_id: str
    entries: int
    hash: bytes
    driver_id: str | None


class Damaged(NamedTuple):
    """Hold the name of a transaction that could not be backed up, and why."""

    transaction_id: str
    problem: str


class FenceLine(NamedTuple):
    """Hold what is remembered about a resource."""

    resource: str
    token: int
    version: int


class WaitLine(NamedTuple):
    """Hold that a transaction waits for a resource."""

    resource: str
    transaction_id: str


class End(NamedTuple):
    """Hold the last line."""

    transactions: int
    entries: int
    fences: int
    sha256: str


Line = Head | Begun | Damaged | FenceLine | WaitLine | End


def written(line: Line) -> bytes:
    """Return a line's bytes, its end included."""
    return canonical_json(_object(line)) + b"\n"


def _object(line: Line) -> dict[str, Any]:
    match line:
        case Head():
            return {"backup": FORMAT, **line._asdict()}
        case Begun(name, entries, digest, driver_id):
            found = {"transaction": name, "entries": entries, "hash": digest.hex()}
            return {**found, "driver_id": driver_id}
        case Damaged(name, problem):
            return {"damaged": name, "problem": problem}
        case FenceLine(resource, token, version):
            return {"fence": resource, "token": token, "version": version}
        case WaitLine(resource, name):
            return {"waits": resource, "transaction": name}
        case End():
            counts = line._asdict()
            return {"sha256": counts.pop("sha256"), "end": counts}


def read(line: bytes) -> Line:
    """Return what a line says.

    Raises:
        Malformed: It is no line of a backup, or a newer release wrote it.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"it is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise Malformed("it is not a JSON object")
    if "backup" in found:
        if found["backup"] != FORMAT:
            raise Malformed(
                f"it has the format {found['backup']!r:.40}, this release reads {FORMAT}"
            )
        return Head(
            _text(found, "store_id"),
            _number(found, "changes"),
            _number(found, "made_at"),
            _text(found, "release"),
        )
    if "waits" in found:
        return WaitLine(_text(found, "waits"), _text(found, "transaction"))
    if "transaction" in found:
        driver_id = found.get("driver_id")
        return Begun(
            _text(found, "transaction"),
            _number(found, "entries", ENTRIES_MAX),
            _digest(found, "hash"),
            None if driver_id is None else _text(found, "driver_id"),
        )
    if "damaged" in found:
        return Damaged(_text(found, "damaged"), _text(found, "problem"))
    if "fence" in found:
        return FenceLine(_text(found, "fence"), _number(found, "token"), _number(found, "version"))
    if "end" in found and isinstance(found["end"], dict):
        counts = [_number(found["end"], name) for name in ("transactions", "entries", "fences")]
        return End(counts[0], counts[1], counts[2], _digest(found, "sha256").hex())
    raise Malformed("this release does not know what it says")


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or "\0" in value:
        raise Malformed(f"{name} is not a text")
    try:
        value.encode()
    except UnicodeError:
        raise Malformed(f"{name} is not a text") from None
    return value


def _number(found: dict[str, Any], name: str, most: int = NUMBER_MAX) -> int:
    value = found.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise Malformed(f"{name} is not a number from 0 to {most:,}")
    return value


def _digest(found: dict[str, Any], name: str) -> bytes:
    value = found.get(name)
    try:
        digest = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        digest = b""
    if len(digest) != len(NO_HASH):
        raise Malformed(f"{name} is not a SHA-256")
    return digest


def chained(begun: Begun, bodies: list[bytes], token: int = 0) -> Journal:
    """Return a journal of these bodies, its hashes computed.

    Args:
        begun: The line before them; its hash must be that of the last one.
        bodies: The entries' bytes.
        token: The token in force.

    Raises:
        Malformed: The last hash is another one.
    """
    before, entries = NO_HASH, []
    for sequence, body in enumerate(bodies, 1):
        before = chain_hash(begun.transaction_id, sequence, before, body)
        entries.append(StoredEntry(sequence, body, before))
    if before != begun.hash:
        raise Malformed(f"the entries of transaction {begun.transaction_id} have another hash")
    return Journal(
        begun.transaction_id, tuple(entries), len(entries), before, token, begun.driver_id
    )


def why_not(journal: Journal) -> str | None:
    """Return why a journal cannot stand in a backup; None where it can."""
    size = 0
    for entry in journal.entries:
        size += len(entry.body)
        if b"\n" in entry.body:
            return "an entry of it is not one line"
        if len(entry.body) >= LINE_BYTES_MAX:
            return f"an entry of it is longer than {LINE_BYTES_MAX:,} bytes"
    if size > JOURNAL_BYTES_MAX or len(journal.entries) > ENTRIES_MAX:
        return f"it is longer than {JOURNAL_BYTES_MAX:,} bytes or {ENTRIES_MAX:,} entries"
    return None
