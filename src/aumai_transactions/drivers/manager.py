"""What a manager is, whichever way it waits.

Owns: everything of a manager that needs no waiting: its options, its actions, how a transaction
is begun and how a step is added, and how its store is opened.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from aumai_transactions.actions import (
    DECORATED,
    Action,
    ActionHandler,
    ActionRegistry,
    Handler,
    P,
    R,
    RegisteredAction,
    name_of,
    plain_actions,
)
from aumai_transactions.clock import Clock, SystemClock
from aumai_transactions.core.states import PENDING, STEP_PENDING
from aumai_transactions.core.times import instant
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.drivers.background import LeaseKeeper, LoopThread, keeper_of
from aumai_transactions.drivers.behind import check_functions, declared_as_step
from aumai_transactions.drivers.desk import ActionSource, Desk
from aumai_transactions.drivers.freezing import BeforeRecord, checked_timeout, data_of
from aumai_transactions.drivers.hooks import OnEvent, Settled, hooks_of
from aumai_transactions.drivers.host import hosted_by
from aumai_transactions.drivers.ids import free_step_id, new_id
from aumai_transactions.drivers.options import (
    BeginOptions,
    BlockOptions,
    CallOptions,
    StepOptions,
    begun_fields,
    check_parts,
    checked_after,
    checked_block_options,
    checked_call_options,
    checked_parallel,
    checked_step_options,
)
from aumai_transactions.drivers.repeating import repeat_of, repeated
from aumai_transactions.drivers.resources import checked_resources
from aumai_transactions.drivers.run import Book
from aumai_transactions.drivers.submitting import is_submitted
from aumai_transactions.drivers.telemetry import Telemetry, Watcher
from aumai_transactions.drivers.threads import ThreadRunner
from aumai_transactions.errors import (
    DefinitionError,
    InvalidTransactionState,
    StoreError,
    TransactionNotFound,
    UnknownStep,
)
from aumai_transactions.models import (
    Transaction,
    TransactionStep,
)
from aumai_transactions.stores import open_store

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Effect, UnknownPolicy
    from aumai_transactions.drivers.blocks import BlockBase
    from aumai_transactions.drivers.tasks import TaskRunner
    from aumai_transactions.engine import Engine
    from aumai_transactions.store import Store

log = logging.getLogger("aumai_transactions")

BLOCK_TIMEOUT_SECONDS = 3_600
"""How long a block may take where nobody says otherwise: agents think, and people are asked."""

PARALLEL_MAX = 16
"""How many steps of one transaction run at once, where nobody says otherwise."""


class ManagerBase:
    """Hold the parts of a manager that need no waiting; see `TransactionManager`."""

    def __init__(
        self,
        action_handlers: Mapping[str, ActionHandler | Handler] | None = None,
        *,
        store: str | os.PathLike[str] | Store | None = None,
        actions: Iterable[Action] = (),
        strict: bool = False,
        before_record: BeforeRecord | None = None,
        on_event: OnEvent | Sequence[OnEvent] | None = None,
        action_source: ActionSource | None = None,
        parallel_max: int = PARALLEL_MAX,
        clock: Clock | None = None,
        engine: Engine | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._registry = ActionRegistry(DECORATED)
        hooks = {"before_record": before_record, "action_source": action_source}
        check_parts(actions=actions, store=store, clock=clock, hooks=hooks, telemetry=telemetry)
        for action in (*plain_actions(action_handlers or {}), *actions):
            self._registry.add(action)
        self._given_store = store
        self._strict = strict
        self._before_record = before_record
        self._hooks = hooks_of(on_event, self._awaited)
        self._telemetry = None if telemetry is None else Watcher(telemetry)
        self._action_source = action_source
        self._parallel_max = checked_parallel(parallel_max)
        self._clock = clock or SystemClock()
        self.engine = engine
        self._guard = threading.Lock()
        self._opened: Desk | None = None
        self._lease: LeaseKeeper | None = None
        self._is_closed = False
        self._loop_thread = LoopThread()
        self._task_runner: TaskRunner | None = None
        self._threads = ThreadRunner(self._clock, self._loop_thread, self._desk_now)

    @property
    def actions(self) -> ActionRegistry:
        """The actions that this manager can carry out."""
        return self._registry

    @property
    def telemetry(self) -> Telemetry | None:
        """What watches this manager."""
        return None if self._telemetry is None else self._telemetry.telemetry

    def _awaited(self, awaitable: Awaitable[object], settled: Settled) -> None:
        """See to it that what a hook has returned is awaited."""
        raise NotImplementedError

    @property
    def before_record(self) -> BeforeRecord | None:
        """The hook that cleans a step's data before it is journaled."""
        return self._before_record

    @property
    def _owns_store(self) -> bool:
        return self._given_store is None or isinstance(self._given_store, (str, os.PathLike))

    @property
    def has_durable_store(self) -> bool:
        """True where this manager's transactions outlive the process."""
        if self._opened is not None:
            return self._opened.store.is_durable
        given = self._given_store
        if given is None or isinstance(given, (str, os.PathLike)):
            return given not in (None, "memory:")
        return given.is_durable

    def action(
        self,
        name: str | None = None,
        *,
        compensating_action: str | Handler | None = None,
        idempotent: bool = False,
        on_unknown: UnknownPolicy | None = None,
        effect: Effect | None = None,
        in_doubt_on: tuple[type[BaseException], ...] = (),
        confirming_action: str | Handler | None = None,
        **options: Unpack[CallOptions],
    ) -> Callable[[Callable[P, R]], RegisteredAction[P, R]]:
        """Register a handler with options; use it as a decorator.

        What it returns can be called like the function, and takes a probe and a verification:
        `@book.probe`, `@book.verify`.

        Args:
            name: What steps call it; default `module:qualname`.
            compensating_action: What undoes it (a name or a function) where a step names nothing
                else.
            idempotent: True where it may run again under the same idempotency key.
            on_unknown: `compensate` or `ask` a person, while nobody knows whether it happened;
                default: compensate where there is a compensating action, else ask.
            effect: `none` where it changes nothing outside, so that nothing is to undo;
                `irreversible` where nothing can undo it.
            in_doubt_on: Exceptions of it that leave the outcome unknown.
            confirming_action: What makes it final after the commit point (a name or a function),
                where it only tries.
            **options: How long, how often, who can be asked, who must allow it, until when it can
                be undone, and how it is found again: `retry`, `retry_on`, `timeout_seconds`,
                `abandon_after_seconds`, `probe`, `probe_retry`, `verify`, `verify_retry`, `reread`,
                `requires_approval`, `approval_timeout_seconds`, `undo_within_seconds`, `identity`,
                `once`, `redact`; see `Action`.

        Raises:
            DefinitionError: The function cannot be a handler, or has no stable name.
        """
        compensating = self._name_of(compensating_action, "compensating_action")
        confirming = self._name_of(confirming_action, "confirming_action")

        def register(function: Callable[P, R]) -> RegisteredAction[P, R]:
            action = Action(
                name if name is not None else self._stable_name(function),
                function,
                compensating,
                idempotent,
                on_unknown,
                effect,
                in_doubt_on,
                confirming_action=confirming,
                **checked_call_options(options),
            )
            self._registry.add(action)
            return RegisteredAction(self._registry, action)

        return register

    def add_step(
        self,
        tx: Transaction,
        agent_id: str,
        action: str,
        data: dict[str, Any],
        compensating_action: str | Handler | None = None,
        **options: Unpack[StepOptions],
    ) -> TransactionStep:
        """Add a step to a pending transaction, and return it.

        Args:
            tx: The transaction.
            agent_id: On whose behalf the step acts.
            action: The name of the action.
            data: JSON object for the action and for its compensating action; it is copied. Where
                `step.output(…)` of an earlier step stands in it, that output is filled in.
            compensating_action: What undoes it: a name or a function; default what the action
                was registered with.
            **options: `after` (steps or ids; omitted: all added before, empty: none), `retry`,
                `timeout_seconds`, `pivot`, `on_commit`, `confirming_action`, `requires_approval`,
                `approval_timeout_seconds`, `undo_within_seconds`; see `StepOptions`.

        Raises:
            InvalidTransactionState: It is not pending any more.
            InvalidData: A name is empty or a value is not JSON; names the place.
            DefinitionError: An option cannot be; a step waits for itself or for an unknown one.
            TransactionNotFound: This manager does not know the transaction.
            IdempotencyKeyReused: The transaction was found by its key, and has another step here.
        """
        if repeat_of(tx) is None:
            self._require_pending(tx, "add a step to")
        step = self._new_step(tx, agent_id, action, data, compensating_action, options)
        return self._added(tx, step)

    def _added(self, tx: Transaction, step: TransactionStep) -> TransactionStep:
        found = None if repeat_of(tx) is None else repeated(tx, step, self._before_record)
        if found is not None:
            return found
        tx.steps.append(step)
        return step

    def _new_step(  # noqa: PLR0917 (the order of add_step)
        self,
        tx: Transaction,
        agent_id: str,
        action: str,
        data: dict[str, Any],
        compensating_action: str | Handler | None,
        options: StepOptions,
    ) -> TransactionStep:
        step = self._step(free_step_id(tx), agent_id, action, data, compensating_action, options)
        if step.after or step.references:
            known = {other.step_id for other in tx.steps}
            for name in (*(step.after or ()), *(item.step_id for item in step.references)):
                if name not in known:
                    raise UnknownStep(name, f"the new step {step.step_id!r}", tx.transaction_id)
        return step

    def _step(  # noqa: PLR0917 (the order of add_step)
        self,
        step_id: str,
        agent_id: str,
        action: str,
        data: dict[str, Any],
        compensating_action: str | Handler | None,
        options: StepOptions,
    ) -> TransactionStep:
        """Return a new step, its options checked."""
        compensating = self._name_of(compensating_action, "compensating_action")
        checked_name(agent_id, "agent_id")
        checked_name(action, "action")
        if compensating is None:
            callee = self._registry.get(action)
            compensating = callee.action.compensating_action if callee else None
        given = data_of(data)
        fields: dict[str, Any] = {
            "step_id": step_id,
            "agent_id": agent_id,
            "action": action,
            "data": given.data,
            "compensating_action": compensating,
            "state": STEP_PENDING,
            "after": None,
            "references": given.references,
            "secrets": given.secrets,
            "retry": None,
            "timeout_seconds": None,
            "pivot": False,
            "on_commit": False,
            "confirming_action": None,
            "requires_approval": None,
            "approval_timeout_seconds": None,
            "undo_within_seconds": None,
            "resources": None,
            "scope_id": None,
        }
        if options:
            self._set_options(fields, options)
        if callable(compensating_action) or options:
            check_functions(self._registry, fields, compensating_action, options)
        return TransactionStep.made(fields)

    def _set_options(self, fields: dict[str, Any], options: StepOptions) -> None:
        """Check what a step says besides what is done, and put it into its fields.

        Raises:
            DefinitionError: An option is unknown or cannot be.
        """
        checked_step_options(options, "add_step")
        fields.update(options)
        confirming = self._name_of(fields["confirming_action"], "confirming_action")
        fields["confirming_action"] = confirming
        fields["after"] = checked_after(fields["after"])
        fields["resources"] = checked_resources(fields["resources"])

    def _begun(self, desk: Desk, timeout_seconds: float, options: BeginOptions) -> Transaction:
        created_at = instant(self._clock.now())
        fields = begun_fields(desk.new_id(), created_at, checked_timeout(timeout_seconds))
        fields.update(options)
        transaction = Transaction.made(fields)
        if transaction.idempotency_key is None:
            if self._telemetry is not None:
                self._telemetry.begin(transaction)
            desk.book.hold(transaction, 0)
        return transaction

    def _interactive(self, timeout_seconds: float, options: BlockOptions) -> Transaction:
        """Return a new transaction whose steps a program chooses as it goes."""
        checked_block_options(options)
        fields: dict[str, Any] = {
            "created_at": instant(self._clock.now()),
            "timeout_seconds": checked_timeout(timeout_seconds),
            "timeout_scope": "transaction",
            "shape": "interactive",
            **options,
        }
        fields.pop("accepts_requests", None)
        made = Transaction(transaction_id=new_id(), **fields)
        if self._telemetry is not None:
            self._telemetry.begin(made)
        return made

    def _block_around(self) -> BlockBase | None:
        """Return the block of this manager that this context stands in."""
        around: BlockBase | None = AMBIENT.get()
        if around is None or around._manager is not self:  # noqa: SLF001 (one package)
            return None
        return None if around.is_left else around

    def _require_pending(self, tx: Transaction, call: str) -> None:
        if tx.state is not PENDING:
            hint = "Steps can be added only before commit() or rollback(); begin a new one."
            raise InvalidTransactionState(tx.transaction_id, tx.state.value, call, hint)
        book = self._opened.book if self._opened else None
        held = book.get(tx.transaction_id) if book else None
        if book is None or held is None:
            raise TransactionNotFound(
                tx.transaction_id,
                "this manager",
                "Begin it here with begin(), or read it with get_transaction().",
            )
        if is_submitted(tx):
            hint = "Workers carry it out; wait for it, or roll it back."
            raise InvalidTransactionState(tx.transaction_id, "submitted", call, hint)
        # Why not under a key: somebody else with the same plan may have been faster, and the commit
        # finds that out.
        if tx.idempotency_key is None and book.run_of(tx.transaction_id) is not None:
            hint = "It is being carried out right now."
            raise InvalidTransactionState(tx.transaction_id, "active", call, hint)
        if held.transaction is not tx:
            book.hold(tx, held.sequence)

    def _open(self, *, create: bool) -> Desk:
        """Return the desk; the first call opens the store, and may wait for a disk."""
        with self._guard:
            if self._is_closed:
                message = "this manager is closed. Make a new one."
                raise StoreError(message)
            if self._opened is None:
                self._opened = self._opened_desk(create=create)
            return self._opened

    def _opened_desk(self, *, create: bool) -> Desk:
        given = self._given_store
        if given is None or isinstance(given, (str, os.PathLike)):
            store = open_store(given or "memory:", create=create, clock=self._clock)
        else:
            store = given
        book = Book(keeps_all=not store.is_durable)
        if self._telemetry is not None:
            self._telemetry.serve(book.count)
        desk = Desk(
            store=store,
            driver_id=store.join(),
            registry=self._registry,
            book=book,
            clock=self._clock,
            strict=self._strict,
            before_record=self._before_record,
            on_event=self._hooks,
            telemetry=self._telemetry,
            action_source=self._action_source,
            parallel_max=self._parallel_max,
        )
        if store.is_blocking:
            desk.lease = self._lease = keeper_of(desk)
            self._lease.start()
            weakref.finalize(self, self._lease.stop)
        return desk if self.engine is None else hosted_by(self.engine, desk, self._loop_thread)

    @property
    def _tasks(self) -> TaskRunner:
        """What carries out procedures in tasks; made when it is first asked for."""
        if self._task_runner is None:
            # Why here: asyncio costs 40 ms to import.
            from aumai_transactions.drivers.tasks import TaskRunner

            self._task_runner = TaskRunner(self._clock, self._desk_now)
        return self._task_runner

    def _desk_now(self) -> Desk:
        return self._opened or self._open(create=self._given_store is None)

    def _close_store(self) -> None:
        with self._guard:
            self._is_closed = True
            desk, self._opened = self._opened, None
        if desk is not None and desk.host is not None:
            desk.host.close()
        if self._lease is not None:
            self._lease.stop()
        if desk is None:
            return
        desk.close_blocks()
        try:
            desk.store.leave(desk.driver_id)
        except StoreError as error:
            # Why no error: everything acknowledged is durable, and the lock that this driver
            # lets go of tells others that it is gone.
            about = {"driver_id": desk.driver_id}
            log.warning(
                "the store could not be told that this driver leaves: %s", error, extra=about
            )
        if self._owns_store:
            desk.store.close()
        if self._telemetry is not None:
            self._telemetry.flush()

    def _name_of(self, given: str | Handler | None, what: str) -> str | None:
        """Return the name of an action that was given by its name or its function."""
        if given is None:
            return None
        if isinstance(given, str):
            return checked_name(given, what)
        if isinstance(given, RegisteredAction):
            if given.name not in self._registry:
                # Why: it may be registered with another manager, and is to be called by this one.
                self._registry.add(given._action)  # noqa: SLF001 (it is ours)
            return given.name
        if not callable(given):
            message = f"{what} must be a name or a function, not {type(given).__name__}."
            raise DefinitionError(message)
        declared = declared_as_step(given)
        if declared is not None:
            return declared.behind_in(self._registry, is_durable=self.has_durable_store)
        name = self._stable_name(given)
        if name not in self._registry:
            self._registry.add(Action(name, given))
        return name

    def _stable_name(self, function: Callable[..., Any]) -> str:
        """Return `module:qualname`; refuse what another process could not find again."""
        name, is_stable = name_of(function)
        if not is_stable and self.has_durable_store:
            message = (
                f"{name} cannot be found again after a restart (a lambda, a nested "
                "function, or one of the main program), and this store outlives the process. "
                'Register it under a name: @manager.action("name").'
            )
            raise DefinitionError(message)
        return name
