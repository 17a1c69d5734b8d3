"""Plans, actions, options and values that cannot be; raised before anything runs.

Owns: those errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.errors.root import TransactionError

if TYPE_CHECKING:
    from collections.abc import Sequence


class DefinitionError(TransactionError, ValueError):
    """Say that a plan, an action or an option is wrong, before anything of it runs."""


class UnknownAction(DefinitionError):
    """Say that an action has no handler where a dry run is not allowed.

    Args:
        actions: The names without a handler.
        transaction_id: The transaction that names them.
        hint: What to do next.
    """

    def __init__(self, actions: Sequence[str], transaction_id: str, hint: str) -> None:
        self.actions = tuple(actions)
        self.transaction_id = transaction_id
        named = ", ".join(repr(action) for action in self.actions)
        super().__init__(f"no handler for {named} in transaction {transaction_id}. {hint}")


class DuplicateStep(DefinitionError):
    """Say that two steps of one transaction share a step id."""

    def __init__(self, step_id: str, transaction_id: str) -> None:
        self.step_id = step_id
        self.transaction_id = transaction_id
        super().__init__(
            f"step id {step_id!r} stands twice in transaction {transaction_id}. "
            "Give each step an id of its own."
        )


class UnknownStep(DefinitionError):
    """Say that a step refers to a step that its transaction does not hold."""

    def __init__(self, step_id: str, named_by: str, transaction_id: str) -> None:
        self.step_id = step_id
        self.named_by = named_by
        self.transaction_id = transaction_id
        super().__init__(
            f"{named_by} of transaction {transaction_id} names step {step_id!r}, which does not "
            "exist. Name a step of the same transaction."
        )


class DependencyCycle(DefinitionError):
    """Say that steps wait for each other in a circle."""

    def __init__(self, cycle: Sequence[str], transaction_id: str) -> None:
        self.cycle = tuple(cycle)
        self.transaction_id = transaction_id
        path = " → ".join([*self.cycle, self.cycle[0]])
        super().__init__(
            f"the steps of transaction {transaction_id} wait for each other: {path}. "
            "Remove one of these dependencies."
        )


class IrreversibleBeforeCompensatable(DefinitionError):
    """Say that a step that nothing can undo stands before one that may have to be undone.

    Args:
        transaction_id: The transaction; nothing was run.
        irreversible: The step that cannot be undone.
        compensatable: The step behind it that may fail or be undone.
    """

    def __init__(self, transaction_id: str, irreversible: str, compensatable: str) -> None:
        self.transaction_id = transaction_id
        self.irreversible = irreversible
        self.compensatable = compensatable
        super().__init__(
            f"step {irreversible!r} of transaction {transaction_id} cannot be undone, and stands "
            f"before {compensatable!r}: if that fails, the first one stays. Put it last, hold it "
            "until the commit (on_commit=True), or insist with allow_irreversible_first=True."
        )


class PlanFileError(DefinitionError):
    """Say what is wrong in a plan file, and where.

    Args:
        file: The plan file as the user named it.
        where: Table and key, such as `steps[2].agent`; empty for the file as a whole.
        problem: What is wrong and what to write instead.
    """

    def __init__(self, file: str, where: str, problem: str) -> None:
        self.file = file
        self.where = where
        self.problem = problem
        place = f"{file}: {where}" if where else file
        super().__init__(f"{place}: {problem}")


class IdempotencyKeyReused(DefinitionError):
    """Say that an idempotency key was used again for something else; nothing was run.

    Args:
        key: The key.
        transaction_id: The transaction that has it.
        detail: What is different.
    """

    def __init__(self, key: str, transaction_id: str, detail: str) -> None:
        self.key = key
        self.transaction_id = transaction_id
        self.detail = detail
        super().__init__(
            f"the idempotency key {key!r} belongs to transaction {transaction_id}, and {detail}. "
            "Repeat the same plan, or use another key."
        )


class InvalidData(TransactionError, ValueError):
    """Say that a value cannot be written to the journal.

    Args:
        path: Where it stands, such as `$.user.born`.
        problem: What it is and what to write instead.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")
