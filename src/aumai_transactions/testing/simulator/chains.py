"""Whether a journal can be changed without anybody noticing (invariant I11).

Owns: the hash of an entry, told again from docs/semantics.md (A) and not from the core, and what is
done to a journal that must be found out when it is read.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from aumai_transactions.core.journal import Journal, StoredEntry, load
from aumai_transactions.errors import JournalCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMAT = 1


def problems(journal: Journal, *, tampers: bool) -> Iterator[str]:
    """Yield where a journal's chain is not what it is said to be, or does not protect it.

    Args:
        journal: The journal.
        tampers: True to change it in several ways as well, and to look whether that is found.
    """
    before = bytes(32)
    name = journal.transaction_id.encode()
    for stored in journal.entries:
        said = f"{_FORMAT} {len(name)} {journal.transaction_id} {stored.sequence} ".encode()
        if hashlib.sha256(said + before + stored.body).digest() != stored.hash:
            yield f"the hash of entry {stored.sequence} is not that of its text, place and past"
            return
        before = stored.hash
    for what, changed in _changed(journal) if tampers else ():
        try:
            load(changed)
        except JournalCorrupt:
            continue
        yield f"{what}, and it is read as if nothing had happened"


TAMPERED_ENTRIES_MIN = 4


def _changed(journal: Journal) -> Iterator[tuple[str, Journal]]:
    entries = journal.entries
    middle = len(entries) // 2
    one = entries[middle]
    edited = one._replace(body=one.body[:-1] + b" }")
    yield f"entry {middle + 1} was edited", _with(journal, middle, edited)
    kept = (*entries[:middle], *entries[middle + 1 :])
    again = [StoredEntry(number, e.body, e.hash) for number, e in enumerate(kept, 1)]
    removed = journal._replace(entries=tuple(again), head_sequence=len(again))
    yield f"entry {middle + 1} was removed", removed


def _with(journal: Journal, index: int, entry: StoredEntry) -> Journal:
    entries = (*journal.entries[:index], entry, *journal.entries[index + 1 :])
    return journal._replace(entries=entries)
