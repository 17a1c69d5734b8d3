"""What the code around a call knows without being told.

Owns: the context variables: which transaction a program stands in, which group and which agent in
it, and which transactions one of whose handlers is running.
Rules:
  1. A new task and a worker thread of asyncio inherit them; a thread that a user starts does not,
     and is given them by `bind`.
  2. An undo, a probe, a held step, a hook and whatever else a transaction calls on its own stands
     in no transaction: a step that is called there is just the function.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aumai_transactions.drivers.operations import DoCall

CALLING: ContextVar[tuple[str, ...]] = ContextVar("aumai_transactions_calling", default=())
"""The transactions one of whose handlers is running in this context; see `served`."""

AMBIENT: ContextVar[Any] = ContextVar("aumai_transactions_ambient", default=None)
"""The transaction whose block this context stands in: its live block, or None."""

SCOPES: ContextVar[dict[str, Any]] = ContextVar("aumai_transactions_scopes", default={})  # noqa: B039
"""By transaction id, the group in which steps of this context are executed. It is never changed,
but replaced."""

AGENT: ContextVar[str | None] = ContextVar("aumai_transactions_agent", default=None)
"""On whose behalf this context acts."""

INTENT: ContextVar[tuple[str, tuple[str, ...]] | None] = ContextVar(
    "aumai_transactions_intent", default=None
)
"""What the code around asks for, in its own words, and in which calls of handlers it stands."""

RETURNED: ContextVar[list[Any] | None] = ContextVar("aumai_transactions_returned", default=None)
"""Where a typed function puts what it returned, itself, for its caller here."""


UNDOING = "undo of "
"""What stands before a transaction's id where a handler runs that is no action of a step."""


NOTICING = "notice of "
"""What stands before a transaction's id where a callback is told what has changed."""


def served(operation: DoCall) -> tuple[str, ...]:
    """Return how a call is named while it runs."""
    name = operation.run.transaction_id
    return (name,) if operation.operation == "action" else (name, UNDOING + name)


def noticing(transaction_id: str) -> tuple[str, str]:
    """Return how it is named that a program is told what has changed."""
    return transaction_id, NOTICING + transaction_id


class OnItsOwn:
    """Let a context stand in no transaction, while a hook or a rule of the user is asked."""

    # Why no generator: it takes five times as long, and every step that is executed needs one.
    __slots__ = ("_token",)

    def __enter__(self) -> None:
        """Leave whatever transaction the context stands in."""
        self._token = AMBIENT.set(None)

    def __exit__(self, *_raised: object) -> None:
        """Let it stand there again."""
        AMBIENT.reset(self._token)


class Serving:
    """Let a context stand in a call of a handler, and no longer.

    Args:
        operation: The call.
    """

    __slots__ = ("_ambient", "_calling")

    def __init__(self, operation: DoCall) -> None:
        calling = CALLING.get()
        self._calling = CALLING.set((*calling, *served(operation)))
        self._ambient: Token[Any] | None = None
        is_asked_for = operation.operation == "action" and not operation.step.definition.on_commit
        if not is_asked_for and AMBIENT.get() is not None:
            self._ambient = AMBIENT.set(None)

    def over(self) -> None:
        """Let the context stand where it stood before."""
        CALLING.reset(self._calling)
        if self._ambient is not None:
            AMBIENT.reset(self._ambient)
