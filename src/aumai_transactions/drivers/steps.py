"""Functions that are steps: `@step`, and the transaction that they find.

Owns: how a plain function is carried out as a journaled step where a transaction is around it, and
is just the function where none is.
Rules:
  1. The function's signature, docstring and annotations stay as they are, so that it sits
     underneath any framework's own decorator.
  2. It is found again by its name: `module:qualname`, or what it was given. No two functions of a
     program have one name; one that cannot be found again has a name of this process alone.
  3. What undoes a step is given what the step was given and returned, however it was named: as a
     function, as a step, or by the name of a step.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

from aumai_transactions.actions import (
    BEHIND,
    DECORATED,
    Action,
    ActionRegistry,
    Handler,
    RegisteredAction,
    Resources,
    name_of,
)
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.ambient import AMBIENT, RETURNED
from aumai_transactions.drivers.behind import TYPED, Behind
from aumai_transactions.drivers.blocks import BlockBase
from aumai_transactions.drivers.places import are_two, is_redefined, is_there, name_here, place_of
from aumai_transactions.drivers.sync_block import TransactionBlock
from aumai_transactions.errors import DefinitionError, NoActiveTransaction
from aumai_transactions.models import RetryPolicy
from aumai_transactions.typed import TypedFunction, TypedUndo

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Effect, UnknownPolicy
    from aumai_transactions.core.observations import StepAsked
    from aumai_transactions.drivers.telling import Executed

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

MARK = "__aumai_step__"

_guard = threading.RLock()
_declared: dict[str, DecoratedStep] = {}
"""Every step that can be found again, by its name."""

_naming: dict[str, dict[str, DecoratedStep]] = {}
"""By the name that they give as what undoes or confirms them, the steps that do, by their own."""


class StepDeclaration(TypedDict, total=False):
    """What `@step` takes besides its own: what is declared about the action; see `Action`."""

    idempotent: bool
    on_unknown: UnknownPolicy | None
    effect: Effect | None
    in_doubt_on: tuple[type[BaseException], ...]
    retry: RetryPolicy | None
    retry_on: tuple[type[BaseException], ...] | None
    timeout_seconds: float | None
    abandon_after_seconds: float | None
    probe: Handler | None
    probe_retry: RetryPolicy | None
    verify: Handler | None
    verify_retry: RetryPolicy | None
    confirming_action: str | Callable[..., Any] | None
    reread: Handler | None
    requires_approval: bool | Callable[[dict[str, Any]], bool]
    approval_timeout_seconds: float | None
    undo_within_seconds: float | None
    identity: tuple[str, ...] | None
    once: bool
    resources: Resources | None
    pivot: bool
    on_commit: bool


class _Remembering(TypedFunction):
    """Leave what the function returned, itself, to its caller here."""

    def _recordable(self, value: Any) -> Any:
        box = RETURNED.get()
        if box is not None:
            box.append((self, value))
        return super()._recordable(value)


class DecoratedStep:
    """Hold what a decorated function is as a step.

    Args:
        function: The function.
        name: What its action is called; None for `module:qualname`.
        agent_id: On whose behalf it acts; None for the agent of the code around.
        compensating_action: What undoes it: a function or the name of an action.
        required: True to refuse a call outside a transaction.
        declaration: What is declared about the action.

    Attributes:
        action: Its own action.
        face: What stands in the place of the function, once that is made.

    Raises:
        DefinitionError: The function cannot be a step; the message says why.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None,
        agent_id: str | None,
        compensating_action: str | Callable[..., Any] | None,
        required: bool,
        declaration: StepDeclaration,
    ) -> None:
        _refuse_step(function)
        own = name_of(function) if name is None else None
        self.is_stable = own is None or own.is_stable
        self.name = checked_name(name, "name") if own is None else own.name
        self.function = function
        self.face: Callable[..., Any] = function
        self.agent_id = None if agent_id is None else checked_name(agent_id, "agent_id")
        self.required = required
        self.typed = _Remembering(function)
        declared: dict[str, Any] = dict(_checked(declaration, self))
        self.late = {option: bool(declared.pop(option, None)) for option in ("pivot", "on_commit")}
        given = {
            "compensating_action": compensating_action,
            "confirming_action": declared.pop("confirming_action", None),
        }
        with _guard:
            if not self.is_stable:
                self.name = name_here(self.name)
            self._others: dict[str, Action] = {}
            self._wanted: dict[str, list[str]] = {}
            named = {option: self._name_of(what, option) for option, what in given.items()}
            declared.update(named)
            self.action = Action(self.name, self.typed.handler(), **declared)
            self.behind = Behind(function)
            for mark, what in ((MARK, self), (TYPED, self.typed), (BEHIND, self.behind)):
                setattr(self.action.handler, mark, what)
            self._register()

    @property
    def actions(self) -> list[Action]:
        """Those that undo and confirm it, where they are its own, and its own action."""
        return [*self._others.values(), self.action]

    def _name_of(self, given: str | Callable[..., Any] | None, option: str) -> str | None:
        """Return the name of what undoes or confirms it; make it, where it is a function."""
        if given is None:
            return None
        if isinstance(given, RegisteredAction):
            if given.name not in DECORATED:
                # Why: it is registered with one manager, and the step is called under any.
                DECORATED.add(given._action)  # noqa: SLF001 (as a manager does with another's)
            return given.name
        if not callable(given):
            self._wanted.setdefault(checked_name(given, option), []).append(option)
            return given
        return self._made_own(option, given, step_of(given))

    def _made_own(
        self, option: str, function: Callable[..., Any], known: DecoratedStep | None
    ) -> str:
        """Make a function what undoes or confirms this step, and return by what name.

        Raises:
            DefinitionError: It needs an argument that it would not be given.
        """
        kind = "undo" if option == "compensating_action" else "confirm"
        name = f"{self.name}.{kind}"
        handler = TypedUndo(function if known is None else known.function, self.typed).handler()
        action = Action(name, handler)
        if known is not None:
            # Why: what it declares of itself, as that it is idempotent, holds here too.
            others: dict[str, Any] = {"compensating_action": None, "confirming_action": None}
            action = replace(known.action, name=name, handler=handler, **others)
        self._others[option] = action
        return name

    def _register(self) -> None:
        """Let every manager find it by its name, if it can be found again.

        Raises:
            DefinitionError: Another function of the program has the name.
        """
        known, mine = _declared.get(self.name), self.function
        if known is not None and are_two(known.function, mine) and is_there(known.function):
            message = (
                f"{place_of(known.function)} and {place_of(mine)} are both called {self.name!r}, "
                "and nobody could tell after a restart which of them is meant. Give one of them "
                "another name."
            )
            raise DefinitionError(message)
        if self.is_stable:
            _declared[self.name] = self
        for name in self._wanted:
            if name in _declared:
                self.take(_declared[name])
            if self.is_stable:
                _naming.setdefault(name, {})[self.name] = self
        # Why also one that is found nowhere: what is declared of it is checked there.
        registry = DECORATED if self.is_stable else ActionRegistry()
        for action in self.actions:
            registry.add(action)
        if self.is_stable:
            for waiting in _naming.get(self.name, {}).values():
                waiting.take(self)

    def take(self, other: DecoratedStep) -> None:
        """Let another step, which was given by its name, undo or confirm this one.

        Raises:
            DefinitionError: It needs an argument that it would not be given.
        """
        if self.is_stable and _declared[self.name] is not self:
            return  # It was defined once more, and this one is past.
        changes: dict[str, Any] = {}
        for option in self._wanted[other.name]:
            changes[option] = self._made_own(option, other.function, other)
        self.action = replace(self.action, **changes)
        if self.is_stable:
            for action in self.actions:
                DECORATED.add(action)

    def behind_in(self, registry: ActionRegistry, *, is_durable: bool) -> str:
        """Let it undo or confirm steps of a manager, and return by what name.

        Args:
            registry: The manager's.
            is_durable: True where the store outlives the process.

        Raises:
            DefinitionError: It could not be found again after a restart; or the manager knows
                another function by its name.
        """
        if is_durable:
            self.refuse_unstable()
        known = registry.get(self.name)
        if known is not None and getattr(known.action.handler, MARK, None) is not self:
            message = (
                f"this manager knows another function as {self.name!r}, and that one would be "
                "called. Give one of them another name."
            )
            raise DefinitionError(message)
        if known is None:
            registry.add(self.action)
        return self.name

    def refuse_unstable(self) -> None:
        """Refuse it where what it does must be undone after a restart, and it is not found then."""
        if not self.is_stable:
            message = (
                f"{self.name} cannot be found again after a restart (a lambda, a nested "
                "function, or one of the main program), and this store outlives the process. "
                'Give it a name: @step(name="…").'
            )
            raise DefinitionError(message)

    def block_around(self) -> BlockBase | None:
        """Return the transaction that a call stands in; None where it is just the function.

        Raises:
            NoActiveTransaction: There is none, and the step needs one.
        """
        block: BlockBase | None = AMBIENT.get()
        if block is None and self.required:
            raise NoActiveTransaction(f"step {self.name!r}")
        return block

    def asked_in(
        self, block: BlockBase, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> StepAsked:
        """Return what is asked of a transaction by calling the function so.

        Raises:
            TypeError: The function cannot be called so.
            InvalidData: An argument does not fit its annotation, or is not JSON.
            DefinitionError: The function could not be found again after a restart.
        """
        data = self.typed.data_of(args, kwargs)
        self._refuse_namesake(block)
        return block.asked_by(self, data)

    def _refuse_namesake(self, block: BlockBase) -> None:
        """Refuse a call where the transaction knows another function by this step's name."""
        registry = block._shared.run.registry  # noqa: SLF001 (one package)
        callee = registry.get(self.name)
        other = self if callee is None else getattr(callee.action.handler, MARK, None)
        if other is self:
            return
        if isinstance(other, DecoratedStep):
            has_part = self.name in registry._callees  # noqa: SLF001 (one package)
            if not has_part or is_redefined(other.function, self.function):
                return
        message = (
            f"transaction {block.transaction_id} knows another function as {self.name!r}, and one "
            "would be undone by what undoes the other. Nothing was done. Give one of them another "
            "name."
        )
        raise DefinitionError(message)

    def value_of(self, executed: Executed, returned: list[Any]) -> Any:
        """Return what the function returned: itself, or what was recorded of it."""
        for owner, value in reversed(returned):
            # Why: a handler that runs in its body may be another typed function.
            if owner is self.typed:
                return value
        return self.typed.result_of(executed.output)


def step_of(function: object) -> DecoratedStep | None:
    """Return what a decorated function is as a step; None where it is none."""
    found = getattr(function, MARK, None)
    # Why compared: a decorator on top of a step copies its attributes, and is not the step.
    return found if isinstance(found, DecoratedStep) and found.face is function else None


def _refuse_step(function: object) -> None:
    inner: Any = function
    while inner is not None:
        found = step_of(inner)
        if found is not None:
            message = (
                f"{place_of(function)} is the step {found.name!r} already. Declare all there is to "
                "say about it in one place."
            )
            raise DefinitionError(message)
        inner = getattr(inner, "__wrapped__", None)


def _checked(declaration: StepDeclaration, declared: DecoratedStep) -> StepDeclaration:
    for option in declaration:
        if option not in StepDeclaration.__annotations__:
            known = ", ".join(StepDeclaration.__annotations__)
            message = f"step() has no option {option!r}. Besides its own it has {known}."
            raise DefinitionError(message)
    names = declared.typed.signature.parameters
    identity: Any = declaration.get("identity")
    for key in identity if isinstance(identity, tuple) else ():
        if key not in names:
            there = ", ".join(names) or "none"
            message = (
                f"identity of step {declared.name!r} names {key!r}, which is none of its "
                f"arguments: {there}."
            )
            raise DefinitionError(message)
    return declaration


@overload
def step(function: F, /) -> F: ...
@overload
def step(
    *,
    compensating_action: str | Callable[..., Any] | None = None,
    agent_id: str | None = None,
    name: str | None = None,
    required: bool = False,
    **declaration: Unpack[StepDeclaration],
) -> Callable[[F], F]: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    compensating_action: str | Callable[..., Any] | None = None,
    agent_id: str | None = None,
    name: str | None = None,
    required: bool = False,
    **declaration: Unpack[StepDeclaration],
) -> Any:
    """Make a function a step: inside a transaction it is journaled, outside it is just itself.

    Its arguments are checked against their annotations, and stand in the journal as JSON, as does
    what it returns. Signature, docstring and annotations stay unchanged.

    Args:
        function: A plain function, sync or async, where it is used without brackets.
        compensating_action: What undoes it: the name of an action, or a function that takes any of
            the step's own parameters by name, `result` for what it returned, and `context`.
        agent_id: On whose behalf it acts; default the agent of the code around it.
        name: What its action is called, by which it is found again after a restart; default
            `module:qualname`. A lambda, a nested function and one of the main program need one
            where the store outlives the process.
        required: True to refuse a call outside a transaction, with `NoActiveTransaction`.
        **declaration: What else is declared about the action: `idempotent`, `retry`,
            `timeout_seconds`, `probe`, `pivot`, `on_commit`, `once`, …; see `Action`.

    Raises:
        DefinitionError: The function cannot be a step; the message says why.
    """

    def decorate(plain: Callable[..., Any]) -> Callable[..., Any]:
        declared = DecoratedStep(
            plain,
            name=name,
            agent_id=agent_id,
            compensating_action=compensating_action,
            required=required,
            declaration=cast("StepDeclaration", dict(declaration)),
        )
        return _wrapped(plain, declared)

    return decorate if function is None else decorate(function)


def _wrapped(plain: Callable[..., Any], declared: DecoratedStep) -> Callable[..., Any]:
    if declared.typed.is_async:

        @functools.wraps(plain)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            block = declared.block_around()
            if block is None:
                return await plain(*args, **kwargs)
            # Why here: asyncio costs 40 ms to import.
            from aumai_transactions.drivers.async_block import AsyncTransactionBlock

            asked = declared.asked_in(block, args, kwargs)
            returned: list[Any] = []
            token = RETURNED.set(returned)
            try:
                executed = await AsyncTransactionBlock.execute_in(
                    block, asked, once=declared.action.once
                )
            finally:
                RETURNED.reset(token)
            return declared.value_of(executed, returned)

        return _faced(awaited, plain, declared)

    @functools.wraps(plain)
    def called(*args: Any, **kwargs: Any) -> Any:
        block = declared.block_around()
        if block is None:
            return plain(*args, **kwargs)
        asked = declared.asked_in(block, args, kwargs)
        returned: list[Any] = []
        token = RETURNED.set(returned)
        try:
            executed = TransactionBlock.execute_in(block, asked, once=declared.action.once)
        finally:
            RETURNED.reset(token)
        return declared.value_of(executed, returned)

    return _faced(called, plain, declared)


def _faced(face: Callable[..., Any], plain: object, declared: DecoratedStep) -> Callable[..., Any]:
    declared.face = face
    setattr(face, MARK, declared)
    # Why: in the body of a class it must stay one that is not given the object.
    return staticmethod(face) if isinstance(plain, staticmethod) else face


def require_transaction() -> BlockBase:
    """Return the transaction that this code stands in.

    Raises:
        NoActiveTransaction: It stands in none.
    """
    block: BlockBase | None = AMBIENT.get()
    if block is None:
        raise NoActiveTransaction("this code")
    return block
