"""What transactions may hold together (invariant I10).

Owns: the fold of all journals into who holds what, and its comparison with the store's own table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.lock_entries import LocksGranted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.locking import Lock
    from aumai_transactions.testing.invariants.journals import JournalRules


class LockRules:
    """Hold all journals together against what is promised of resources."""

    def __init__(self) -> None:
        self._holders: dict[str, dict[str, str]] = {}
        self._tokens: dict[str, int] = {}

    def holders(self, resource: str) -> Mapping[str, str]:
        """Return who holds a resource, and how."""
        return self._holders.get(resource, {})

    def append(self, rules: JournalRules, entries: Sequence[Entry]) -> list[str]:
        """Take in what was appended to one journal; return what is wrong with it.

        Args:
            rules: What that journal has said, with these entries.
            entries: What was appended.
        """
        found = []
        name = rules.transaction_id
        for entry in entries:
            if isinstance(entry, LocksGranted):
                found += [f"{name}: {text}" for text in self._grant(name, entry)]
        if rules.is_final and rules.held:
            self._release(rules)
        return found

    def _grant(self, name: str, entry: LocksGranted) -> Iterator[str]:
        for grant in entry.grants:
            holders = self._holders.setdefault(grant.name, {})
            for other, mode in holders.items():
                if other != name and "exclusive" in (mode, grant.mode):
                    yield f"I10: it is granted {grant.name}, which {other} holds"
            if grant.token <= self._tokens.get(grant.name, 0):
                yield f"I10: token {grant.token} of {grant.name} was granted before"
            self._tokens[grant.name] = max(grant.token, self._tokens.get(grant.name, 0))
            if holders.get(name) != "exclusive":
                holders[name] = grant.mode

    def _release(self, rules: JournalRules) -> None:
        kept = _kept_by(rules)
        for resource in [one for one in rules.held if one not in kept]:
            del rules.held[resource]
            self._holders[resource].pop(rules.transaction_id, None)

    def at_the_end(
        self, journals: Mapping[str, JournalRules], table: Iterable[Lock]
    ) -> Iterator[str]:
        """Yield where the store's table does not say what the journals say.

        Args:
            journals: All of them, by transaction id.
            table: Every lock and every place in a queue, as the store has them.
        """
        shown: dict[tuple[str, str], str] = {}
        for lock in table:
            rules = journals.get(lock.transaction_id)
            if rules is None:
                yield f"I10: {lock.resource} is held by {lock.transaction_id}, which is not there"
            elif lock.token is not None:
                shown[lock.transaction_id, lock.resource] = lock.mode
            elif rules.is_final:
                yield f"I10: {lock.transaction_id} has ended, and waits for {lock.resource}"
        said = {
            (name, resource): mode
            for name, rules in journals.items()
            for resource, mode in rules.held.items()
        }
        for place in sorted({*shown.items()} ^ {*said.items()}):
            yield f"I10: the table of locks and the journals do not agree about {place}"


def _kept_by(rules: JournalRules) -> set[str]:
    """Return the resources that a transaction keeps behind its end: of what may stand yet (G1)."""
    plan = rules.definition
    if plan is None or plan.release_outstanding_locks:
        return set()
    return {
        use.name
        for told in rules.steps.values()
        if told.is_outstanding
        for use in told.definition.resources
    }
