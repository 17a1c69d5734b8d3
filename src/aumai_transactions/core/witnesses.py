"""What a head witness says, line by line, and what it is to have a journal before one.

Owns: the form of a witness: a text of lines, each one JSON object in UTF-8, that only grows. Each
look at a store adds

    {"at":…,"changes":…,"heads":n,"store_id":…,"witness":1}                when, and of which store
    {"hash":…,"is_over":…,"sequence":…,"transaction":…,"updated_at":…}     n heads that have moved
    {"seal":…}                                     SHA-256 of the seal before and of these lines

Rules:
  1. A head that was witnessed stands in its journal for ever: at this sequence, with this hash. So
     a cut tail, a chain that was written anew and an older copy of the store are found out, which
     no look at the store alone can tell (invariant I11).
  2. A look without its seal was not finished, and says nothing.
  3. A look never takes back what an earlier one has said: every line counts.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

from aumai_transactions.core.values import canonical_json

FORMAT = 1
LINE_BYTES_MAX = 16 * 1024
NO_SEAL = "0" * 64
NUMBER_MAX = 2**63 - 1


class Malformed(Exception):
    """Say what is wrong with a witness, and in which line."""


class Head(NamedTuple):
    """Hold the end of one journal.

    Args:
        transaction_id: Whose.
        sequence: Its last sequence.
        hash: Its last hash.
        updated_at: When it changed last, microseconds since 1970 UTC.
        is_over: True where it has ended and needs nobody, so that it may be purged.
    """

    transaction_id: str
    sequence: int
    hash: bytes
    updated_at: int
    is_over: bool


class Witness:
    """Hold all that a witness says.

    Args:
        store_id: Of which store; empty where nobody has looked yet.
    """

    def __init__(self, store_id: str = "") -> None:
        self.store_id = store_id
        self.changes = 0
        self.seal = NO_SEAL
        self.latest: dict[str, Head] = {}
        self.all: dict[str, dict[int, bytes]] = {}

    def add(self, head: Head) -> None:
        """Take in a head."""
        self.latest[head.transaction_id] = head
        self.all.setdefault(head.transaction_id, {})[head.sequence] = head.hash

    def problem_of(self, transaction_id: str, hashes: list[bytes]) -> str | None:
        """Return what a journal contradicts; None where it fits.

        Args:
            transaction_id: Whose journal.
            hashes: The hashes of its entries, in sequence.
        """
        heads = self.all.get(transaction_id, {})
        for sequence in sorted(heads):
            if sequence > len(hashes):
                last = max(heads)
                return (
                    f"the journal of transaction {transaction_id} ends at entry {len(hashes)}, and "
                    f"the witness has seen entry {last}: its tail is lost. Restore a backup that "
                    "has it, or find out from the participants what has happened."
                )
            if hashes[sequence - 1] != heads[sequence]:
                return (
                    f"the journal of transaction {transaction_id} is not the one that was "
                    f"witnessed: entry {sequence} has another hash. Compare it with a backup."
                )
        return None

    def missing(self, there: set[str], purged_before: int) -> dict[str, str]:
        """Return which witnessed transactions are not there, and may not have been purged.

        Args:
            there: Those that are.
            purged_before: What had ended before this time may be gone; microseconds since 1970
                UTC, 0 for nothing.
        """
        found = {}
        for name, head in self.latest.items():
            if name in there or (head.is_over and head.updated_at < purged_before):
                continue
            found[name] = (
                f"transaction {name} is not there, and the witness has seen it"
                f"{' (it had ended; was it purged?)' if head.is_over else ''}. Restore a backup "
                "that has it, or find out from the participants what has happened."
            )
        return found


def look(witness: Witness, store_id: str, changes: int, at: int, heads: list[Head]) -> bytes:
    """Return the lines of one look, and let the witness know them."""
    first = {"witness": FORMAT, "store_id": store_id, "changes": changes, "at": at}
    text = canonical_json({**first, "heads": len(heads)}) + b"\n"
    rows = []
    for head in heads:
        row = {
            "transaction": head.transaction_id,
            "sequence": head.sequence,
            "hash": head.hash.hex(),
            "updated_at": head.updated_at,
            "is_over": head.is_over,
        }
        rows.append(canonical_json(row) + b"\n")
        witness.add(head)
    text += b"".join(rows)
    witness.store_id, witness.changes = store_id, max(witness.changes, changes)
    witness.seal = seal_of(witness.seal, text)
    return text + canonical_json({"seal": witness.seal}) + b"\n"


def seal_of(before: str, text: bytes) -> str:
    """Return the seal of a look."""
    return hashlib.sha256(before.encode() + text).hexdigest()


class Reader:
    """Read a witness line by line."""

    def __init__(self) -> None:
        self.witness = Witness()
        self._first: dict[str, Any] | None = None
        self._heads: list[Head] = []
        self._text = b""
        self._number = 0

    def take(self, line: bytes) -> None:
        """Take in the next line.

        Raises:
            Malformed: It cannot stand there.
        """
        self._number += 1
        if line == b"\n":
            return  # Behind a line that somebody died in.
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not line.endswith(b"\n"):
            # Somebody died in it; what follows must be a new look.
            self._forget()
            return
        if "witness" in found:
            self._begin(found, line)
        elif "seal" in found:
            self._end(found)
        elif self._first is not None:
            self._text += line
            self._heads.append(self._head(found))

    def _forget(self) -> None:
        self._first, self._heads, self._text = None, [], b""

    def _begin(self, found: dict[str, Any], line: bytes) -> None:
        self._forget()
        if found["witness"] != FORMAT:
            raise self._wrong("a newer release wrote it")
        if not isinstance(found.get("store_id"), str) or type(found.get("changes")) is not int:
            raise self._wrong("it does not say of which store it is")
        if self.witness.store_id not in ("", found["store_id"]):
            raise self._wrong("it is of another store than those above")
        self._first, self._text = found, line

    def _end(self, found: dict[str, Any]) -> None:
        first, heads = self._first, self._heads
        if first is None:
            raise self._wrong("a seal without what it seals: the lines above it are damaged")
        seal = seal_of(self.witness.seal, self._text)
        if seal != found["seal"] or len(heads) != first.get("heads"):
            raise self._wrong("its seal does not fit the lines above it")
        self.witness.store_id = first["store_id"]
        self.witness.changes = max(self.witness.changes, first["changes"])
        self.witness.seal = seal
        for head in heads:
            self.witness.add(head)
        self._forget()

    def _head(self, found: dict[str, Any]) -> Head:
        name, sequence, digest = found.get("transaction"), found.get("sequence"), found.get("hash")
        updated_at, is_over = found.get("updated_at"), found.get("is_over")
        fits = isinstance(name, str) and isinstance(digest, str) and isinstance(is_over, bool)
        if not fits or type(sequence) is not int or type(updated_at) is not int or sequence < 1:
            raise self._wrong("it is no head of a journal")
        try:
            return Head(str(name), sequence, bytes.fromhex(str(digest)), updated_at, bool(is_over))
        except ValueError:
            raise self._wrong("it is no head of a journal") from None

    def _wrong(self, problem: str) -> Malformed:
        return Malformed(f"line {self._number}: {problem}")
