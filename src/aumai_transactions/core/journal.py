"""How a journal is chained, and how it is read.

Owns: the hash chain (invariant I11) and the one way from stored entries to a saga. Every
reader goes through `load`, so every read checks the chain.
Rules:
  1. The hash of an entry covers the format version, the transaction id, the sequence, the hash
     before it and the stored body: an entry that was edited, removed from the middle, reordered
     or moved to another transaction does not fit.
  2. A journal is read without running anything of the user's (invariant I16).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.core.codec import FORMAT_VERSION, decode
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.saga import IllegalEntry, Saga
from aumai_transactions.errors import DefinitionError, JournalCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aumai_transactions.core.entries import Entry

NO_HASH = bytes(32)


class StoredEntry(NamedTuple):
    """Hold one entry as a store keeps it.

    Args:
        sequence: Its place in its transaction's journal, from 1.
        body: The bytes that were hashed.
        hash: SHA-256, 32 bytes.
    """

    sequence: int
    body: bytes
    hash: bytes


class Journal(NamedTuple):
    """Hold the whole journal of one transaction as a store keeps it.

    Args:
        transaction_id: Whose it is.
        entries: In sequence.
        head_sequence: The last sequence, as the store's summary says.
        head_hash: The last hash, as the store's summary says.
        token: The fencing token in force; 0 where nobody has claimed it yet.
        driver_id: Who holds it; None where nobody does.
    """

    transaction_id: str
    entries: tuple[StoredEntry, ...]
    head_sequence: int
    head_hash: bytes
    token: int
    driver_id: str | None


def chain_hash(transaction_id: str, sequence: int, before: bytes, body: bytes) -> bytes:
    """Return the hash of one entry.

    Args:
        transaction_id: Whose entry it is.
        sequence: Its place, from 1.
        before: The hash of the entry before it; `NO_HASH` for the first.
        body: Its stored bytes.
    """
    name = transaction_id.encode("utf-8")
    # Why the length of the name: without it, two different splits of the same bytes into name
    # and sequence would hash alike.
    head = b"%d %d %s %d " % (FORMAT_VERSION, len(name), name, sequence)
    return hashlib.sha256(head + before + body).digest()


def load(journal: Journal) -> Saga:
    """Return what a journal says, every entry checked.

    Raises:
        JournalCorrupt: The chain, the head or an entry does not fit; names the entry.
        JournalTooNew: A newer release wrote an entry.
    """
    saga = Saga(journal.transaction_id)
    for _entry in replay(journal, saga):
        pass
    saga.driver_id = journal.driver_id
    saga.touched.clear()
    return saga


def replay(journal: Journal, saga: Saga) -> Iterator[Entry]:
    """Let a new saga say each entry of a journal, and yield the entry after it was said.

    Raises:
        JournalCorrupt: The chain, the head or an entry does not fit; names the entry.
        JournalTooNew: A newer release wrote an entry.
    """
    for sequence, (_entry_id, entry) in enumerate(entries(journal), 1):
        try:
            evolve(saga, entry)
            _ = saga.plan  # a journal begins with a plan, and this says so where it does not
        except (IllegalEntry, DefinitionError) as error:
            raise JournalCorrupt(journal.transaction_id, sequence, str(error)) from error
        yield entry


def entries(journal: Journal) -> Iterator[tuple[str, Entry]]:
    """Yield entry id and entry, each checked against the chain.

    Raises:
        JournalCorrupt: The chain, the head or an entry does not fit; names the entry.
        JournalTooNew: A newer release wrote an entry.
    """
    name = journal.transaction_id
    before = NO_HASH
    expected = 1
    for stored in journal.entries:
        if stored.sequence != expected:
            problem = f"expected entry {expected}, found {stored.sequence!r:.40}"
            raise JournalCorrupt(name, expected, problem)
        row: tuple[object, ...] = (stored.body, stored.hash)
        if not all(isinstance(part, bytes) for part in row):
            raise JournalCorrupt(name, expected, "its row holds something else than bytes")
        if chain_hash(name, expected, before, stored.body) != stored.hash:
            raise JournalCorrupt(name, expected, "its hash does not fit its text and its place")
        before = stored.hash
        yield decode(stored.body, name, expected)
        expected += 1
    last = expected - 1
    said: object = journal.head_sequence
    if not isinstance(said, int):
        raise JournalCorrupt(name, last, "the summary does not say how many entries there are")
    if journal.head_sequence != last:
        problem = f"the summary says {journal.head_sequence} entries, found {last}"
        raise JournalCorrupt(name, min(last, journal.head_sequence) + 1, problem)
    if last == 0:
        raise JournalCorrupt(name, 0, "it has no entries")
    if journal.head_hash != before:
        raise JournalCorrupt(name, last, "its hash is not the one that the summary names")


def entry_ids(marks: Sequence[tuple[int, str]], count: int) -> Iterator[str]:
    """Yield the id of each entry, from where each append begins.

    Args:
        marks: Behind how many entries each append stands, and its id.
        count: How many entries there are.
    """
    ends = [start for start, _ in marks[1:]]
    for (start, append_id), end in zip(marks, [*ends, count], strict=True):
        for index in range(end - start):
            yield f"{append_id}.{index}"
