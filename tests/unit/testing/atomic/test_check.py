"""Sound transactions pass, and each of the usual bugs is found where it stands."""

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.testing.atomic.agency import (
    ASYNC,
    BOOKED,
    book,
    interactive,
    interactive_async,
    maker,
    planned,
    planned_async,
)

from aumai_transactions import OutcomeUnknown, TransactionManager
from aumai_transactions.errors import StepRejected
from aumai_transactions.testing import NotAtomic, assert_atomic

ALL_KINDS = {"refused", "lost_request", "lost_answer", "crash_before", "crash_after"}


def atomic(saga=planned, manager=None, **options):
    return assert_atomic(saga, world=BOOKED, manager=manager or maker(), **options)


def bug(saga=planned, manager=None, **options):
    """What is told about a transaction that is not atomic."""
    with pytest.raises(NotAtomic) as told:
        atomic(saga, manager, **options)
    return told.value


# ------------------------------------------------------------------------------------ it is sound


@pytest.mark.parametrize(
    "saga,manager",
    [
        (planned, maker()),
        (interactive, maker()),
        (planned_async, maker(kind=ASYNC)),
        (interactive_async, maker(kind=ASYNC)),
    ],
    ids=["planned", "interactive", "planned async", "interactive async"],
)
def test_a_sound_transaction_passes_whatever_goes_wrong(saga, manager):
    report = atomic(saga, manager)
    assert set(report.faults) == ALL_KINDS
    assert report.crashes > report.crashes_in_recovery > 10
    assert report.outcomes["committed"] > 2
    assert report.outcomes["rolled_back"] > 10
    assert (report.steps, report.not_reached, report.needing_a_person) == (2, [], 0)
    assert BOOKED == {}
    assert f"{report.runs} runs" in str(report)
    assert "nothing was left behind" in str(report)


def test_every_moment_has_its_faults(monkeypatch):
    # 2 calls of 5 kinds and 3 durable writes of 2, alone; the clean run twice.
    report = atomic(pairs=False)
    assert report.moments == 5
    assert report.runs == 2 + 2 * 5 + 3 * 2
    assert sum(report.faults.values()) == report.runs - 2
    assert report.crashes == 2 * 2 + 3 * 2


def test_files_of_sqlite_give_the_same_counts_as_memory():
    kinds = ["crash_after", "refused"]
    in_memory, in_files = (atomic(store=name, faults=kinds) for name in ("memory:", "sqlite:"))
    for name in ("runs", "faults", "crashes", "crashes_in_recovery", "outcomes"):
        assert getattr(in_memory, name) == getattr(in_files, name)


def test_a_block_that_waits_for_its_next_attempt_takes_no_time():
    # The undo is refused, and tried again after a delay: by the clock of the run.
    report = atomic(interactive, faults=["refused"])
    assert report.outcomes["rolled_back"] > 2
    assert report.seconds < 30


def test_threads_that_take_part_die_with_their_process():
    def together(manager):
        with manager.transaction() as tx, ThreadPoolExecutor(2) as threads:
            calls = [
                threads.submit(tx.bind(tx.execute), "agent", "book", {"what": what})
                for what in ("flight", "hotel")
            ]
            for call in calls:
                call.result()

    report = atomic(together, pairs=False)
    assert report.crashes >= 10 - len(report.not_reached)


def test_tasks_that_take_part_die_with_their_process():
    async def together(manager):
        async with manager.transaction() as tx, asyncio.TaskGroup() as tasks:
            for what in ("flight", "hotel"):
                tasks.create_task(tx.execute("agent", "book", {"what": what}))

    assert atomic(together, maker(kind=ASYNC), pairs=False).crashes >= 8


def test_it_can_be_called_where_a_loop_is_running():
    async def test():
        return atomic(planned_async, maker(kind=ASYNC), pairs=False)

    assert asyncio.run(test()).crashes == 10


def test_coroutines_are_handlers_of_a_manager_with_threads():
    async def book_later(action, data, context):
        await asyncio.sleep(0)
        book(action, data, context)

    assert atomic(manager=maker({"book": book_later})).outcomes["committed"] > 2


def test_an_action_with_a_time_limit_and_a_probe_is_seen_through():
    def make(**given):
        manager = maker(book={"timeout_seconds": 30, "idempotent": False})(**given)
        registered = manager.action("book", compensating_action="cancel", timeout_seconds=30)(book)

        @registered.probe
        def look(data, context):
            raise OutcomeUnknown

        return manager

    report = atomic(manager=make)
    assert report.outcomes["rolled_back"] > report.outcomes["committed"]


def test_a_program_that_resumes_after_its_crash_is_seen_through():
    def waiting(manager):
        with manager.transaction(on_crash="wait", resume_within_seconds=3_600) as tx:
            program(tx)

    def program(tx):
        for what in ("flight", "hotel"):
            tx.execute("agent", "book", {"what": what})

    def resume(manager):
        for listed in manager.find():
            if listed.summary.state == "active":
                with manager.resume(listed.summary.transaction_id) as tx:
                    program(tx)
        return manager.recover()

    report = atomic(waiting, recover=resume, faults=["crash_before", "crash_after"])
    # Nearly all of them go on, and but for the first write nothing is lost.
    assert report.outcomes["committed"] > report.outcomes["rolled_back"]
    assert report.outcomes["never begun"] == 1
    # Without its program it is undone, once its time is over.
    assert atomic(waiting, faults=["crash_after"], pairs=False).outcomes["rolled_back"] > 3


def test_what_comes_behind_the_commit_point_is_tried_until_it_is_done():
    def with_mail(manager):
        tx = manager.begin()
        manager.add_step(tx, "agent", "book", {"what": "flight"})
        manager.add_step(tx, "agent", "book", {"what": "a mail"}, None, on_commit=True)
        manager.commit(tx)

    report = atomic(with_mail)
    # Only what is refused or lost before the decision goes back.
    assert report.outcomes["committed"] > 20
    assert 0 < report.outcomes["rolled_back"] < report.outcomes["committed"]


def test_a_program_that_takes_another_way_may_be_right():
    def stubborn(manager):
        with manager.transaction() as tx:
            try:
                tx.execute("agent", "book", {"what": "flight"})
            except StepRejected:
                tx.execute("agent", "book", {"what": "train"})

    told = bug(stubborn)
    assert "not as after a clean run" in str(told)
    assert "'train'" in str(told)
    assert atomic(stubborn, whole=lambda before, after: len(after) == 1).crashes


# --------------------------------------------------------------------------------- it is not


def test_a_step_without_a_compensating_action_is_found():
    told = bug(manager=maker(book={"compensating_action": None, "idempotent": False}))
    assert "has no compensating action" in told.advice[0]


def test_an_undo_that_does_not_do_its_work_is_found():
    def nothing(action, data, context):
        pass

    told = bug(manager=maker({"cancel": nothing}))
    assert told.faults == "s2.action#1:refused"
    assert "returned as if it had undone everything" in told.advice[0]
    assert told.left == ("world['<transaction 1>/s1/action'] should not be there; it is 'flight'",)


def test_an_undo_that_undoes_twice_is_found():
    taken, seats = set(), {"free": 10}

    def take(action, data, context):
        seats["free"] -= context.idempotency_key not in taken
        taken.add(context.idempotency_key)

    def give(action, data, context):
        seats["free"] += context.forward_key in taken

    with pytest.raises(NotAtomic) as told:
        assert_atomic(planned, world=seats, manager=maker({"book": take, "cancel": give}))
    assert told.value.faults == "s2.action#1:refused s1.compensation#1:lost_answer"
    assert "Undoing what is undone must do nothing" in told.value.advice[0]
    make = maker({"book": take, "cancel": give}, cancel={"idempotent": False})
    with pytest.raises(NotAtomic) as told:
        assert_atomic(
            planned,
            world=seats,
            manager=make,
            faults=["refused", "crash_after"],
            allow_outstanding=True,
        )
    assert told.value.faults == "s2.action#1:refused s1.compensation#1:crash_after"
    assert "Undoing what is undone must do nothing" in told.value.advice[0]


def test_an_undo_of_what_never_happened_is_found():
    free = {"seats": 10}

    def take(action, data, context):
        free["seats"] -= 1

    def give(action, data, context):
        free["seats"] += 1

    make = maker({"book": take, "cancel": give}, book={"idempotent": False})
    with pytest.raises(NotAtomic) as told:
        assert_atomic(planned, world=free, manager=make)
    assert told.value.faults == "s1.action#1:lost_request"
    assert "Undoing nothing must do nothing" in told.value.advice[0]
    assert told.value.left == ("world['seats'] is 11; it should be 10",)


def test_an_action_that_only_says_that_it_is_idempotent_is_found():
    bookings = []

    def append(action, data, context):
        bookings.append(data["what"])

    def remove(action, data, context):
        bookings.clear()

    with pytest.raises(NotAtomic) as told:
        assert_atomic(planned, world=bookings, manager=maker({"book": append, "cancel": remove}))
    assert told.value.faults == "s1.action#1:lost_answer"
    assert "was called 2 times with the same idempotency key" in told.value.advice[0]


def test_a_handler_whose_lost_answer_counts_as_not_done_is_found():
    def make(**given):
        return TransactionManager(
            {
                "book": book,
                "cancel": lambda action, data, context: BOOKED.pop(context.forward_key, None),
            },
            **given,
        )

    def plain(manager):
        tx = manager.begin()
        manager.add_step(tx, "agent", "book", {"what": "flight"}, "cancel")
        manager.commit(tx)

    told = bug(plain, make)
    assert told.faults == "s1.action#1:lost_answer"
    assert "in_doubt_on" in told.advice[0]


def test_a_handler_that_only_the_dead_process_had_is_found():
    def registers(manager):
        maker()(store=manager._given_store, clock=manager._clock)
        manager.action("book", compensating_action="cancel")(book)
        manager.action("cancel")(lambda action, data, context: BOOKED.pop(context.forward_key, 0))
        planned(manager)

    told = bug(registers, TransactionManager)
    assert "missing handler" in str(told)
    assert "register every handler in what manager= returns" in told.advice[0]


def test_an_undo_that_is_called_once_needs_a_person_or_is_allowed_to():
    make = maker(cancel={"idempotent": False})
    told = bug(manager=make)
    assert "needs a person" in str(told)
    assert "is called once" in told.advice[0]
    report = atomic(manager=make, allow_outstanding=True)
    assert report.needing_a_person > 2
    assert "a person has to look" in str(report)


def test_an_undo_without_a_handler_is_found():
    def make(**given):
        manager = TransactionManager(**given)
        manager.action("book", compensating_action="forgotten")(book)
        return manager

    assert "'forgotten' of 'book' has no handler" in "".join(bug(manager=make).advice)


def test_what_a_program_does_beside_its_steps_is_found():
    def careless(manager):
        BOOKED["by hand"] = "paid"
        planned(manager)

    told = bug(careless)
    assert "outside of its steps" in told.advice[-1]
    assert told.left == ("world['by hand'] should not be there; it is 'paid'",)


def test_who_swallows_the_crash_is_dead_all_the_same():
    def swallows(manager):
        with contextlib.suppress(BaseException):
            planned(manager)
            return
        with contextlib.suppress(BaseException):
            planned(manager)  # A second trip: nobody who is dead books one.

    report = atomic(swallows, faults=["crash_before", "crash_after"])
    assert report.crashes > 20


# ------------------------------------------------------------------------------------- the story


def test_the_story_tells_what_went_wrong_step_by_step_and_what_to_do():
    def nothing(action, data, context):
        pass

    told = str(bug(manager=maker({"cancel": nothing})))
    parts = (
        "the transaction is rolled back, and something is left behind.",
        "what went wrong\n  the action of s2 (book) is refused",
        "what happened",
        "s1: agent starts book",
        "... the action of s1 (book) has acted",
        "!!!  the action of s2 (book) is refused",
        "rolling back (step_failed)" if "(step_failed)" in told else "rolling back",
        "s1: undoing it with cancel",
        "what is left behind\n  world['<transaction 1>/s1/action'] should not be there",
        "what to do about it\n  'cancel' (s1) returned",
        "to see just this again\n  assert_atomic(..., only='s2.action#1:refused')",
    )
    places = [told.index(part) for part in parts]
    assert places == sorted(places)


def test_one_run_can_be_seen_again():
    def nothing(action, data, context):
        pass

    make = maker({"cancel": nothing})
    first = bug(manager=make)
    assert str(bug(manager=make, only=first.faults)) == str(first)
    assert atomic(only=first.faults).runs == 3


def test_a_pair_can_be_seen_again():
    told = bug(manager=maker(cancel={"idempotent": False}))
    assert len(told.faults.split()) == 2
    again = bug(manager=maker(cancel={"idempotent": False}), only=told.faults)
    assert again.faults == told.faults


def test_the_story_tells_of_the_recovery():
    def twice(action, data, context):
        BOOKED[len(BOOKED)] = data["what"]

    told = str(bug(manager=maker({"book": twice}, book={"idempotent": True})))
    assert "!!!" in told
    crashed = bug(manager=maker({"book": twice}), faults=["crash_after"])
    text = str(crashed)
    assert ">>>  a new process recovers" in text
    assert "its process had died; another one took it over" in text
    assert "recover() says: finished: committed" in text


def test_a_played_crash_kills_nobody(monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    atomic(faults=["crash_before"])
    assert killed == []
