"""Hold recorded journals against the handlers and programs of today.

Owns: `check_replay`, and what of a journal is compared with what is declared now.
Rules:
  1. Nothing of the user's is called but a program that was given, and of that program no step is
     carried out: what was recorded is answered, and at anything else it is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from aumai_transactions.actions import ActionRegistry
from aumai_transactions.core.journal import load
from aumai_transactions.drivers.behind import TYPED
from aumai_transactions.drivers.manager import ManagerBase
from aumai_transactions.errors import InvalidData, JournalCorrupt, JournalTooNew
from aumai_transactions.testing.replay.programs import program_differences
from aumai_transactions.testing.replay.recorded import journals_of
from aumai_transactions.testing.replay.report import Difference, Replayed, ReplayReport

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Operation, StepDefinition
    from aumai_transactions.core.saga import Saga, SagaStep

Program = Callable[[Any], Any]
"""Given a block, carries out the steps; a coroutine function where it is asynchronous."""

_ASKING: tuple[tuple[Operation, str, str], ...] = (
    ("probe", "has_probe", "probe"),
    ("verification", "has_verify", "verification"),
    ("reread", "has_reread", "second look (reread)"),
)

_OF_THE_STEP = ("retry", "timeout_seconds")
"""What a step may say for itself, so that a difference says nothing about its action."""


def check_replay(
    journals: Any,
    manager: ManagerBase | ActionRegistry,
    *,
    program: Program | None = None,
    programs: dict[str, Program] | None = None,
) -> ReplayReport:
    """Tell whether today's code would carry on what was recorded, without carrying it on.

    Of each step, every handler that recovery or a rollback may need must be there, and the recorded
    data must still fit it; what is declared differently now is named. A program is run against
    each interactive transaction as after a crash: it must ask for the same steps again.

    Args:
        journals: Where they are: a store, a path, what `show --json` prints, or several; see
            `journals_of`.
        manager: Today's manager, or its `actions`; nothing is called in it.
        program: What carries out every interactive transaction: `(block) -> anything`.
        programs: The same, by the name of the transaction; goes before `program`.

    Returns:
        What differs, by transaction and step; `fits` tells whether anything would stop.

    Raises:
        CannotRead: Something is no journal.
        StoreError: A store cannot be read.
        TypeError: `manager` is none.
    """
    registry = manager.actions if isinstance(manager, ManagerBase) else manager
    if not isinstance(registry, ActionRegistry):
        raise TypeError(f"manager must be a manager, or its actions; not {type(manager).__name__}.")
    source = manager._action_source if isinstance(manager, ManagerBase) else None  # noqa: SLF001
    report = ReplayReport()
    for journal in journals_of(journals):
        found = Replayed(journal.transaction_id)
        report.transactions.append(found)
        try:
            saga = load(journal)
        except (JournalCorrupt, JournalTooNew) as error:
            found.differences.append(Difference("", "stops", str(error)))
            continue
        found.name, found.state = saga.plan.name or "", saga.state.value
        found.steps = len(saga.steps)
        found.differences += _handler_differences(saga, registry, has_source=source is not None)
        chosen = (programs or {}).get(found.name, program)
        if chosen is not None and saga.is_interactive:
            found.is_program_checked = True
            found.differences += program_differences(journal, saga, registry, chosen)
    return report


def _handler_differences(
    saga: Saga, registry: ActionRegistry, *, has_source: bool
) -> Iterator[Difference]:
    defined = saga.plan.actions or {}
    if defined and not has_source:
        names = ", ".join(sorted(defined))
        text = (
            f"it defines {names} itself, and this manager cannot make actions from a journal: give "
            "it action_source=."
        )
        yield Difference("", "stops", text)
    for step in saga.steps:
        if not step.simulated:
            yield from _of_step(step, registry, set(defined))


def _of_step(step: SagaStep, registry: ActionRegistry, defined: set[str]) -> Iterator[Difference]:
    definition, name = step.definition, step.step_id
    called = (
        ("action", definition.action),
        ("compensating action", definition.compensating_action),
        ("confirming action", definition.confirming_action),
    )
    for what, action in called:
        if action is not None and action not in defined and registry.get(action) is None:
            text = (
                f"its {what} {action!r} has no handler now. Register it under this name for as "
                "long as such transactions are in the store."
            )
            yield Difference(name, "stops", text)
    if definition.action in defined or registry.get(definition.action) is None:
        return
    for operation, flag, what in _ASKING:
        if getattr(definition.policy, flag) and registry.find(operation, definition) is None:
            text = f"its action {definition.action!r} had a {what} and has none now."
            yield Difference(name, "stops", text)
    yield from _data_differences(step, registry)
    yield from _declared_differences(definition, registry)


def _data_differences(step: SagaStep, registry: ActionRegistry) -> Iterator[Difference]:
    """Yield why a typed function could not be called with what is recorded."""
    callee = registry.find("action", step.definition)
    typed = None if callee is None else getattr(callee.handler, TYPED, None)
    data = step.definition.data if step.data is None else step.data
    if typed is None or (step.definition.references and step.data is None):
        return
    try:
        typed.arguments_from(data)
    except InvalidData as error:
        text = f"{step.definition.action!r} cannot be called with what is recorded: {error}"
        yield Difference(step.step_id, "stops", text)


def _declared_differences(
    definition: StepDefinition, registry: ActionRegistry
) -> Iterator[Difference]:
    """Yield what is declared otherwise than it was; what was recorded is gone by."""
    callee = registry.get(definition.action)
    if callee is None:
        return
    now, name = callee.action, definition.action
    if definition.idempotent and not now.idempotent:
        text = (
            f"{name!r} was recorded as idempotent, and is not declared so now. A crashed call of "
            "it is made again all the same, for the record says that it may."
        )
        yield Difference(definition.step_id, "differs", text)
    if definition.effect != now.effect:
        text = f"the effect of {name!r} was {definition.effect}, and is {now.effect} now."
        yield Difference(definition.step_id, "differs", text)
    undo = now.compensating_action
    if undo is not None and definition.compensating_action != undo:
        text = (
            f"it is undone by {definition.compensating_action!r}, as recorded; {name!r} is "
            f"registered with {undo!r} now."
        )
        yield Difference(definition.step_id, "differs", text)
    policy = registry.policy(name, definition.compensating_action, definition.confirming_action)
    changed = [
        field
        for field, then, today in zip(policy._fields, definition.policy, policy, strict=True)
        if then != today and not field.startswith("has_") and field not in _OF_THE_STEP
    ]
    if changed:
        text = f"declared otherwise now, and carried on as recorded: {', '.join(changed)}."
        yield Difference(definition.step_id, "differs", text)
