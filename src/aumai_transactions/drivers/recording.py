"""What an engine keeps of a transaction that it hosts: all that flowed into its procedures.

Owns: the steps of one execution, their form as JSON, and the store and the clock that procedures
see there.
Rules:
  1. Whatever a procedure is given is the result of a step: an answer of the store, an observation,
     a time. So a later execution that replays them decides what the first one decided.
  2. A step that finds itself in another execution than the step before it does nothing. It answers
     that somebody else has arrived, and whoever replays it hears the same.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.journal import Journal, StoredEntry
from aumai_transactions.core.kinds import KINDS
from aumai_transactions.core.locking import Fence, Lock, LockTable
from aumai_transactions.core.observations import (
    HandlerMissing,
    HandlerRaised,
    HandlerReturned,
    ProbeReturned,
    RereadReturned,
    VerificationReturned,
)
from aumai_transactions.drivers.driving import TakenUp
from aumai_transactions.errors import InternalError, StoreError, StoreUnavailable
from aumai_transactions.store import AppendAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from aumai_transactions.calls import Answered
    from aumai_transactions.clock import Clock
    from aumai_transactions.engine import Execution, Kept
    from aumai_transactions.store import Append, Store, StoreInfo

_ANSWERS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        HandlerReturned,
        HandlerRaised,
        HandlerMissing,
        ProbeReturned,
        VerificationReturned,
        RereadReturned,
    )
}
_KIND_NAMES = {kind: name for name, kind in KINDS.items()}


def kept_answer(answer: Answered) -> Kept:
    """Return an observation of a call as an engine keeps it."""
    fields = answer._asdict()
    error = fields.get("error")
    return {"kind": type(answer).__name__, **fields, "error": error and list(error)}


def answer_kept(kept: Kept) -> Answered:
    """Return the observation that an engine kept.

    Raises:
        InternalError: Another release wrote it, and this one does not know it.
    """
    fields = dict(kept)
    kind, error = fields.pop("kind", ""), fields.pop("error", None)
    if error is not None:
        fields["error"] = ErrorRecord(*error)
    try:
        answer: Answered = _ANSWERS[kind](**fields)
    except (KeyError, TypeError) as unknown:
        raise InternalError(f"an engine kept {kind!r}, which cannot be read here.") from unknown
    return answer


class Recorder:
    """Carry out the steps of one execution.

    Args:
        execution: The execution.
        transaction_id: What it carries out.
        arrive: Returns the driver as which this execution acts; called where it is not replayed.
        arrived: Told as which driver to act from then on.
        clock: The machine's time.
    """

    def __init__(
        self,
        execution: Execution,
        transaction_id: str,
        arrive: Callable[[], str],
        arrived: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.at = 0
        self.arrivals = 0
        self._execution = execution
        self._transaction_id = transaction_id
        self._arrive = arrive
        self._arrived = arrived
        self._clock = clock
        self._mine = secrets.token_hex(8)
        self._by = ""

    @property
    def is_live(self) -> bool:
        """True where the last step was carried out here, and not replayed."""
        return self._by == self._mine

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """Return what a piece of work returned, now or when it was done for the first time.

        Args:
            name: What it is called.
            work: Does it; what it returns is JSON.

        Raises:
            TakenUp: Another execution made the step before; nothing was done.
            StoreUnavailable: The work raised it.
            StoreError: The work raised anything else.
        """
        kept = self._execution.step(name, lambda: self._carried_out(work))
        self._by, self.at = kept["by"], kept["at"]
        if "arrived" in kept:
            self.arrivals += 1
            self._arrived(kept["arrived"])
            raise TakenUp(self._transaction_id, "another process has taken it up")
        if "unavailable" in kept:
            message, unknown = kept["unavailable"]
            raise StoreUnavailable(message, outcome_unknown=unknown)
        if "failed" in kept:
            raise StoreError(f"transaction {self._transaction_id}: {kept['failed']}")
        return kept["kept"]

    def _carried_out(self, work: Callable[[], Any]) -> Kept:
        found: Kept = {}
        if not self.is_live:
            found["arrived"] = self._arrive()
        else:
            try:
                found["kept"] = work()
            except StoreUnavailable as error:
                found["unavailable"] = [str(error), error.outcome_unknown]
            except Exception as error:  # noqa: BLE001 (an engine would keep it in a form of its own)
                found["failed"] = f"{type(error).__name__}: {error}"
        # Why not back: what was decided at one time must not be looked at from before it.
        return {"by": self._mine, "at": max(self.at, self._clock.now()), **found}


class RecordedClock:
    """Tell the time of the last step, so that a replay sees the same."""

    def __init__(self, recorder: Recorder, clock: Clock) -> None:
        self._recorder = recorder
        self._clock = clock

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""
        return self._recorder.at

    def sleep(self, seconds: float) -> None:
        """Block this thread for this long; a replay does not."""
        self._recorder.step("pause", lambda: self._clock.sleep(seconds))

    async def sleep_async(self, seconds: float) -> None:
        """Refuse: no task carries out what an engine hosts."""
        raise InternalError(f"a task was to wait {seconds:g} s in a workflow.")


class RecordedStore:
    """Be the store of one execution: what it answers is kept, and replayed.

    Args:
        store: The store itself.
        recorder: The steps.
    """

    is_blocking = True

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        """Refuse what no procedure asks of a store while it carries one transaction on."""
        raise InternalError(f"the store was asked for {name} in a workflow.")

    @property
    def is_durable(self) -> bool:
        """True where an acknowledged append survives kill -9 and power loss."""
        return self._store.is_durable

    def append(self, appends: Sequence[Append]) -> list[AppendAnswer]:
        """Append, in one step."""
        entries = [entry for append in appends for entry in append.entries]
        told = ", ".join(_shown(entry) for entry in entries)
        answers = self._recorder.step(
            f"append {told:.200}", lambda: [answer.value for answer in self._store.append(appends)]
        )
        return [AppendAnswer(answer) for answer in answers]

    def read(self, transaction_id: str) -> Journal | None:
        """Return the whole journal, in one step."""
        kept = self._recorder.step("read", lambda: _kept_journal(self._store.read(transaction_id)))
        return None if kept is None else _journal(kept)

    def locks(self, resources: Collection[str] | None) -> LockTable:
        """Return who holds and who waits for these resources, in one step."""
        kept = self._recorder.step("locks", lambda: _kept_locks(self._store.locks(resources)))
        fences = {name: Fence(*fence) for name, fence in kept["fences"].items()}
        return LockTable([Lock(*lock) for lock in kept["locks"]], fences)

    def info(self) -> StoreInfo:
        """Return what the store is; that is told in errors only, and nothing depends on it."""
        return self._store.info()


def _shown(entry: Any) -> str:
    step_id = getattr(entry, "step_id", None)
    name = _KIND_NAMES[type(entry)]
    return name if step_id is None else f"{name} {step_id}"


def _kept_journal(journal: Journal | None) -> Kept | None:
    if journal is None:
        return None
    return {
        **journal._asdict(),
        "entries": [[one.sequence, one.body.decode(), one.hash.hex()] for one in journal.entries],
        "head_hash": journal.head_hash.hex(),
    }


def _journal(kept: Kept) -> Journal:
    entries = tuple(
        StoredEntry(sequence, body.encode(), bytes.fromhex(digest))
        for sequence, body, digest in kept["entries"]
    )
    return Journal(**{**kept, "entries": entries, "head_hash": bytes.fromhex(kept["head_hash"])})


def _kept_locks(table: LockTable) -> Kept:
    return {
        "locks": [list(lock) for lock in table.locks],
        "fences": {name: list(fence) for name, fence in table.fences.items()},
    }
