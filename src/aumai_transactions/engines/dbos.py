"""Transactions on DBOS: its workflows carry them out, its system database keeps the steps.

Owns: how the contract of `aumai_transactions.engine` is kept with DBOS 3.4.
Rules:
  1. Everything is kept as portable JSON; nothing is pickled. DBOS retries no step of ours.
  2. Nothing leaves the machine: no telemetry, no conductor, no console, no admin server.
  3. DBOS is one for each process; so is an engine. Where the program has made its own, that is
     used, and is the program's to launch and to destroy.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from dbos import (
    DBOS,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    SetWorkflowID,
    WorkflowSerializationFormat,
)
from dbos import error as dbos_errors

from aumai_transactions.engine import ExecutionStopped
from aumai_transactions.errors import EngineError
from aumai_transactions.stores import shown_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from aumai_transactions.engine import Body, Kept, Status

T = TypeVar("T")

log = logging.getLogger("aumai_transactions")

WORKFLOW = "aumai_transactions.carry_out"
QUEUE = "aumai_transactions.{}"
"""By the application: DBOS lets each queue belong to one."""

TOPIC = "aumai_transactions.look"
VERSION = "aumai-transactions-1"
"""What executors of all releases call themselves: whoever can read a journal can go on with it."""

CONCURRENCY = 64
POLL_SECONDS = 1.0
WAIT_SECONDS_MAX = 3_600.0
"""After how long a wait is begun anew at most."""

_STATUS: dict[str, Status] = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "CANCELLED": "cancelled",
}

_opened = threading.Condition()
_open: DbosEngine | None = None


def engine_at(url: str) -> DbosEngine:
    """Return an engine whose system database is at this URL."""
    return DbosEngine(url)


class DbosEngine:
    """Let DBOS carry transactions out: `TransactionManager(engine=DbosEngine(url), store=…)`.

    Args:
        system_database_url: DBOS's own database, `sqlite:///trips-dbos.db` or `postgresql://…`;
            None where the program has made its own `DBOS(config=…)`. Make the engine before that
            one is launched, for DBOS looks then for what this process left.
        executor_id: Who this process is to DBOS: what died under it is taken up by the next one
            of the same name. Give each of several processes one of its own; `local` by default.
        app_name: What DBOS calls the application; each one that shares a system database has a name
            of its own, which is also that of the program's own DBOS.
        concurrency: How many submitted transactions one process carries out at the same time.
        patience_seconds: How long a process of another name may seem dead before its transactions
            are taken over by workers.
    """

    name = "dbos"

    def __init__(
        self,
        system_database_url: str | None = None,
        *,
        executor_id: str | None = None,
        app_name: str = "aumai-transactions",
        concurrency: int = CONCURRENCY,
        patience_seconds: float = 30.0,
    ) -> None:
        self.patience_seconds = patience_seconds
        self._owns = system_database_url is not None
        self._concurrency = concurrency
        self._queue = QUEUE.format(app_name)
        self._body: Body | None = None
        self._is_closing = False
        self._under_way: set[_DbosExecution] = set()
        self._config: DBOSConfig = {
            "name": app_name,
            "system_database_url": system_database_url,
            "serializer": DBOSPortableJSONSerializer(),
            "application_version": VERSION,
            "executor_id": executor_id,
            "enable_otlp": False,
            "log_level": "CRITICAL",
        }
        self._workflow = _registered()

    def open(self, body: Body) -> None:
        """Begin to carry out workflows; see `Engine.open`."""
        global _open  # noqa: PLW0603 (DBOS has one of itself in a process, too)
        with _opened:
            if _open is not None:
                message = "this process has a manager with engine=DbosEngine already. Close it."
                raise EngineError(message)
            self._body, self._is_closing = body, False
            _open = self
            _opened.notify_all()
        try:
            _alone(self._launch)
        except BaseException:
            with _opened:
                _open = None
            raise

    def _launch(self) -> None:
        try:
            if self._owns:
                DBOS(config=self._config)
                DBOS.launch()
            DBOS.register_queue(
                self._queue,
                worker_concurrency=self._concurrency,
                polling_interval_sec=POLL_SECONDS,
            )
        except Exception as error:
            place = shown_url(self._config.get("system_database_url") or "the program's own DBOS")
            if self._owns:
                DBOS.destroy()
            raise EngineError(f"DBOS cannot be started on {place}: {error}") from error

    def start(self, workflow_id: str, argument: str, *, here: bool) -> None:
        """Start a workflow unless it was ever started; see `Engine.start`."""

        def started() -> None:
            with SetWorkflowID(workflow_id):
                if here:
                    DBOS.start_workflow(self._workflow, argument)
                else:
                    DBOS.enqueue_workflow(self._queue, self._workflow, argument)

        _asked(started)

    def signal(self, workflow_id: str) -> None:
        """Wake a workflow; see `Engine.signal`."""
        if self.status(workflow_id) in ("queued", "running"):
            _asked(lambda: DBOS.send(workflow_id, "look", TOPIC))

    def cancel(self, workflow_id: str) -> None:
        """Let a workflow do nothing more; see `Engine.cancel`."""
        _asked(lambda: DBOS.cancel_workflow(workflow_id))

    def status(self, workflow_id: str) -> Status | None:
        """Return how a workflow stands; see `Engine.status`."""
        found = _asked(lambda: DBOS.get_workflow_status(workflow_id))
        return None if found is None else _STATUS.get(found.status, "ended")

    def close(self, drain_seconds: float = 0.0) -> None:
        """Stop each execution at the end of its step; see `Engine.close`."""
        global _open  # noqa: PLW0603
        self._is_closing = True
        until = time.monotonic() + drain_seconds
        under_way = tuple(self._under_way)
        for execution in under_way:
            with contextlib.suppress(EngineError):
                self.signal(execution.workflow_id)
        for execution in under_way:
            execution.ended.wait(max(0.0, until - time.monotonic()))
        if self._owns:
            _alone(DBOS.destroy)
        with _opened:
            if _open is self:
                _open = None

    def carry_out(self, argument: str) -> str:
        """Be the body of a workflow in a thread of DBOS."""
        execution = _DbosExecution(self)
        self._under_way.add(execution)
        try:
            if self._body is None:
                raise EngineError("the engine is not open.")
            return self._body(execution, argument)
        except ExecutionStopped as stopped:
            # Why itself otherwise: DBOS takes no BaseException for an outcome, so that the workflow
            # stays to be taken up again.
            raise stopped.__cause__ or stopped from None
        finally:
            self._under_way.discard(execution)
            execution.ended.set()

    @property
    def is_closing(self) -> bool:
        """True where executions are to stop."""
        return self._is_closing


def _registered() -> Callable[[str], str]:
    """Return our workflow, registered with the DBOS of this process.

    Why each time: what was registered is gone once a program has destroyed that.
    """
    register = DBOS.workflow(
        name=WORKFLOW,
        max_recovery_attempts=None,
        serialization_type=WorkflowSerializationFormat.PORTABLE,
    )
    logger = logging.getLogger("dbos")
    before = logger.level
    # Why: a second engine of one program registers the same once more, which DBOS would warn of.
    logger.setLevel(logging.CRITICAL)
    try:
        return register(_carry_out)
    finally:
        logger.setLevel(before)


def _carry_out(argument: str) -> str:
    """Carry a workflow out with the engine that is open; wait for it where DBOS was faster."""
    with _opened:
        while _open is None:
            _opened.wait()
        engine = _open
    return engine.carry_out(argument)


def _alone(work: Callable[[], T]) -> T:
    """Do something outside of any workflow that this thread may stand in."""
    return contextvars.Context().run(work)


def _asked(work: Callable[[], T]) -> T:
    """Ask something of DBOS.

    Raises:
        EngineError: It could not do it.
    """
    try:
        return _alone(work)
    except Exception as error:
        raise EngineError(f"DBOS could not do it: {error}") from error


class _DbosExecution:
    """Be one execution of a workflow of DBOS."""

    def __init__(self, engine: DbosEngine) -> None:
        self.workflow_id = str(DBOS.workflow_id)
        self.ended = threading.Event()
        self._engine = engine

    @property
    def is_ending(self) -> bool:
        return self._engine.is_closing

    def step(self, name: str, function: Callable[[], Kept]) -> Kept:
        options: Any = {"name": name, "retries_allowed": False}
        return self._done(lambda: DBOS.run_step(options, function))

    def wait(self, seconds: float) -> None:
        self._done(lambda: DBOS.recv(TOPIC, min(seconds, WAIT_SECONDS_MAX)))

    def _done(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (
            dbos_errors.DBOSWorkflowCancelledError,
            dbos_errors.DBOSWorkflowConflictIDError,
        ) as e:
            raise ExecutionStopped from e
        except Exception as error:
            # Its database is gone, or its history does not fit: this execution cannot go on.
            log.warning("DBOS ends the workflow %s: %s", self.workflow_id, error)
            raise ExecutionStopped from error
