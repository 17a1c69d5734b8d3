"""Under which terms a wish counts: once for each request, and only on what somebody has seen.

Owns: how a request is found again in the journal, and how a wish is bound to a sequence.
Rules:
  1. Whether a request was heard before stands in the journal, in the ids of the entries that it
     brought, and nowhere else: what a crash leaves is the answer.
  2. What a request brought is found before its other terms are looked at: who repeats it cannot
     have seen what it brought itself.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.core.journal import entries
from aumai_transactions.core.values import canonical_json
from aumai_transactions.errors import IdempotencyKeyReused, TransactionError

if TYPE_CHECKING:
    from aumai_transactions.core.journal import Journal
    from aumai_transactions.core.saga import Saga
    from aumai_transactions.drivers.desk import Desk

REQUEST_CHARACTERS = 32
DIGEST_CHARACTERS = 16


class SequenceMoved(TransactionError):
    """Say that a journal goes on behind the entry that a wish was bound to; nothing was changed.

    Args:
        transaction_id: The transaction.
        expected: The last entry that whoever wishes has seen.
        sequence: The last entry that there is.
    """

    def __init__(self, transaction_id: str, expected: int, sequence: int) -> None:
        self.transaction_id = transaction_id
        self.expected = expected
        self.sequence = sequence
        super().__init__(
            f"transaction {transaction_id} stands at entry {sequence} and not at {expected} any "
            "more. Nothing was changed. Look at it again, and ask again if you still want it."
        )


class Request(NamedTuple):
    """Name one request, so that it is known when it comes again.

    Args:
        request_id: Its name: the same for the same key of the same caller, and for nothing else.
        digest: Of what is asked for.
        key: What its caller calls it, to be told back.
    """

    request_id: str
    digest: str
    key: str

    @property
    def append_id(self) -> str:
        """The name of the append that it brings."""
        return f"{self.request_id}.{self.digest}"

    def is_in(self, journal: Journal) -> bool:
        """Tell whether a journal holds what this request brought.

        Raises:
            IdempotencyKeyReused: It holds what another request under the same key brought.
        """
        begins = f"{self.request_id}."
        for entry_id, _ in entries(journal):
            if entry_id.startswith(begins):
                self.check(entry_id.split(".")[1], journal.transaction_id)
                return True
        return False

    def step_in(self, saga: Saga) -> str | None:
        """Return the step that this request brought, as its intent tells; None where there is none.

        Raises:
            IdempotencyKeyReused: Another request under the same key brought one.
        """
        begins = f"{self.request_id}."
        for step in saga.steps:
            intent = step.definition.intent or ""
            if intent.startswith(begins):
                self.check(intent.split(".")[1], saga.transaction_id)
                return step.step_id
        return None

    def check(self, digest: str, transaction_id: str) -> None:
        """Refuse to take what was asked for under this key before for this.

        Raises:
            IdempotencyKeyReused: It was something else.
        """
        if digest != self.digest:
            detail = "something else was asked for under it"
            raise IdempotencyKeyReused(self.key, transaction_id, detail)


class Terms(NamedTuple):
    """Say under which terms a wish counts.

    Args:
        request: Which request it is; None where it counts whenever it is asked for.
        if_sequence: The last entry that there may be; None where that does not matter.
    """

    request: Request | None = None
    if_sequence: int | None = None

    def check_sequence(self, saga: Saga) -> None:
        """Refuse where the journal has gone on.

        Raises:
            SequenceMoved: It has.
        """
        if self.if_sequence is not None and saga.sequence != self.if_sequence:
            raise SequenceMoved(saga.transaction_id, self.if_sequence, saga.sequence)

    def step_in(self, saga: Saga) -> str | None:
        """Return the step that the request has brought; where there is none, check the sequence.

        Raises:
            SequenceMoved: The journal has gone on.
        """
        found = None if self.request is None else self.request.step_in(saga)
        if found is None:
            self.check_sequence(saga)
        return found

    def append_id(self, desk: Desk) -> str:
        """Return the name of the append that the wish brings."""
        return desk.append_id() if self.request is None else self.request.append_id


ANY = Terms()


def request_of(caller: str, key: str, asked: Any) -> Request:
    """Return the request that a caller makes under a key.

    Args:
        caller: Who asks; the keys of two are never taken for each other.
        key: Their key.
        asked: All of what is asked for, as JSON.
    """
    named = hashlib.sha256(canonical_json([caller, key])).hexdigest()
    digest = hashlib.sha256(canonical_json(asked)).hexdigest()
    return Request(named[:REQUEST_CHARACTERS], digest[:DIGEST_CHARACTERS], key)
