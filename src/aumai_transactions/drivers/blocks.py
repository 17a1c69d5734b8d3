"""A block of a program that is one transaction: what needs no waiting.

Owns: what a block is made of, how a step that it asks for is described, and what it tells of
itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from aumai_transactions.actions import Action, ActionRegistry, Handler, checked_seconds
from aumai_transactions.calls import error_record
from aumai_transactions.core.description import describe
from aumai_transactions.core.intents import intent_of, named_intent
from aumai_transactions.core.observations import (
    CommitCalled,
    DriverArrived,
    RollbackCalled,
    StepAsked,
)
from aumai_transactions.core.saga import Saga
from aumai_transactions.core.shapes import check_step
from aumai_transactions.core.states import ACTIVE, COMMITTING, PENDING
from aumai_transactions.core.values import checked_name, shown
from aumai_transactions.drivers.ambient import (
    AGENT,
    AMBIENT,
    CALLING,
    INTENT,
    SCOPES,
    UNDOING,
    OnItsOwn,
)
from aumai_transactions.drivers.finishing import not_asked_again
from aumai_transactions.drivers.freezing import frozen, frozen_step
from aumai_transactions.drivers.groups import Group, current, enter
from aumai_transactions.drivers.listener import Listener
from aumai_transactions.drivers.noticing import refuse_in_notice
from aumai_transactions.drivers.options import StepOptions
from aumai_transactions.drivers.parts import Part
from aumai_transactions.drivers.run import Run
from aumai_transactions.drivers.shared import Shared
from aumai_transactions.drivers.taking_part import nested_result
from aumai_transactions.drivers.unfinished import goes_back
from aumai_transactions.errors import (
    DefinitionError,
    InvalidData,
    InvalidTransactionState,
    NoActiveTransaction,
    UnknownAction,
    rolled_back,
)
from aumai_transactions.models import (
    Description,
    Transaction,
    TransactionResult,
    TransactionState,
    TransactionStep,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aumai_transactions.core.definition import StepDefinition
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.manager import ManagerBase
    from aumai_transactions.drivers.steps import DecoratedStep

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_AGENT = "default"


class BlockBase(Listener):
    """Hold the parts of a block that need no waiting; see `TransactionBlock`."""

    def __init__(
        self,
        manager: ManagerBase,
        transaction: Transaction,
        *,
        parent: BlockBase | None = None,
        group: Group | None = None,
        is_guest: bool = False,
        accepts_requests: bool = False,
    ) -> None:
        self._is_guest = is_guest
        self._accepts_requests = accepts_requests
        self._manager = manager
        self._transaction = transaction
        self._parent = parent
        self._group = group
        self._desk_opened: Desk | None = None
        self._shared_run: Shared | None = None
        if parent is not None:
            self._desk_opened = parent._desk  # noqa: SLF001 (its own kind)
            self._shared_run = parent._shared  # noqa: SLF001
        self._result: TransactionResult | None = None
        self._went_back_by_itself = False
        self._outside: tuple[Any, Group | None] | None = None
        self.is_left = False

    @property
    def transaction_id(self) -> str:
        """Its id; that of a nested one is its root's with a name behind it."""
        name = self._transaction.transaction_id
        return name if self._group is None else f"{name}.{self._group.scope_id}"

    @property
    def state(self) -> TransactionState:
        """Where the transaction stands; a nested one stands where its root stands."""
        # Why also once it was let go of: others go on with it, and the caller's object follows.
        if self._shared_run is None or self._shared_run.broken is not None:
            return self._transaction.state
        return self._shared_run.saga.state

    @property
    def steps(self) -> list[TransactionStep]:
        """The steps so far, as copies; those of a nested one are its own."""
        steps = list(self._transaction.steps)
        if self._group is None:
            return steps
        inside = self._inside()
        return [step for step in steps if step.scope_id in inside]

    @property
    def result(self) -> TransactionResult | None:
        """The outcome, once the block has been left; None before."""
        return self._result

    @property
    def not_asked_again(self) -> list[str]:
        """Ids of the steps in force that a resumed program has not asked for again (yet)."""
        return [] if self._shared_run is None else not_asked_again(self._shared_run)

    @property
    def parent(self) -> BlockBase | None:
        """What it is nested in; None for a root."""
        return self._parent

    def _inside(self) -> set[str]:
        with self._shared.lock:
            return {
                scope.definition.scope_id
                for scope in self._shared.saga.scopes.values()
                if self._group is not None
                and self._group.scope_id in [one.definition.scope_id for one in scope.chain()]
            }

    def describe(self) -> Description:
        """Tell what is done, what is held, and what can still be undone; fit for a prompt.

        `str()` of it is text, `model_dump()` JSON; both are short and in a stable order.
        """
        if self._shared_run is None or self._shared_run.saga.definition is None:
            return describe(self._empty(), self._manager._clock.now())  # noqa: SLF001 (one package)
        notices = self.conflicts()
        with self._shared_run.lock:
            now = self._manager._clock.now()  # noqa: SLF001
            return describe(self._shared_run.saga, now, notices)

    def _empty(self) -> Saga:
        saga = Saga(self._transaction.transaction_id)
        saga.definition = frozen(self._transaction, self._manager.actions, None)
        return saga

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return a function that stands in this transaction in whichever thread it is called.

        It stands in the same group and acts for the same agent as the code that binds it.
        """
        group, agent = self._current_group(), AGENT.get()

        @contextmanager
        def inside() -> Iterator[None]:
            tokens = AMBIENT.set(self), AGENT.set(agent), SCOPES.set(SCOPES.get())
            enter(self._transaction.transaction_id, group)
            try:
                yield
            finally:
                SCOPES.reset(tokens[2])
                AGENT.reset(tokens[1])
                AMBIENT.reset(tokens[0])

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def bound_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with inside():
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", bound_async)

        @functools.wraps(function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            with inside():
                return function(*args, **kwargs)

        return bound

    @contextmanager
    def agent(self, agent_id: str) -> Iterator[None]:
        """Let the code of this block act for an agent, where a step does not say for whom."""
        token = AGENT.set(checked_name(agent_id, "agent_id"))
        try:
            yield
        finally:
            AGENT.reset(token)

    @contextmanager
    def intent(self, words: str) -> Iterator[None]:
        """Say in the program's own words what the step in this block is for.

        It is found again by these words and its action, and no longer by its data. They are for
        the steps that this code asks for, and not for those that such a step asks for itself.

        Args:
            words: What it is for, such as "the second room".
        """
        token = INTENT.set((checked_name(words, "intent"), CALLING.get()))
        try:
            yield
        finally:
            INTENT.reset(token)

    @property
    def _desk(self) -> Desk:
        if self._desk_opened is None:
            raise NoActiveTransaction("this call")
        return self._desk_opened

    @property
    def _shared(self) -> Shared:
        if self._shared_run is None:
            raise NoActiveTransaction("this call")
        return self._shared_run

    def _begin(self, desk: Desk) -> None:
        """Let the transaction begin in memory; its first step makes it durable."""
        name = self._transaction.transaction_id
        definition = frozen(self._transaction, desk.registry, None)
        run = Run(name, Saga(name), desk.registry, is_shared=True)
        run.attach(self._transaction)
        desk.book.hold(self._transaction, 0)
        self._take(desk, Shared(run, definition, DriverArrived(desk.driver_id)))

    def _take(self, desk: Desk, shared: Shared) -> None:
        shared.run.registry = ActionRegistry(shared.run.registry)
        self._desk_opened = desk
        self._shared_run = shared
        if desk.book.run_of(shared.run.transaction_id) is not shared.run:
            desk.book.enter(shared.run, "begin")

    def _part(self) -> Part:
        return Part(self._transaction.transaction_id)

    def _current_group(self) -> Group | None:
        return current(self._transaction.transaction_id, self._group)

    def _enter(self) -> None:
        """Let this context stand in the block."""
        self._check_open()
        name = self._transaction.transaction_id
        if self._outside is not None:
            hint = "A block is entered once; make a new one with transaction()."
            raise InvalidTransactionState(self.transaction_id, "entered already", "enter", hint)
        self._outside = AMBIENT.get(), SCOPES.get().get(name)
        AMBIENT.set(self)
        enter(name, self._group)

    def _leave(self) -> None:
        """Let this context stand where it stood before."""
        self.is_left = True
        if self._outside is not None:
            ambient, group = self._outside
            AMBIENT.set(ambient)
            enter(self._transaction.transaction_id, group)

    def _group_of(self, savepoint: object) -> Group:
        """Return the group of a savepoint; refuse what is none."""
        group = getattr(savepoint, "group", None)
        if isinstance(group, Group):
            return group
        raise InvalidData(
            "savepoint", f"must be what savepoint() returned, not {shown(savepoint)}."
        )

    def _new_group(self, kind: Any, name: str, timeout_seconds: float | None = None) -> Group:
        if name:
            checked_name(name, "name")
        parent = self._current_group()
        expires_at = None
        seconds = checked_seconds(timeout_seconds, "timeout_seconds")
        if seconds is not None:
            expires_at = self._desk.clock.now() + round(seconds * 1_000_000)
        letter = "c" if kind == "child" else "p"
        return Group(self._shared.free_scope_id(letter), kind, name, parent, expires_at)

    def _refuse_own_handler(self, call: str) -> None:
        if self._transaction.transaction_id in CALLING.get():
            raise InvalidTransactionState(
                self.transaction_id,
                "carrying out this very step",
                f"be told to {call} by a handler of",
                "Raise an exception in the handler instead.",
            )

    def _refuse_in_undo(self, *, pivot: bool) -> None:
        """Refuse a step where its transaction waits for the very handler that asks for it."""
        name = self._transaction.transaction_id
        calling = CALLING.get()
        if UNDOING + name in calling:
            raise InvalidTransactionState(
                self.transaction_id,
                "undoing or asking about a step",
                "execute a step from that handler in",
                "Call the function itself there; what an undo does is no step.",
            )
        if pivot and name in calling:
            raise InvalidTransactionState(
                self.transaction_id,
                "carrying out this very step",
                "execute a pivot from a handler of",
                "It would wait for the step that asks for it. Execute it outside.",
            )

    def _asked(
        self,
        agent_id: str | None,
        action: str,
        data: dict[str, Any] | None,
        compensating_action: str | Handler | None,
        *,
        step_id: str | None,
        intent: str | None,
        options: StepOptions,
    ) -> StepAsked:
        """Return what is asked for, checked.

        Raises:
            DefinitionError: The step cannot be; nothing was run.
            InvalidData: Something in it is not JSON; nothing was run.
        """
        desk, registry = self._desk, self._shared.run.registry
        self._refuse_in_undo(pivot=bool(options.get("pivot")))
        agent = agent_id if agent_id is not None else AGENT.get() or DEFAULT_AGENT
        step = self._manager._step(  # noqa: SLF001 (one package)
            step_id or "step",
            agent,
            action,
            {} if data is None else data,
            compensating_action,
            options,
        )
        with OnItsOwn():
            definition = frozen_step(step, "the step", registry, desk.before_record)
        if desk.strict:
            names = [definition.action, definition.compensating_action]
            missing = registry.missing(name for name in names if name is not None)
            if missing:
                hint = "Register it with action_handlers= or @manager.action. Nothing was run."
                raise UnknownAction(missing, self.transaction_id, hint)
        check_step(definition, self.transaction_id, registry.is_idempotent)
        group = self._current_group()
        definition = definition._replace(
            step_id=step_id or "",
            after=definition.after or (),
            intent=self._intent(definition, intent, group, registry),
        )
        return StepAsked(definition)

    def asked_by(self, declared: DecoratedStep, data: dict[str, Any]) -> StepAsked:
        """Return what is asked for by a call of a decorated function.

        Raises:
            DefinitionError: It could not be found again after a restart; nothing was run.
        """
        self._check_open()
        if self._desk.store.is_durable:
            declared.refuse_unstable()
        options = {option: True for option, wanted in declared.late.items() if wanted}
        return self.asked_of(
            declared.actions, data, agent_id=declared.agent_id, options=options_of(options)
        )

    def asked_of(
        self,
        actions: Sequence[Action],
        data: dict[str, Any],
        *,
        agent_id: str | None,
        options: StepOptions,
    ) -> StepAsked:
        """Return what is asked for of an action that the caller brings along.

        Args:
            actions: The action, the last; and those of its own that undo and confirm it.
            data: Its data.
            agent_id: On whose behalf; None for the agent of the code around.
            options: What the step is besides.

        Raises:
            DefinitionError: The step cannot be; nothing was run.
            InvalidData: Something in it is not JSON; nothing was run.
        """
        self._check_open()
        registry = self._shared.run.registry
        for action in actions:
            known = registry.get(action.name)
            if known is None or known.action is not action:
                # Why: another function may go by the same name by now, and this one was called.
                registry.add(action)
        name = actions[-1].name
        return self._asked(agent_id, name, data, None, step_id=None, intent=None, options=options)

    def _intent(
        self,
        definition: StepDefinition,
        named: str | None,
        group: Group | None,
        registry: ActionRegistry,
    ) -> str:
        names = [] if group is None else group.names()
        if named is not None:
            return named_intent(definition.agent_id, names, checked_name(named, "intent"))
        said = INTENT.get()
        if said is not None and said[1] == CALLING.get():
            # Why with the action: another function in the same block is not the same thing.
            return named_intent(definition.agent_id, names, ["", definition.action, said[0]])
        callee = registry.get(definition.action)
        identity = callee.action.identity if callee is not None else None
        data: dict[str, Any] = definition.data
        if definition.references:
            places = [[list(item.into), item.step_id, item.at] for item in definition.references]
            data = {**data, "": places}
        return intent_of(definition.agent_id, names, definition.action, data, identity)

    def _once(self, action: str, once: bool | None) -> bool:  # noqa: FBT001 (as it was given)
        if once is not None:
            return once
        callee = self._shared.run.registry.get(action)
        return callee is not None and callee.action.once

    def _check_open(self) -> None:
        """Refuse a call before the block was entered, or after its manager was closed."""
        if self._shared_run is None:
            hint = "Use it as a block: with manager.transaction() as tx."
            raise InvalidTransactionState(self.transaction_id, "not begun", "use", hint)
        if self._shared_run.closed is not None:
            raise self._shared_run.closed
        refuse_in_notice(self._transaction.transaction_id)

    def _wish_at_end(self, error: BaseException | None) -> CommitCalled | RollbackCalled | None:
        """Return what leaving the block means."""
        state = self._shared.saga.state
        if state not in (PENDING, ACTIVE):
            return None
        if error is None:
            return goes_back(self._shared) or CommitCalled()
        if not isinstance(error, Exception):
            return RollbackCalled(note=type(error).__name__, reason="cancelled")
        return RollbackCalled(error=error_record(error))

    def _is_past_commit_point(self) -> bool:
        saga = self._shared.saga
        return saga.state is COMMITTING or saga.decided_at is not None

    def _scope_result(self) -> TransactionResult:
        if self._group is None:
            raise DefinitionError("a root has its own result.")
        return nested_result(self._desk, self._shared, self._group)

    def _raise_for_end(self, result: TransactionResult) -> None:
        """Raise what leaving the block without an exception means, if it is no commit."""
        if result.state is TransactionState.committed:
            return
        if self._went_back_by_itself and result.state is TransactionState.rolled_back:
            return
        result.raise_for_state()
        raise rolled_back(result)


def options_of(given: Mapping[str, Any]) -> StepOptions:
    """Return the options of a step that a typed function was decorated with."""
    return given  # type: ignore[return-value]
