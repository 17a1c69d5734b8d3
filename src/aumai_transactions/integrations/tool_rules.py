"""What is declared about a tool that one does not own: `ToolRule`.

Owns: the way from that to actions, and who finds them after a crash.
Rules:
  1. What undoes a tool is found by its name in every process that has made the same rules, whether
     the tool itself can be called there or not.
  2. No two functions go by one name, and no tool by that of a step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

from aumai_transactions.actions import (
    DECORATED,
    FOREIGN,
    Action,
    ActionRegistry,
    Handler,
    RegisteredAction,
)
from aumai_transactions.core.values import checked_name, shown
from aumai_transactions.drivers.behind import DataUndo
from aumai_transactions.drivers.blocks import options_of
from aumai_transactions.drivers.places import are_two, place_of
from aumai_transactions.drivers.steps import StepDeclaration, step_of
from aumai_transactions.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aumai_transactions.core.observations import StepAsked
    from aumai_transactions.drivers.blocks import BlockBase

_GIVEN = "__aumai_given__"
"""What a handler has that was made of a function: that function."""


class ToolRule:
    """Declare what a tool that one does not own is as a step.

    Args:
        compensating_action: What undoes it: the name of an action, a step, or a function that takes
            by name any of the call's arguments, `result` for what the tool returned as it was
            recorded, and `context`.
        agent_id: On whose behalf it acts; default the agent of the code around it.
        name: What its action is called in the journal; default the tool's own name.
        **declaration: What else is declared about it, as for `@step`: `effect`, `idempotent`,
            `retry`, `timeout_seconds`, `probe`, `identity`, `requires_approval`, `pivot`, … Unlike
            there, `once` is True, unless `effect="none"` says that it only reads.

    Raises:
        DefinitionError: An option is unknown, or cannot be for a tool that a framework calls.
    """

    def __init__(
        self,
        compensating_action: str | Callable[..., Any] | None = None,
        *,
        agent_id: str | None = None,
        name: str | None = None,
        **declaration: Unpack[StepDeclaration],
    ) -> None:
        for option in declaration:
            if option not in StepDeclaration.__annotations__:
                known = ", ".join(StepDeclaration.__annotations__)
                message = f"ToolRule() has no option {option!r}. Besides its own it has {known}."
                raise DefinitionError(message)
        if declaration.get("on_commit"):
            message = (
                "on_commit holds a step until the transaction commits, and by then the framework "
                "that calls the tool has ended. Make the tool a step of your own, with @step."
            )
            raise DefinitionError(message)
        self.compensating_action = compensating_action
        self.agent_id = None if agent_id is None else checked_name(agent_id, "agent_id")
        self.name = None if name is None else checked_name(name, "name")
        self.declaration = declaration


READ = ToolRule(effect="none")
"""The rule of a tool that only reads: nothing is to undo, and each call is made."""


class Tool:
    """Hold the actions that a tool is for its steps.

    Args:
        name: What its framework calls it.
        rule: What is declared about it.
        handlers: What makes a call of it, for threads and for tasks.

    Attributes:
        once: True where the same call, asked for again, is answered with what was recorded.

    Raises:
        DefinitionError: It cannot be that; or another function goes by its name.
    """

    def __init__(self, name: str, rule: ToolRule, handlers: tuple[Handler, Handler]) -> None:
        self._agent_id = rule.agent_id
        self._handlers = handlers
        declared: dict[str, Any] = dict(rule.declaration)
        self.approval = declared.get("requires_approval", False)
        self.once = bool(declared.setdefault("once", declared.get("effect") != "none"))
        self._options = {"pivot": True} if declared.pop("pivot", False) else {}
        declared.pop("on_commit", None)
        self.action = action = rule.name or name
        _refuse_name_of_a_step(action)
        undoes, confirms = rule.compensating_action, declared.pop("confirming_action", None)
        behind = [
            ("compensating_action", f"{action}.undo", undoes),
            ("confirming_action", f"{action}.confirm", confirms),
        ]
        self._own: list[Action] = []
        for option, named, given in behind:
            made = _behind(named, option, given)
            declared[option] = made.name if isinstance(made, Action) else made
            if isinstance(made, Action):
                self._own.append(made)
        self._actions = [Action(action, handler, **declared) for handler in handlers]
        checked = ActionRegistry()
        for one in (*self._own, self._actions[0]):
            checked.add(one)
        for one in self._own:
            _register(one)
        FOREIGN.add(self._actions[0])

    def asked_in(
        self, block: BlockBase, arguments: Mapping[str, Any], *, is_async: bool
    ) -> StepAsked:
        """Return what a call asks of a transaction.

        Raises:
            InvalidData: An argument is not JSON; nothing was called.
            DefinitionError: The transaction knows another function by its name.
        """
        known = block._shared.run.registry.get(self.action)  # noqa: SLF001 (as a step looks)
        if known is not None and known.action.handler not in self._handlers:
            message = (
                f"transaction {block.transaction_id} knows an action {self.action!r} of its own, "
                "and nobody could tell the two apart after a crash. Nothing was done. Give the "
                'tool another name in the journal: ToolRule(name="…").'
            )
            raise DefinitionError(message)
        return block.asked_of(
            [*self._own, self._actions[is_async]],
            dict(arguments),
            agent_id=self._agent_id,
            options=options_of(self._options),
        )


def _refuse_name_of_a_step(action: str) -> None:
    """Refuse a tool that goes by the name of a step of the program.

    Raises:
        DefinitionError: It does.
    """
    known = DECORATED.get(action)
    if known is not None:
        message = (
            f"{place_of(known.action.handler)} is called {action!r} already, and nobody could tell "
            "after a crash which of them is meant. A function of your own that is a step needs no "
            'rule; else give the tool another name: ToolRule(name="…").'
        )
        raise DefinitionError(message)


def _register(action: Action) -> None:
    """Let every manager of the process find an action, so that a crash is undone with it.

    Raises:
        DefinitionError: Another function goes by its name.
    """
    known = DECORATED.get(action.name)
    if known is not None:
        given = getattr(known.action.handler, _GIVEN, None)
        mine = getattr(action.handler, _GIVEN, None)
        if given is None or mine is None or are_two(given, mine):
            other = place_of(given or known.action.handler)
            message = (
                f"{other} is called {action.name!r} already, and nobody could tell after a crash "
                'which of them is meant. Give the tool another name: ToolRule(name="…").'
            )
            raise DefinitionError(message)
    DECORATED.add(action)


def _behind(name: str, option: str, given: str | Callable[..., Any] | None) -> Action | str | None:
    """Return by which name something undoes or confirms a tool; an action, if it is made here.

    Raises:
        DefinitionError: It is neither a function nor a name.
    """
    if given is None:
        return None
    if isinstance(given, str):
        return checked_name(given, option)
    if isinstance(given, RegisteredAction):
        return given.name
    step = step_of(given)
    if step is not None:
        return step.name
    if not callable(given):
        message = f"{option} of a tool must be a function or a name, not {shown(given)}."
        raise DefinitionError(message)
    handler = DataUndo(given).handler()
    setattr(handler, _GIVEN, inspect.unwrap(given))
    return Action(name, handler)
