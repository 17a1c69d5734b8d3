"""Functions that are steps: `@step`, `transactional`, and the transaction that they find.

Owns: how a plain function is carried out as a journaled step where a transaction is around it, and
is just the function where none is.
Rules:
  1. The function's signature, docstring and annotations stay as they are, so that it sits
     underneath any framework's own decorator.
  2. It is found again by its name: `module:qualname`, or what it was given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

from aumai_transactions.actions import (
    DECORATED,
    Action,
    ActionRegistry,
    Handler,
    RegisteredAction,
    name_of,
)
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.ambient import AMBIENT, RETURNED
from aumai_transactions.drivers.blocks import BlockBase
from aumai_transactions.drivers.sync_block import TransactionBlock
from aumai_transactions.errors import DefinitionError, NoActiveTransaction
from aumai_transactions.models import RetryPolicy
from aumai_transactions.typed import TypedFunction, TypedUndo

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Effect, UnknownPolicy
    from aumai_transactions.core.observations import StepAsked
    from aumai_transactions.drivers.taking_part import Executed

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

MARK = "__aumai_step__"


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
    confirming_action: str | None
    reread: Handler | None
    requires_approval: bool | Callable[[dict[str, Any]], bool]
    approval_timeout_seconds: float | None
    undo_within_seconds: float | None
    identity: tuple[str, ...] | None
    once: bool
    pivot: bool
    on_commit: bool


class DecoratedStep:
    """Hold what a decorated function is as a step.

    Args:
        function: The function.
        name: What its action is called; None for `module:qualname`.
        agent_id: On whose behalf it acts; None for the agent of the code around.
        compensating_action: What undoes it: a function or the name of an action.
        required: True to refuse a call outside a transaction.
        declaration: What is declared about the action.
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
        own = name_of(function) if name is None else None
        self.name = checked_name(name, "name") if own is None else own.name
        self.is_stable = own is None or own.is_stable
        self.function = function
        self.agent_id = None if agent_id is None else checked_name(agent_id, "agent_id")
        self.required = required
        self.typed = TypedFunction(_remembering(function))
        self.late = {option: bool(declaration.get(option)) for option in ("pivot", "on_commit")}
        undo = None
        self.actions: list[Action] = []
        if isinstance(compensating_action, RegisteredAction):
            undo = compensating_action.name
        elif callable(compensating_action):
            undo = f"{self.name}.undo"
            inner = getattr(compensating_action, MARK, None)
            plain = inner.function if isinstance(inner, DecoratedStep) else compensating_action
            undoing = TypedUndo(plain, self.typed)
            self.actions.append(Action(undo, undoing.handler()))
        elif compensating_action is not None:
            undo = checked_name(compensating_action, "compensating_action")
        for option in declaration:
            if option not in StepDeclaration.__annotations__:
                known = ", ".join(StepDeclaration.__annotations__)
                message = f"step() has no option {option!r}. Besides its own it has {known}."
                raise DefinitionError(message)
        declared = {key: value for key, value in declaration.items() if key not in self.late}
        action = Action(self.name, self.typed.handler(), undo, **declared)  # type: ignore[arg-type]
        self.actions.append(action)
        self.action = action
        registry = DECORATED if self.is_stable else ActionRegistry()
        for one in self.actions:
            registry.add(one)

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
        return block.asked_by(self, data)

    def value_of(self, executed: Executed, returned: list[Any]) -> Any:
        """Return what the function returned: itself, or what was recorded of it."""
        return returned[-1] if returned else self.typed.result_of(executed.output)


def _remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that leaves what it returned, itself, to its caller here."""
    if TypedFunction(function).is_async:

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            value = await function(*args, **kwargs)
            _leave(value)
            return value

        return awaited

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        value = function(*args, **kwargs)
        _leave(value)
        return value

    return called


def _leave(value: Any) -> None:
    box = RETURNED.get()
    if box is not None:
        box.append(value)


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
                executed = await AsyncTransactionBlock.execute_in(block, asked, declared.action)
            finally:
                RETURNED.reset(token)
            return declared.value_of(executed, returned)

        setattr(awaited, MARK, declared)
        return awaited

    @functools.wraps(plain)
    def called(*args: Any, **kwargs: Any) -> Any:
        block = declared.block_around()
        if block is None:
            return plain(*args, **kwargs)
        asked = declared.asked_in(block, args, kwargs)
        returned: list[Any] = []
        token = RETURNED.set(returned)
        try:
            executed = TransactionBlock.execute_in(block, asked, declared.action)
        finally:
            RETURNED.reset(token)
        return declared.value_of(executed, returned)

    setattr(called, MARK, declared)
    return called


def transactional(
    tools: Any,
    *,
    compensating_actions: Mapping[str, str | Callable[..., Any]] | None = None,
    agent_id: str | None = None,
    required: bool = False,
) -> Any:
    """Make steps of functions that one does not own, in one line.

    Args:
        tools: A function, or a list, a tuple or a mapping of them.
        compensating_actions: What undoes which, by the function's name (or its key in the
            mapping); a function, or the name of an action.
        agent_id: On whose behalf they act.
        required: True to refuse calls outside a transaction.

    Returns:
        The same, each function as a step.

    Raises:
        DefinitionError: One of them cannot be a step; or something undoes what is not among them.
    """
    undos = dict(compensating_actions or {})

    def made(function: Callable[..., Any], key: str) -> Callable[..., Any]:
        undo = undos.pop(key, None)
        decorate = step(compensating_action=undo, agent_id=agent_id, required=required)
        return decorate(function)

    if isinstance(tools, Mapping):
        found: Any = {key: made(function, key) for key, function in tools.items()}
    elif isinstance(tools, (list, tuple)):
        found = type(tools)([made(function, _called_by(function)) for function in tools])
    else:
        found = made(tools, _called_by(tools))
    if undos:
        message = (
            f"compensating_actions names {', '.join(map(repr, undos))}, which is none of the tools."
        )
        raise DefinitionError(message)
    return found


def _called_by(function: Any) -> str:
    return str(getattr(function, "__name__", ""))


def require_transaction() -> BlockBase:
    """Return the transaction that this code stands in.

    Raises:
        NoActiveTransaction: It stands in none.
    """
    block: BlockBase | None = AMBIENT.get()
    if block is None:
        raise NoActiveTransaction("this code")
    return block
