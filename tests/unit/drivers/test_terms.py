"""A wish counts once for each request, and only on what was seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from aumai_transactions import AsyncTransactionManager, TransactionManager
from aumai_transactions.core.observations import RollbackCalled
from aumai_transactions.drivers.asking import note
from aumai_transactions.drivers.terms import SequenceMoved, Terms, request_of
from aumai_transactions.errors import IdempotencyKeyReused
from aumai_transactions.stores.memory import MemoryStore


class Meddled(MemoryStore):
    """A store in which somebody is faster, once."""

    meddle: Callable[[], object] | None = None

    def append(self, appends):
        faster, self.meddle = self.meddle, None
        if faster is not None:
            faster()
        return super().append(appends)


def test_a_step_that_is_bound_to_what_was_seen_is_refused_where_somebody_is_faster():
    async def main() -> None:
        store = Meddled()
        other = TransactionManager(store=store)
        async with AsyncTransactionManager({"book": print}, store=store) as manager:
            with pytest.raises(LookupError):  # noqa: PT012 (it is left by that)
                async with manager.transaction() as tx:
                    await tx.execute("a", "book", {})
                    seen = Terms(None, tx._shared.saga.sequence)
                    asked = tx._asked("a", "book", {}, None, step_id=None, intent=None, options={})
                    wish = RollbackCalled("somebody")
                    store.meddle = lambda: other._run(
                        note(other._desk(), tx.transaction_id, lambda _: [wish])
                    )
                    with pytest.raises(SequenceMoved) as moved:
                        await tx.execute_in(tx, asked, once=False, terms=seen)
                    assert moved.value.sequence == moved.value.expected + 1
                    assert len(tx.steps) == 1
                    raise LookupError
        other.close()

    asyncio.run(main())


def test_a_request_is_the_same_for_the_same_caller_and_key_only():
    first = request_of("ann", "k", {"a": 1})
    assert first == request_of("ann", "k", {"a": 1})
    assert first.request_id != request_of("bob", "k", {"a": 1}).request_id
    assert first.request_id != request_of("ann", "l", {"a": 1}).request_id
    other = request_of("ann", "k", {"a": True})
    assert (first.request_id, first.digest) != (other.request_id, other.digest)
    assert first.request_id == other.request_id


def test_a_wish_under_a_key_is_journaled_once_and_another_one_is_refused():
    with TransactionManager(store="memory:") as manager:
        tx = manager.begin()
        manager.save(tx)
        desk, name = manager._desk(), tx.transaction_id
        terms = Terms(request_of("ann", "k", "back"), 1)
        wish = RollbackCalled("ann")
        found = [manager._run(note(desk, name, lambda _: [wish], terms)) for _ in range(2)]
        assert [one.is_replayed for one in found] == [False, True]
        kinds = [event.kind for event in manager.get_events(name)]
        assert kinds == ["plan_recorded", "rollback_requested"]
        with pytest.raises(IdempotencyKeyReused):
            manager._run(note(desk, name, lambda _: [wish], Terms(request_of("ann", "k", "other"))))
        with pytest.raises(SequenceMoved):
            manager._run(note(desk, name, lambda _: [wish], Terms(None, 1)))
