"""The actions that a process can carry out, by name.

Owns: the registry of handlers, and what they declare as it is journaled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Generic, ParamSpec, TypeVar

from aumai_transactions.actions.checks import Callee, check_choice, check_policies, looked_at
from aumai_transactions.actions.declaration import Action, Handler
from aumai_transactions.core.definition import (
    NO_POLICY,
    Operation,
    Policy,
    Retry,
    StepDefinition,
)
from aumai_transactions.core.values import checked_name, shown
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
Behind = Callable[[Callee, Callee | None], Callee]

_UNDECLARED = Action("", print)

BEHIND = "__aumai_behind__"
"""What a handler has that is called otherwise where it undoes or confirms a step: a function of its
own callee and of that of the step's action, which returns what is called there."""


class ActionRegistry:
    """Hold the actions of one process, by name.

    Args:
        fallback: Where those are looked for that are not here.
    """

    def __init__(self, fallback: ActionRegistry | None = None) -> None:
        self._fallback = fallback
        self._callees: dict[str, Callee] = {}
        self._asked: dict[tuple[Operation, str], Callee] = {}
        self._policies: dict[tuple[str, str | None, str | None], Policy] = {}

    def add(self, action: Action) -> None:
        """Register an action; one of the same name is replaced.

        Raises:
            DefinitionError: The handler cannot be called as a handler is called.
            InvalidData: The name is empty or not text.
        """
        if not isinstance(action, Action):
            message = f"actions must be Action objects, not {shown(action)}."
            raise DefinitionError(message)
        checked_name(action.name, "action name")
        if action.compensating_action is not None:
            checked_name(action.compensating_action, f"compensating_action of {action.name!r}")
        if action.confirming_action is not None:
            checked_name(action.confirming_action, f"confirming_action of {action.name!r}")
        check_choice(action.name, "on_unknown", action.on_unknown, ("compensate", "ask", None))
        check_choice(action.name, "effect", action.effect, ("none", "irreversible", None))
        check_policies(action)
        callee = looked_at(action, action.handler, "handler")
        asked: tuple[tuple[Operation, Handler | None], ...] = (
            ("probe", action.probe),
            ("verification", action.verify),
            ("reread", action.reread),
        )
        found = {
            operation: looked_at(action, handler, operation)
            for operation, handler in asked
            if handler is not None
        }
        self._callees[action.name] = callee
        # Why a new one: whoever looks a policy up meanwhile keeps the old one out of it.
        self._policies = {}
        for operation, _handler in asked:
            self._asked.pop((operation, action.name), None)
            if operation in found:
                self._asked[operation, action.name] = found[operation]

    def get(self, name: str | None) -> Callee | None:
        """Return the action of this name, ready to be called; None where there is none."""
        if name is None:
            return None
        found = self._callees.get(name)
        if found is None and self._fallback is not None:
            return self._fallback.get(name)
        return found

    def find(self, operation: Operation, step: StepDefinition) -> Callee | None:
        """Return what makes one of a step's calls; None where it is not here."""
        if operation == "action":
            return self._callees.get(step.action) or self.get(step.action)
        if operation == "compensation":
            return self._behind(step, step.compensating_action)
        if operation == "confirmation":
            return self._behind(step, step.confirming_action)
        found = self._asked.get((operation, step.action))
        if found is None and self._fallback is not None and step.action not in self._callees:
            return self._fallback.find(operation, step)
        return found

    def _behind(self, step: StepDefinition, name: str | None) -> Callee | None:
        """Return what undoes or confirms a step; a typed function takes what it needs by name."""
        callee = self.get(name)
        made: Behind | None = callee and getattr(callee.handler, BEHIND, None)
        return callee if callee is None or made is None else made(callee, self.get(step.action))

    def policy(
        self, action: str, compensating_action: str | None, confirming_action: str | None = None
    ) -> Policy:
        """Return what an action and those that undo and confirm it declare, as it is journaled."""
        policies, names = self._policies, (action, compensating_action, confirming_action)
        known = policies.get(names)
        if known is None and self._fallback is not None and not self._has_any(names):
            return self._fallback.policy(action, compensating_action, confirming_action)
        if known is None:
            callees = [self.get(name) for name in names]
            known = policy_of(*(callee and callee.action for callee in callees))
            # Why only for those that are here: names may come from agents, and have no end.
            # And not for those of the fallback, which may be replaced there.
            if all(name in self._callees or name is None for name in names):
                policies[names] = known
        return known

    def _has_any(self, names: tuple[str | None, ...]) -> bool:
        return bool(self._callees) and any(name in self._callees for name in names)

    def is_idempotent(self, name: str) -> bool | None:
        """Tell whether an action is declared idempotent; None where it is not here."""
        callee = self.get(name)
        return None if callee is None else callee.action.idempotent

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that have no handler here, each once, in order."""
        return [name for name in dict.fromkeys(names) if self.get(name) is None]

    def __iter__(self) -> Iterator[Action]:
        """Yield every action that was registered, but for the decorated functions."""
        for callee in self._callees.values():
            yield callee.action
        if self._fallback is not None and self._fallback is not DECORATED:
            for action in self._fallback:
                if action.name not in self._callees:
                    yield action

    def everything(self) -> Iterator[Action]:
        """Yield every action that can be called, the decorated functions of the process last."""
        yield from self
        for action in DECORATED:
            if action.name not in self._callees:
                yield action

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a handler of this name."""
        return isinstance(name, str) and self.get(name) is not None


DECORATED = ActionRegistry()
"""The actions of functions decorated with `@step`: every manager of the process has them."""


FOREIGN = ActionRegistry()
"""The tools of frameworks that something is declared about, which only their framework can call.

Whoever goes on with a transaction that has called one finds it here, and nobody else: elsewhere in
the program, an action of its name is another one, or missing."""


def policy_of(action: Action | None, undo: Action | None, confirm: Action | None = None) -> Policy:
    """Return what a step's action, its undo and its confirmation declare, as it is journaled."""
    if action is None and undo is None and confirm is None:
        return NO_POLICY
    did, undid = action or _UNDECLARED, undo or _UNDECLARED
    confirms = confirm or _UNDECLARED
    policy = Policy(
        _journaled(did.retry),
        did.timeout_seconds,
        did.abandon_after_seconds,
        did.probe is not None,
        _journaled(did.probe_retry),
        did.verify is not None,
        _journaled(did.verify_retry),
        undid.idempotent,
        _journaled(undid.retry),
        undid.timeout_seconds,
        did.reread is not None,
        _journaled(confirms.retry),
        confirms.timeout_seconds,
    )
    return NO_POLICY if policy == NO_POLICY else policy


def _journaled(retry: RetryPolicy | None) -> Retry | None:
    return None if retry is None else journaled_retry(retry)


def journaled_retry(retry: RetryPolicy) -> Retry:
    """Return a retry policy as it is journaled."""
    return Retry(
        retry.attempts_max,
        retry.first_delay_seconds,
        retry.delay_factor,
        retry.delay_seconds_max,
        retry.jitter,
        retry.budget_seconds,
    )


class RegisteredAction(Generic[P, R]):
    """Be the function that was registered, and take its probe and its verification.

    Args:
        registry: Where it is registered.
        action: As what.
    """

    def __init__(self, registry: ActionRegistry, action: Action) -> None:
        # Order matters: the function may be such an object itself, and lends its attributes.
        functools.update_wrapper(self, action.handler)
        self._registry = registry
        self._action = action

    @property
    def name(self) -> str:
        """What steps call it."""
        return self._action.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function as it is; nothing is journaled."""
        result: R = self._action.handler(*args, **kwargs)
        return result

    def probe(self, function: F) -> F:
        """Register what tells whether a call of this action took effect; use it as a decorator.

        It is called with `(data)` or `(data, context)` and returns `Done(output)`, `NotDone()` or
        `Unknown()`. It is asked before an unknown outcome is run again, undone, or put before a
        person.

        Raises:
            DefinitionError: It cannot be called so.
        """
        self._change(probe=function)
        return function

    def verify(self, function: F) -> F:
        """Register what looks, after the undo, whether anything is left; use it as a decorator.

        It is called with `(data)` or `(data, context)` and returns `Clean()`, `Residue(left)` or
        `Unknown()`.

        Raises:
            DefinitionError: It cannot be called so.
        """
        self._change(verify=function)
        return function

    def reread(self, function: F) -> F:
        """Register what tells, before the commit point, whether what was read still holds.

        It is called with `(data)` or `(data, context)`, where `context.output` is what had been
        read, and returns True or False. False, or an exception, rolls the transaction back
        (`ReadConflict`). Use it as a decorator.

        Raises:
            DefinitionError: It cannot be called so.
        """
        self._change(reread=function)
        return function

    def _change(self, **changes: Any) -> None:
        action = replace(self._action, **changes)
        self._registry.add(action)
        self._action = action
