"""What a journal may say, told again without the core: the invariants of DESIGN.md as checks.

Owns: `JournalRules`, which is told each append of one transaction and names what must not be, and
`LockRules`, which does so for what all transactions hold together. Both need no test runner.
Rules:
  1. Nothing here calls the core or goes by what it has folded: only the plan, the entries and the
     words of the invariants. What is said twice here and there is said by two who do not know
     each other, or a mistake of the one would hide in the other.
  2. What is found is a sentence that begins with the invariant (DESIGN.md section 2) or the rule
     of docs/semantics.md that does not hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core import entries as kinds
from aumai_transactions.core.kinds import KINDS
from aumai_transactions.testing.invariants.limits import LimitRules
from aumai_transactions.testing.invariants.steps import StepRules
from aumai_transactions.testing.invariants.undos import UndoRules
from aumai_transactions.testing.invariants.whole import WholeRules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aumai_transactions.core.entries import Entry

_FACTS = frozenset({*kinds.WITHOUT_TOKEN, kinds.Claimed})
"""What may be recorded of a transaction that has ended, whoever wants nothing of it any more."""

_UNDOES = frozenset(
    {
        kinds.CompensationStarted,
        kinds.CompensationSucceeded,
        kinds.CompensationFailed,
        kinds.VerificationStarted,
        kinds.VerificationAnswered,
        kinds.StepOutstanding,
        kinds.RetryScheduled,
        kinds.UndoRequestRefused,
        kinds.StepRefused,
    }
)
"""What may follow a rollback that has ended, where a person has asked for one more attempt."""

_ENDS = frozenset(
    {kinds.TransactionCommitted, kinds.TransactionRolledBack, kinds.TransactionExpired}
)

IDLE_CLAIMS_MAX = 100
"""How often in a row a transaction may be claimed without any consequence."""


class JournalRules(WholeRules, StepRules, UndoRules):
    """Hold one transaction's journal against the invariants, append by append.

    Args:
        transaction_id: The transaction.
    """

    def __init__(self, transaction_id: str) -> None:
        super().__init__(transaction_id)
        self.limits = LimitRules(self)

    def append(self, entries: Sequence[Entry], token: int | None) -> list[str]:
        """Take in what was appended; return what is wrong with it.

        Args:
            entries: In order.
            token: The fencing token under which they were appended; None for requests.
        """
        self._found = []
        is_idle = len(entries) == 1 and type(entries[0]) is kinds.Claimed
        self._idle_claims = self._idle_claims + 1 if is_idle else 0
        self._require(
            self._idle_claims < IDLE_CLAIMS_MAX, "L3", "it is claimed again and again for nothing"
        )
        for entry in entries:
            self.sequence += 1
            kind = type(entry)
            if self.definition is None and kind is not kinds.PlanRecorded:
                self._wrong("A1", f"{kind.__name__} stands before the plan")
                break
            if kind not in _FACTS and token != self.token:
                self._wrong("I6", f"{kind.__name__} under token {token}, in force is {self.token}")
            if self.ended is not None:
                self._behind_the_end(entry)
            for rule, text in self.limits.before(entry):
                self._wrong(rule, text)
            method = _METHODS.get(kind)
            if method is not None:
                method(self, entry)
        return [f"{self.transaction_id}: {text}" for text in self._found]

    def _behind_the_end(self, entry: Entry) -> None:
        kind = type(entry)
        self._require(kind not in _ENDS, "I2", f"{kind.__name__} behind {self.ended}")
        if kind in _FACTS:
            return
        told = self.steps.get(getattr(entry, "step_id", ""))
        is_again = told is not None and (told.undo_asked or told.acted_late)
        allowed = self.ended != "committed" or kind is kinds.StepOutstanding
        self._require(
            kind in _UNDOES and is_again and allowed,
            "I2",
            f"{kind.__name__} behind the end, which nobody asked for",
        )


_METHODS: dict[type, Callable[[JournalRules, Any], None]] = {
    kind: method
    for name, kind in KINDS.items()
    if (method := getattr(JournalRules, f"_on_{name}", None)) is not None
}
