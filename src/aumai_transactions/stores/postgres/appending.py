"""What becomes of appends, given the heads of their journals.

Owns: the six answers, and what is to be written for those that are accepted. No I/O.
Rules:
  1. Appends to different transactions have nothing to do with each other; those to the same one
     build on each other, in their order.
  2. Where an answer takes a look into the database, it is asked for; without one, `NotKnown`.
  3. What a head is compared with when it is written (`was`) is what was decided on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from aumai_transactions.core.codec import encode
from aumai_transactions.core.happenings import Happening, happenings
from aumai_transactions.core.journal import NO_HASH, chain_hash
from aumai_transactions.core.labels import Labels, labels_of
from aumai_transactions.core.locking import Change as LockChange
from aumai_transactions.errors import StoreError
from aumai_transactions.store import Append, AppendAnswer, check_append

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.core.outcome import Attention, Summary


Labelled: TypeAlias = "tuple[str | None, tuple[str, ...], tuple[str, ...], dict[str, str] | None]"


class Head(NamedTuple):
    """Hold the end of one journal, as it is known.

    Args:
        ordinal: Its place in the order of arrival; None where there is no such journal.
        sequence: Its last sequence.
        hash: Its last hash.
        token: The token in force.
        driver_id: Who holds it.
        attention: Why a person has to look.
        labelled: What it is searched by, as its summary has it; None where that is not remembered.
    """

    ordinal: int | None = None
    sequence: int = 0
    hash: bytes = NO_HASH
    token: int = 0
    driver_id: str | None = None
    attention: Attention | None = None
    labelled: Labelled | None = None


class Prepared(NamedTuple):
    """Hold an append, its place in the call, and the bodies of its entries."""

    place: int
    append: Append
    bodies: list[bytes]


class NotKnown(Exception):
    """Say that an answer takes a look into the database."""


class Looks(Protocol):
    """Look into the database, where the answer depends on more than a head."""

    def entry_ids(self, ordinal: int, first: int, last: int) -> list[str | None]:
        """Return the ids of the entries behind `first`, up to `last`."""

    def is_alive(self, driver_id: str) -> bool:
        """Tell whether the driver that holds the transaction lives."""

    def take(self, append: Append) -> LockChange | None:
        """Take the resources that an append holds; None where it must not."""


class Blind:
    """Look at nothing: for whoever decides on remembered heads only."""

    def entry_ids(self, ordinal: int, first: int, last: int) -> list[str | None]:  # noqa: ARG002
        """Refuse to tell."""
        raise NotKnown

    def is_alive(self, driver_id: str) -> bool:  # noqa: ARG002
        """Refuse to tell."""
        raise NotKnown

    def take(self, append: Append) -> LockChange | None:  # noqa: ARG002
        """Refuse to tell."""
        raise NotKnown


@dataclass(slots=True)
class Change:
    """Hold what is to be written to one transaction.

    Args:
        transaction_id: Which.
        was: Its head, as it was decided on.
        head: Its head afterwards.
        summary: What lists show afterwards.
        bodies: The new entries' bytes.
        hashes: The new entries' hashes.
        tells: True where others may wait for this.
        locks: What changes in the table of locks.
        told: What it brings about, for webhooks.
    """

    transaction_id: str
    was: Head
    head: Head
    summary: Summary
    bodies: list[bytes]
    hashes: list[bytes]
    tells: bool = False
    locks: list[LockChange] = field(default_factory=list)
    told: list[Happening] = field(default_factory=list)

    @property
    def labels(self) -> Labels | None:
        """What it is searched by; None where that stays as it was."""
        labelled = self.head.labelled
        if labelled is None or labelled == self.was.labelled:
            return None
        return labels_of(self.transaction_id, *labelled)

    @property
    def purgeable_at(self) -> int | None:
        """When it changed last, where nothing of it will change any more."""
        summary = self.summary
        is_over = summary.state.is_final and not summary.runnable and summary.attention is None
        return summary.updated_at if is_over else None


@dataclass(slots=True)
class Decision:
    """Hold the answers to the appends of one transaction, and what is to be written for them."""

    answers: list[AppendAnswer] = field(default_factory=list)
    change: Change | None = None


def prepare(appends: Sequence[Append]) -> dict[str, list[Prepared]]:
    """Return the appends of a call by their transactions, their entries encoded.

    Raises:
        StoreError: An entry cannot be written as JSON.
    """
    groups: dict[str, list[Prepared]] = {}
    for place, append in enumerate(appends):
        if append.token is None or append.driver_id is not None:
            check_append(append)
        name = append.append_id
        try:
            # Why: a lone surrogate has no bytes, and a name's bytes are hashed.
            append.transaction_id.encode()
            bodies = [encode(entry, f"{name}.{i}") for i, entry in enumerate(append.entries)]
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(
                f"an entry of transaction {append.transaction_id} cannot be written: {error}"
            ) from error
        groups.setdefault(append.transaction_id, []).append(Prepared(place, append, bodies))
    return groups


def decide(head: Head, group: Sequence[Prepared], looks: Looks) -> Decision:
    """Return the answers to the appends of one transaction.

    Raises:
        NotKnown: An answer takes a look that `looks` does not give.
    """
    deciding = _Deciding(head, looks)
    for prepared in group:
        deciding.take(prepared)
    return deciding.decision


class _Deciding:
    def __init__(self, head: Head, looks: Looks) -> None:
        self.decision = Decision()
        self._was = self._head = head
        self._looks = looks
        self._is_refused = False

    def take(self, prepared: Prepared) -> None:
        answer = self._refusal(prepared.append)
        if self._is_refused and answer is not AppendAnswer.already_ours:
            # Why not all of them: what had been made before, though nobody knew it, would be made
            # a second time.
            answer = AppendAnswer.moved
        taken: LockChange | None = None
        append = prepared.append
        if answer is None and (append.holdings is not None or append.reads):
            taken = self._looks.take(append)
            answer = AppendAnswer.blocked if taken is None else None
        if answer is None:
            self._add(prepared)
            if taken is not None and self.decision.change is not None:
                self.decision.change.locks.append(taken)
            answer = AppendAnswer.appended
        elif answer is not AppendAnswer.already_ours:
            self._is_refused = True
        self.decision.answers.append(answer)

    def _refusal(self, append: Append) -> AppendAnswer | None:
        head = self._head
        token = append.token
        has_moved = append.expected_sequence != head.sequence
        if append.driver_id is None:
            if token is not None and token != head.token:
                return AppendAnswer.fenced
            if has_moved:
                return AppendAnswer.already_ours if self._holds(append) else AppendAnswer.moved
            return None
        if token == head.token and self._holds(append):
            return AppendAnswer.already_ours
        if has_moved or token != head.token + 1:
            return AppendAnswer.moved
        holder = head.driver_id
        if holder is not None and holder != append.driver_id and self._looks.is_alive(holder):
            return AppendAnswer.held
        return None

    def _holds(self, append: Append) -> bool:
        """Tell whether these very entry ids stand at the append's sequences."""
        first = append.expected_sequence
        last = first + len(append.entries)
        if first < 0 or last > self._head.sequence:
            return False
        stored = self._was.sequence
        found: list[str | None] = []
        if first < stored and self._was.ordinal is not None:
            found += self._looks.entry_ids(self._was.ordinal, first, min(last, stored))
        if last > stored and self.decision.change is not None:
            ours = self.decision.change.bodies[max(first - stored, 0) : last - stored]
            found += [entry_id_of(body) for body in ours]
        return found == [f"{append.append_id}.{i}" for i in range(len(append.entries))]

    def _add(self, prepared: Prepared) -> None:
        append = prepared.append
        summary = append.summary
        ordinal, sequence, before, token, driver_id, was, _labelled = self._head
        change = self.decision.change
        if change is None:
            name = append.transaction_id
            change = Change(name, self._was, self._head, summary, [], [])
            self.decision.change = change
        for body in prepared.bodies:
            sequence += 1
            before = chain_hash(append.transaction_id, sequence, before, body)
            change.bodies.append(body)
            change.hashes.append(before)
        if append.driver_id is not None and append.token is not None:
            token, driver_id = append.token, append.driver_id
        # Why not every final state: a compensation that is tried again has its driver too.
        if append.release or (summary.state.is_final and not summary.runnable):
            driver_id = None
        labelled = (summary.name, summary.agents, summary.actions, summary.metadata)
        now = summary.attention
        change.told += happenings(append.entries, append.expected_sequence, was, now)
        head = Head(ordinal, sequence, before, token, driver_id, now, labelled)
        self._head = change.head = head
        change.summary = summary
        is_over = summary.state.is_final and not summary.runnable
        is_free = summary.runnable and driver_id is None
        change.tells = change.tells or append.token is None or is_over or is_free


def entry_id_of(body: bytes) -> str | None:
    """Return the id that an entry's bytes hold; None where they are damaged."""
    try:
        found = json.loads(body)["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        # Not ours in any case. `load` names it.
        return None
    return found if isinstance(found, str) else None
