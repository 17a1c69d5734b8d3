"""What a manager asks of the engine that carries its transactions out.

Owns: which workflow stands for which transaction, when another one is started for it, and what a
cancelled one means. How a workflow carries a transaction on is in `hosting.py`.
Rules:
  1. The workflows of a transaction are called `<transaction id>:<number>`, and stand for it one
     after the other. Two at once would be safe, for each must claim it; it would be a waste.
  2. A workflow that was cancelled stands for a wish: that the transaction go back. The undo is the
     next workflow's, so nothing is half undone.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.observations import RollbackCalled
from aumai_transactions.core.outcome import is_runnable
from aumai_transactions.core.values import shown
from aumai_transactions.drivers.asking import missing_of, note
from aumai_transactions.drivers.desk import Desk, read_run, read_saga
from aumai_transactions.drivers.hosting import HostedRun
from aumai_transactions.drivers.in_place import carry_out
from aumai_transactions.drivers.operations import Procedure, blocking
from aumai_transactions.engine import Engine, Execution, ExecutionStopped, Status
from aumai_transactions.errors import (
    DefinitionError,
    EngineError,
    InvalidTransactionState,
    TransactionError,
)
from aumai_transactions.models import Recovered

if TYPE_CHECKING:
    from aumai_transactions.drivers.background import LoopThread

log = logging.getLogger("aumai_transactions")

NUDGE_SECONDS = 1.0
"""How often at most one process asks after the workflow of one transaction."""

DRAIN_SECONDS = 30.0
"""How long a manager that is closed waits for the calls that its engine makes in this process."""

REMEMBERED_MAX = 10_000


class Host:
    """Let an engine carry out the transactions of one manager.

    Args:
        engine: The engine.
        desk: The manager's.
        loop_thread: Where async handlers run.
    """

    def __init__(self, engine: Engine, desk: Desk, loop_thread: LoopThread) -> None:
        self.engine = engine
        self._desk = desk
        self._loop_thread = loop_thread
        self._guard = threading.Lock()
        self._is_closed = False
        self._tended: dict[str, tuple[int, float]] = {}
        self._nudged: dict[str, float] = {}

    def open(self) -> None:
        """Begin to carry out workflows."""
        self.engine.open(self._body)

    def close(self) -> None:
        """Take up nothing new, and let what runs end at its next step."""
        self._is_closed = True
        self.engine.close(DRAIN_SECONDS)

    @property
    def is_busy(self) -> bool:
        """True where this process carries a workflow out."""
        return bool(self._desk.hosted)

    def wake(self, transaction_id: str, *, here: bool = True) -> None:
        """See to it that a workflow stands for a transaction, and does not sleep.

        Args:
            transaction_id: The transaction.
            here: True where one that has to be started is carried out in this process.
        """
        try:
            number, status = self._latest(transaction_id)
            self._wake(transaction_id, number, status, here=here)
        except EngineError as error:
            # Why only a log line: what is wished for stands in the journal, and is found there.
            log.warning("transaction %s is left to others: %s", transaction_id, error)

    def nudge(self, transaction_id: str, sequence: int) -> None:
        """Do the same where somebody waits for a transaction, and not too often."""
        now = time.monotonic()
        with self._guard:
            if now - self._nudged.get(transaction_id, float("-inf")) < NUDGE_SECONDS:
                return
            _remember(self._nudged, transaction_id, now)
        try:
            self.tend(transaction_id, sequence)
        except EngineError as error:
            log.warning("transaction %s is left to others: %s", transaction_id, error)

    def tend(self, transaction_id: str, sequence: int) -> None:
        """Wake a transaction that is due and that nobody drives; start anew where that is in vain.

        Args:
            transaction_id: The transaction.
            sequence: How far its journal goes.
        """
        number, status = self._latest(transaction_id)
        if status == "running" and self._is_in_vain(transaction_id, sequence):
            # Its process has died, and is not coming back. Should it, it is refused by the store.
            self.engine.start(f"{transaction_id}:{number}", transaction_id, here=False)
            return
        self._wake(transaction_id, number, status, here=False)

    def handed(self, transaction_id: str) -> Procedure[Recovered]:
        """Hand a transaction that nobody drives to the engine, and report on it."""
        run = yield from read_run(self._desk, transaction_id)
        missing = missing_of(run)
        if missing:
            detail = f"missing handler {', '.join(missing)}; run a worker where it is registered."
            return Recovered(transaction_id=transaction_id, outcome="parked", detail=detail)
        yield from blocking(partial(self.tend, transaction_id, run.saga.sequence))
        detail = f"handed to the engine {self.engine.name}"
        return Recovered(transaction_id=transaction_id, outcome="busy", detail=detail)

    def _is_in_vain(self, transaction_id: str, sequence: int) -> bool:
        now = time.monotonic()
        with self._guard:
            seen, since = self._tended.get(transaction_id, (-1, now))
            if seen != sequence:
                _remember(self._tended, transaction_id, (sequence, now))
                return False
            if now - since < self.engine.patience_seconds:
                return False
            self._tended.pop(transaction_id, None)
            return True

    def _wake(self, transaction_id: str, number: int, status: Status | None, *, here: bool) -> None:
        if status in ("queued", "running"):
            self.engine.signal(f"{transaction_id}:{number - 1}")
            return
        if status == "ended" and not self._is_runnable(transaction_id):
            return  # It has come to its end since somebody looked.
        if status == "cancelled":
            wish = RollbackCalled(note="its workflow was cancelled", reason="cancelled")
            # Why suppressed: where it cannot go back any more, it goes on.
            with contextlib.suppress(InvalidTransactionState):
                carry_out(self._desk, note(self._desk, transaction_id, lambda _: [wish]))
        self.engine.start(f"{transaction_id}:{number}", transaction_id, here=here)

    def _is_runnable(self, transaction_id: str) -> bool:
        return is_runnable(carry_out(self._desk, read_saga(self._desk, transaction_id)))

    def _latest(self, transaction_id: str) -> tuple[int, Status | None]:
        """Return how many workflows there were, and how the last one stands."""
        number, last = 0, None
        while (status := self.engine.status(f"{transaction_id}:{number}")) is not None:
            number, last = number + 1, status
        return number, last

    def _body(self, execution: Execution, transaction_id: str) -> str:
        run = HostedRun(self._desk, execution, transaction_id, self._loop_thread)
        try:
            return run.to_the_end()
        except ExecutionStopped:
            run.leave()
            if not self._is_closed:
                # Why a thread: this one is the engine's, and stands in a workflow that has ended.
                again = threading.Thread(
                    target=self._look_after, args=(transaction_id,), daemon=True
                )
                again.start()
            raise
        finally:
            run.leave()

    def _look_after(self, transaction_id: str) -> None:
        try:
            self.wake(transaction_id)
        except TransactionError as error:
            log.warning("transaction %s is left to others: %s", transaction_id, error)


def hosted_by(engine: object, desk: Desk, loop_thread: LoopThread) -> Desk:
    """Let an engine carry out the transactions of a manager from now on; return its desk.

    Raises:
        DefinitionError: It is no engine, or the store does not outlive the process.
        EngineError: It cannot be reached, or is in use already.
    """
    if not isinstance(engine, Engine):
        raise DefinitionError(
            f"engine must be an engine, such as engines.dbos.DbosEngine(…), not {shown(engine)}."
        )
    if not desk.store.is_durable:
        raise DefinitionError(
            "engine= needs a store that outlives the process, for the journal stays there: give "
            "store='sqlite:///trips.db', or a PostgreSQL."
        )
    desk.host = Host(engine, desk, loop_thread)
    desk.host.open()
    return desk


def _remember(known: dict[str, Any], name: str, value: object) -> None:
    if len(known) >= REMEMBERED_MAX:
        known.clear()
    known[name] = value
