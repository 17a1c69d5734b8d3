"""The table `aumai_fences` in the participant's own database: who may still touch a resource.

Owns: its columns, and the refusal of a holder whose lock somebody else has had since.
Rules:
  1. One row for each resource, with the highest fencing token that was seen for it. It only grows,
     and rows are never removed: a token that is forgotten could be used once more.
  2. The check stands in the transaction of the effect, and holds the row until that is over, so
     that of two holders the later one is told what the earlier one did.

Source of the idea: Martin Kleppmann, How to do distributed locking (2016).
"""

from __future__ import annotations

from typing import Any, Final

from aumai_transactions.core.resources import canonical_resource
from aumai_transactions.errors import DefinitionError, StepRejected
from aumai_transactions.participants.barrier.databases import asking, transaction_on
from aumai_transactions.participants.barrier.table import indexed

_RAISE: Final = """
INSERT INTO aumai_fences (resource, token) VALUES (:resource, :token)
ON CONFLICT (resource) DO UPDATE SET token = excluded.token
WHERE aumai_fences.token <= excluded.token
RETURNING token
"""
_LOOK: Final = "SELECT token FROM aumai_fences WHERE resource = :resource"


class StaleHolder(StepRejected):
    """Say that a call comes from a transaction that does not hold a resource any more.

    Args:
        resource: The resource's canonical name.
        token: The fencing token that the call came with.
        highest: The highest one that was seen here for this resource.
    """

    def __init__(self, resource: str, token: int, highest: int) -> None:
        self.resource = resource
        self.token = token
        self.highest = highest
        super().__init__(
            f"resource {resource} was given to another transaction: this call has fencing token "
            f"{token}, and {highest} was seen here already. Nothing was done"
        )


def fence(connection: Any, resource: str, token: int) -> None:
    """Refuse a call whose lock on a resource is older than one that was seen here before.

    Call it inside of `barrier()`, or of a transaction of your own, before the effect:

        with barrier(connection, context) as call:
            for resource, token in context.resources.items():
                fence(connection, resource, token)
            ...

    Args:
        connection: Of sqlite3, psycopg or SQLAlchemy, in the transaction that makes the effect.
        resource: What it is called; aliases of one thing are one resource.
        token: What `context.resources`, or the header `Aumai-Resources`, says.

    Raises:
        StaleHolder: A higher token was seen; nothing was changed.
        DefinitionError: The token is no positive whole number, or the connection is in no
            transaction, where the check would be over before the effect.
        RetryLater: The database rolled back; nothing of this attempt was committed.
        NotDelivered: The database could not be asked.
        InvalidData: It cannot be the name of a resource.
    """
    if type(token) is not int or token < 1:
        message = f"the token of a resource is {token!r}; it must be a whole number from 1."
        raise DefinitionError(message)
    name = canonical_resource(resource)
    row = {"resource": indexed(name), "token": token}
    with asking(), transaction_on(connection) as database:
        if not database.is_joined:
            message = (
                "fence() needs a connection that is in the transaction of the effect. Call it "
                "inside of barrier(), or begin one."
            )
            raise DefinitionError(message)
        if not database.execute(_RAISE, row):
            raise StaleHolder(name, token, int(database.execute(_LOOK, row)[0][0]))
