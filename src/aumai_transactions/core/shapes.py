"""Which shapes a transaction may have.

Owns: the rules about pivots, held steps, confirmations and irreversible effects that are checked
when a step is declared, before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aumai_transactions.core.graph import ancestors, dependencies
from aumai_transactions.errors import DefinitionError, IrreversibleBeforeCompensatable

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Definition, StepDefinition

IsIdempotent = Callable[[str], bool | None]
"""Given an action's name: whether it is declared idempotent; None where it is not known here."""


def check_shape(definition: Definition, transaction_id: str, is_idempotent: IsIdempotent) -> None:
    """Refuse a transaction that could come to stand where it can go neither on nor back.

    Raises:
        DefinitionError: A rule is broken; names the step and what to do.
        IrreversibleBeforeCompensatable: The order is wrong, and nobody insists on it.
    """
    # Why first: nearly every transaction is plain, and is not to pay for what it does not use.
    special = [
        step
        for step in definition.steps
        if step.effect
        or step.pivot
        or step.on_commit
        or step.confirming_action
        or step.requires_approval
        or step.approval_timeout_seconds
    ]
    if definition.on_crash == "wait" and definition.shape != "interactive":
        message = 'on_crash="wait" waits for a program; a planned transaction has none.'
        raise DefinitionError(message)
    if not special:
        return
    for step in special:
        check_step(step, transaction_id, is_idempotent)
    pivots = [step.step_id for step in special if step.pivot]
    if len(pivots) > 1:
        message = (
            f"transaction {transaction_id} has the pivots {', '.join(map(repr, pivots))}; there "
            "can be only one point of no return."
        )
        raise DefinitionError(message)
    if not definition.allow_irreversible_first:
        _check_order(definition, transaction_id)


def check_step(step: StepDefinition, transaction_id: str, is_idempotent: IsIdempotent) -> None:
    """Refuse a step that contradicts itself, or could get stuck behind the commit point.

    Raises:
        DefinitionError: Names the step and what to do.
    """
    is_late = step.pivot or step.on_commit or step.confirming_action
    if not (is_late or step.effect or step.approval_timeout_seconds):
        return
    for holds, problem in (
        (
            not (step.pivot and step.on_commit),
            "is the pivot and held until the commit; it can be only one of them",
        ),
        (
            step.confirming_action is None or not (step.on_commit or step.pivot),
            "has a confirming action, and stands at or behind the commit point itself",
        ),
        (
            not (step.on_commit and step.requires_approval),
            (
                "is held until the commit, when nobody can deny it any more. Let another step, "
                "before it, wait for the approval"
            ),
        ),
        (
            step.effect != "irreversible" or step.compensating_action is None,
            "is declared irreversible and names a compensating action",
        ),
        (
            step.approval_timeout_seconds is None or step.requires_approval,
            "has an approval_timeout_seconds, and requires no approval",
        ),
        (
            not step.on_commit
            or step.idempotent
            or step.policy.has_probe
            or is_idempotent(step.action) is None,
            (
                f"is held until the commit, and then tried until it is done, but {step.action!r} "
                "is neither idempotent nor has it a probe. Declare it idempotent=True, if it is, "
                "by its key; or give it a probe"
            ),
        ),
        (
            step.confirming_action is None or is_idempotent(step.confirming_action) is not False,
            (
                f"is confirmed by {step.confirming_action!r}, which is tried until it is done, and "
                "is not declared idempotent. Make it idempotent, by its key, and declare it so"
            ),
        ),
    ):
        if not holds:
            message = f"step {step.step_id!r} of transaction {transaction_id} {problem}."
            raise DefinitionError(message)


def _check_order(definition: Definition, transaction_id: str) -> None:
    irreversible = [
        index
        for index, step in enumerate(definition.steps)
        if step.effect == "irreversible" and not step.pivot and not step.on_commit
    ]
    if not irreversible:
        return
    edges = dependencies(definition.steps, transaction_id)
    for index in irreversible:
        before = ancestors(edges, [index])
        for other, step in enumerate(definition.steps):
            if step.compensating_action is not None and other not in before and not step.on_commit:
                raise IrreversibleBeforeCompensatable(
                    transaction_id, definition.steps[index].step_id, step.step_id
                )
