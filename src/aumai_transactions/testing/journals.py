"""Small journals, and the tools that checks of a store are written with.

Owns: appends of each kind whose entries a saga accepts, and how a broken promise is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.definition import Definition, StepDefinition
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    Entry,
    PlanRecorded,
    RollbackRequested,
)
from aumai_transactions.core.journal import load
from aumai_transactions.core.outcome import Summary
from aumai_transactions.errors import StoreError
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Append, AppendAnswer, Query, Store

if TYPE_CHECKING:
    from aumai_transactions.core.saga import Saga

StoreFactory = Callable[[], Store]

APPENDED = AppendAnswer.appended
ALREADY_OURS = AppendAnswer.already_ours
MOVED = AppendAnswer.moved
FENCED = AppendAnswer.fenced
HELD = AppendAnswer.held
NOW = 1_000
"""Behind every time that these journals name, microseconds since 1970 UTC."""
THREADS = 8
_APPENDS_EACH = 12
_TRIES_MAX = 10_000


class ContractBroken(AssertionError):
    """Say which promise a store does not keep."""


def plan(
    transaction_id: str,
    append_id: str = "plan",
    *,
    data: dict[str, Any] | None = None,
    runnable: bool = True,
) -> Append:
    """Return the append of two entries that begins a transaction."""
    step = StepDefinition("step-1", "agent-1", "act", data or {}, "undo")
    entries: list[Entry] = [PlanRecorded(1, Definition(1, 60, (step,))), CommitRequested(2)]
    summary = _summary(transaction_id, runnable=runnable)
    return Append(transaction_id, 0, f"{transaction_id}/{append_id}", entries, summary)


def waiting(transaction_id: str, due_at: int) -> Append:
    """Return the append that begins a transaction for which nothing is to be done before then."""
    begun = plan(transaction_id)
    return begun._replace(summary=begun.summary._replace(due_at=due_at))


def claim(
    transaction_id: str, expected: int, token: int, driver_id: str, append_id: str = "claim"
) -> Append:
    """Return the append of one entry with which a driver takes a transaction."""
    return Append(
        transaction_id,
        expected,
        f"{transaction_id}/{append_id}-{expected}",
        [Claimed(expected + 1, token, driver_id)],
        _summary(transaction_id),
        token=token,
        driver_id=driver_id,
    )


def act(
    transaction_id: str,
    expected: int,
    token: int,
    append_id: str = "act",
    *,
    state: TransactionState = TransactionState.pending,
    runnable: bool = True,
    due_at: int | None = None,
) -> Append:
    """Return the append of one entry with which a holder goes on.

    To a store it does not matter which entry that is: the token makes it an act. This one may
    follow any other.
    """
    return Append(
        transaction_id,
        expected,
        f"{transaction_id}/{append_id}-{expected}",
        [CommitRequested(expected + 1, by="driver")],
        _summary(transaction_id, state=state, runnable=runnable)._replace(due_at=due_at),
        token=token,
    )


def request(transaction_id: str, expected: int, append_id: str = "request") -> Append:
    """Return the append of one entry with which anybody asks for something."""
    return Append(
        transaction_id,
        expected,
        f"{transaction_id}/{append_id}-{expected}",
        [RollbackRequested(expected + 1, by="somebody")],
        _summary(transaction_id),
    )


def _summary(
    transaction_id: str,
    *,
    state: TransactionState = TransactionState.pending,
    runnable: bool = True,
) -> Summary:
    return Summary(transaction_id, state, 1, 2, 60, 1, 0, ("agent-1",), None, runnable)


def definition_of(append: Append) -> Definition:
    """Return the plan that an append of `plan` records."""
    first = append.entries[0]
    if not isinstance(first, PlanRecorded):
        raise ContractBroken("this append begins no transaction")
    return first.definition


@contextmanager
def opened(make_store: StoreFactory) -> Iterator[Store]:
    """Open a handle, and close it."""
    store = make_store()
    try:
        yield store
    finally:
        store.close()


def same(found: object, wanted: object, promise: str) -> None:
    """Refuse anything but what is wanted."""
    if found != wanted:
        raise ContractBroken(f"{promise}: wanted {wanted!r:.300}, found {found!r:.300}")


def loaded(store: Store, transaction_id: str) -> Saga:
    """Return a transaction, its whole journal verified."""
    journal = store.read(transaction_id)
    if journal is None:
        raise ContractBroken(f"transaction {transaction_id!r} is not there")
    same(journal.transaction_id, transaction_id, "a journal says whose it is")
    return load(journal)


def refused(store: Store, appends: Sequence[Append]) -> None:
    """Refuse a store that takes these appends."""
    try:
        answers = store.append(appends)
    except StoreError:
        return
    raise ContractBroken(f"this call should have raised a StoreError: it answered {answers}")


def in_threads(jobs: Sequence[Callable[[], None]]) -> None:
    """Run each job in a thread of its own, and raise what one of them raised."""
    problems: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 (raised again below)
            problems.append(error)

    threads = [Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def race(store: Store, name: str) -> None:
    """Append to a transaction of one's own and to the one called `shared`, many times."""
    store.append([plan(name)])
    shared = 2
    for number in range(_APPENDS_EACH):
        same(store.append([request(name, number + 2)]), [APPENDED], "one's own is appended")
        for _ in range(_TRIES_MAX):
            answer = store.append([request("shared", shared, name)])[0]
            if answer is APPENDED:
                break
            same(answer, MOVED, "somebody else was first")
            shared = loaded(store, "shared").sequence
        else:
            raise ContractBroken("an append never succeeds")
        shared += 1


def check_race(store: Store, names: Sequence[str]) -> None:
    """Check what `race` must have left behind."""
    wanted = 2 + _APPENDS_EACH * len(names)
    same(loaded(store, "shared").sequence, wanted, "every append to the shared one is there once")
    for name in names:
        same(loaded(store, name).sequence, 2 + _APPENDS_EACH, "every append to one's own is there")
    same(store.count(Query()), 1 + len(names), "nothing else is there")
