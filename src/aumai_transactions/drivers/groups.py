"""The groups of steps that a program opens in its transaction.

Owns: in which group a step of this context stands.
Rules:
  1. A group is journaled with the first step that is executed in it: opening one costs nothing.
  2. Where a program was resumed, its group is the recorded one of the same name in the same place
     that holds steps of the same agent; so what it undoes is what it had done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.definition import ScopeDefinition, ScopeKind
from aumai_transactions.drivers.ambient import SCOPES

if TYPE_CHECKING:
    from collections.abc import Iterator


class Group:
    """Hold one group as this process knows it.

    Args:
        scope_id: Its name within the transaction.
        kind: `savepoint` or `child`.
        name: What people and intents call it.
        parent: The group that it stands in.
        expires_at: When its timeout is over, microseconds since 1970 UTC.
    """

    def __init__(
        self,
        scope_id: str,
        kind: ScopeKind,
        name: str,
        parent: Group | None,
        expires_at: int | None = None,
    ) -> None:
        self.definition = ScopeDefinition(
            scope_id, kind, parent.scope_id if parent is not None else None, name, expires_at
        )
        self.parent = parent
        self.is_placed = False
        self.is_over = False

    def place(self, scope_id: str) -> None:
        """Let it be the group of this name from now on, be it a new one or a recorded one."""
        parent = None if self.parent is None else self.parent.scope_id
        self.definition = self.definition._replace(scope_id=scope_id, parent=parent)
        self.is_placed = True

    @property
    def scope_id(self) -> str:
        """Its name within the transaction."""
        return self.definition.scope_id

    def chain(self) -> Iterator[Group]:
        """Yield it and all that it stands in, the innermost first."""
        group: Group | None = self
        while group is not None:
            yield group
            group = group.parent

    def definitions(self) -> tuple[ScopeDefinition, ...]:
        """Return what it stands in and itself, the outermost first."""
        return tuple(group.definition for group in reversed(list(self.chain())))

    def names(self) -> list[str]:
        """Return the names of what it stands in and its own, the outermost first."""
        return [group.definition.name for group in reversed(list(self.chain()))]


def current(transaction_id: str, outermost: Group | None) -> Group | None:
    """Return the group in which a step of this context stands.

    Args:
        transaction_id: The transaction.
        outermost: The group that a handle stands for, which it does not leave; or None.
    """
    found: Group | None = SCOPES.get().get(transaction_id)
    if outermost is None or (found is not None and _stands_in(found, outermost)):
        return found
    return outermost


def _stands_in(group: Group, other: Group) -> bool:
    # Why also by name: who joins a nested transaction holds a group of their own for it.
    return any(one is other or one.scope_id == other.scope_id for one in group.chain())


def enter(transaction_id: str, group: Group | None) -> None:
    """Let the steps of this context stand in a group from now on."""
    scopes = dict(SCOPES.get())
    if group is None:
        scopes.pop(transaction_id, None)
    else:
        scopes[transaction_id] = group
    SCOPES.set(scopes)
