"""What transactions may hold together (invariant I10).

Owns: the fold of all journals into who holds what, and its comparison with the store's own table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.entries import CommitDecided, StepStarted, TransactionCommitted
from aumai_transactions.core.lock_entries import LocksGranted, VersionsRead

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
        self._granted: dict[tuple[str, str], int] = {}
        self._versions: dict[str, tuple[int, str]] = {}
        self._read: dict[str, dict[str, int]] = {}

    def token(self, transaction_id: str, resource: str) -> int | None:
        """Return the last fencing token that a transaction was granted for a resource."""
        return self._granted.get((transaction_id, resource))

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
            elif isinstance(entry, VersionsRead):
                self._read.setdefault(name, {}).update(entry.versions)
            elif name in self._read and _decides(rules, entry):
                found += [f"{name}: {text}" for text in self._stale(rules, self._read.pop(name))]
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
            self._granted[name, grant.name] = grant.token
            if grant.mode == "exclusive":
                self._versions[grant.name] = grant.token, name
            if holders.get(name) != "exclusive":
                holders[name] = grant.mode

    def _stale(self, rules: JournalRules, read: Mapping[str, int]) -> Iterator[str]:
        """Yield what has changed since a plan has read it, which commits now."""
        plan = rules.definition
        if plan is None or plan.shape != "planned":
            return  # What counts there is what was read by steps that were not undone.
        for resource, version in read.items():
            last, holder = self._versions.get(resource, (0, ""))
            if last != version and holder != rules.transaction_id:
                yield f"G9: it commits, and {holder} has had {resource} since it was read"

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
        for (name, resource), mode in sorted({*shown.items()} ^ {*said.items()}):
            who = "the table says" if (name, resource) in shown else "the journals say"
            yield (
                f"I10: the table of locks and the journals do not agree; {who}: {name} has "
                f"{resource} ({mode})"
            )


def _decides(rules: JournalRules, entry: Entry) -> bool:
    """True where an entry is the last moment at which what was read has to be as it was."""
    pivots = [name for name, told in rules.steps.items() if told.definition.pivot]
    if isinstance(entry, StepStarted):
        return entry.step_id in pivots
    return isinstance(entry, (CommitDecided, TransactionCommitted)) and not pivots


def _kept_by(rules: JournalRules) -> set[str]:
    """Return the resources that a transaction keeps behind its end: of what may stand yet (G1)."""
    plan = rules.definition
    if plan is None or plan.release_outstanding_locks:
        return set()
    return {
        use.name
        for told in rules.steps.values()
        if told.is_outstanding or told.undo_asked
        for use in told.definition.resources
    }
