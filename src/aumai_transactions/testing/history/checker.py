"""The check of a whole history, one journal after the other.

Owns: `HistoryChecker`, and the two ways to run it over a store.
Rules:
  1. A journal is let go of as soon as it was looked at: what is kept of a transaction is its state
     and the tokens that it was granted, so that a long history fits.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aumai_transactions.errors import JournalCorrupt, JournalTooNew
from aumai_transactions.store import Query
from aumai_transactions.testing.history.effects import problems_in
from aumai_transactions.testing.history.isolation import circles, in_between, stale_accesses
from aumai_transactions.testing.history.records import Access, Problem
from aumai_transactions.testing.history.report import Report
from aumai_transactions.testing.history.telling import JournalRules, JournalTold, told_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from aumai_transactions.store import Store


class HistoryChecker:
    """Compare journals with what participants have recorded.

    Take each journal once, in any order, then ask for the report.

    Args:
        accesses: What the participants have recorded, in any order.
        outcomes: What callers were told, by transaction id; for what was acknowledged and lost.
        is_complete: True where `accesses` is all that the transactions did outside: then what is
            committed and nowhere to be found is a problem.
    """

    def __init__(
        self,
        accesses: Iterable[Access] = (),
        *,
        outcomes: Mapping[str, str] | None = None,
        is_complete: bool = False,
    ) -> None:
        self._accesses = sorted(accesses, key=lambda access: access.position)
        self._outcomes = outcomes or {}
        self._is_complete = is_complete
        self._of: dict[str, list[Access]] = {}
        for access in self._accesses:
            self._of.setdefault(access.transaction_id, []).append(access)
        self._states: dict[str, str] = {}
        self._tokens: Counter[tuple[str, int]] = Counter()
        self._entries = 0
        self._problems: list[Problem] = []

    def take(self, told: JournalTold) -> None:
        """Compare one journal with the accesses of its transaction."""
        name = told.transaction_id
        self._states[name] = told.state
        self._entries += told.entries
        for grant in told.grants:
            self._tokens[grant.name, grant.token] += 1
        found = self._of.get(name, ())
        self._problems += problems_in(told, found, is_complete=self._is_complete)

    def take_damaged(self, error: JournalCorrupt | JournalTooNew) -> None:
        """Note a journal that cannot be read; the others are read all the same."""
        self._states[error.transaction_id] = "unreadable"
        self._problems.append(Problem("I11", (error.transaction_id,), str(error)))

    def report(self) -> Report:
        """Return what was found in all that was taken."""
        problems = [
            *self._problems,
            *self._strangers(),
            *self._lost(),
            *self._twice_granted(),
            *stale_accesses(self._accesses),
            *in_between(self._accesses),
            *circles(self._states, self._accesses),
        ]
        states = Counter(self._states.values())
        return Report(dict(sorted(states.items())), self._entries, len(self._accesses), problems)

    def _strangers(self) -> Iterator[Problem]:
        for name, accesses in self._of.items():
            if name not in self._states:
                had = sorted({access.resource or access.step_id for access in accesses})
                text = f"{name} is unknown, and has had {', '.join(had)}"
                yield Problem("I1", (name,), text)

    def _lost(self) -> Iterator[Problem]:
        for name, state in self._outcomes.items():
            found = self._states.get(name)
            if found is None:
                yield Problem("I7", (name,), f"{name}: acknowledged as {state}, and gone")
            elif found != state:
                yield Problem("I7", (name,), f"{name}: acknowledged as {state}, is {found}")

    def _twice_granted(self) -> Iterator[Problem]:
        for (name, token), times in self._tokens.items():
            if times > 1:
                yield Problem("I10", (), f"token {token} of {name} was granted {times} times")


def check(
    store: Store,
    accesses: Iterable[Access] = (),
    *,
    outcomes: Mapping[str, str] | None = None,
    is_complete: bool = False,
    rules: Callable[[str], JournalRules] | None = None,
    page: int = 500,
) -> Report:
    """Return what speaks against the claim that a finished history keeps the invariants.

    Args:
        store: The journals; read to the end.
        accesses: What the participants have recorded, in any order.
        outcomes: What callers were told, by transaction id.
        is_complete: True where `accesses` is all that the transactions did outside.
        rules: Makes finer rules for each journal.
        page: How many journals are looked for at once.

    Returns:
        Among its problems: effects without an intent, under another key, or done twice; what is
        committed and was not done, or rolled back and stands; steps out of order; what was
        acknowledged and is lost; journals that are damaged; a transaction that came in between
        another one's first and last access of what it held; and transactions that no serial
        execution explains.
    """
    checker = HistoryChecker(accesses, outcomes=outcomes, is_complete=is_complete)
    query = Query(limit=page)
    while True:
        found = store.find(query)
        for listed in found:
            journal = store.read(listed.summary.transaction_id)
            if journal is None:
                continue  # It was purged meanwhile.
            try:
                checker.take(told_by(journal, rules))
            except (JournalCorrupt, JournalTooNew) as error:
                checker.take_damaged(error)
        if len(found) < page:
            return checker.report()
        query = query._replace(after=found[-1].position)


def problems_of(store: Store, accesses: Iterable[Access], *, page: int = 500) -> list[str]:
    """Return what `check` finds, as sentences; none where the history is sound.

    Args:
        store: The journals; read to the end.
        accesses: What the participants have recorded, in any order.
        page: How many journals are looked for at once.
    """
    return [problem.text for problem in check(store, accesses, page=page).problems]
