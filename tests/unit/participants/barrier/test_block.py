"""The rules of the barrier, on every kind of connection."""

# What is tested is a block, and what becomes of it when it raises.
# ruff: noqa: PT012

from dataclasses import replace

import pytest

from aumai_transactions.answers import Done, NotDone, Unknown
from aumai_transactions.errors import (
    DefinitionError,
    InvalidData,
    NotDelivered,
    OutcomeUnknown,
    StepRejected,
)
from aumai_transactions.participants.barrier import (
    BarrierCall,
    CallRefused,
    CallUndone,
    InvalidCall,
    KeyReused,
    StaleDriver,
    barrier,
    barrier_probe,
)

KEY = "tx-1/flight/action"
UNDO_KEY = "tx-1/flight/compensation"
FACES = ("Connection", "Session")


class SoldOut(StepRejected):
    pass


def refuse(shop, context, text="sold out"):
    connection = shop.connect()
    with barrier(connection, context) as call:
        shop.take(connection)
        call.answer = {"left": 0}
        raise SoldOut(text)


# -------------------------------------------------------------------- the three anomalies, first
# Each of them corrupts a participant without a barrier; the test behind it shows the same
# calls in the same order with it.


@pytest.mark.parametrize(
    "calls,free",
    [("do do", 8), ("undo", 11), ("undo do", 10), ("do undo undo", 11), ("do undo do", 9)],
)
def test_without_a_barrier_every_arrival_counts(shop, calls, free):
    for name in calls.split():
        connection = shop.connect()
        (shop.take if name == "do" else shop.give_back)(connection)
        connection.commit()
        connection.close()
    assert shop.free == free


@pytest.mark.parametrize(
    "calls,free",
    [("do do", 9), ("undo", 10), ("undo do", 10), ("do undo undo", 10), ("do undo do", 10)],
)
def test_with_the_barrier_the_effect_is_made_once_and_never_after_its_undo(shop, calls, free):
    refused = []
    for name in calls.split():
        try:
            (shop.reserve if name == "do" else shop.cancel)()
        except CallUndone as error:
            refused.append(error)
    assert shop.free == free
    assert len(refused) == calls.endswith("undo do")


# -------------------------------------------------------------------------------- forward calls


def test_a_first_call_is_due_and_its_answer_is_committed_with_the_effect(shop):
    call = shop.reserve(answer={"seat": [17, "ä", None]})
    assert (call.is_due, call.is_duplicate) == (True, False)
    assert shop.free == 9
    assert shop.rows == {KEY: ("action", "done", 1)}


def test_a_duplicate_is_not_due_and_gets_the_recorded_answer(shop):
    first = shop.reserve(answer={"seat": [17, "ä", None]})
    again = shop.reserve(answer="something else")
    assert (again.is_due, again.is_duplicate) == (False, True)
    assert again.answer == first.answer == {"seat": [17, "ä", None]}
    assert shop.free == 9
    assert shop.rows == {KEY: ("action", "done", 2)}


def test_what_a_block_sets_for_a_duplicate_does_not_replace_what_was_recorded(shop, action):
    shop.reserve(answer="first")
    with barrier(shop.connect(), action) as call:
        call.answer = "second"
    assert call.answer == "first"
    assert shop.reserve().answer == "first"


def test_a_call_after_its_undo_is_refused_in_a_sentence(shop):
    assert shop.cancel().is_due is False
    with pytest.raises(CallUndone, match=r"refused after its undo.*before it arrived") as caught:
        shop.reserve()
    assert (caught.value.key, caught.value.was_carried_out) == (KEY, False)
    assert shop.free == 10
    assert shop.rows[KEY] == ("action", "tombstone", 1)


def test_a_late_duplicate_of_what_was_undone_is_not_answered_done(shop):
    shop.reserve()
    shop.cancel()
    with pytest.raises(CallUndone, match="carried out, and undone later") as caught:
        shop.reserve()
    assert caught.value.was_carried_out
    assert shop.free == 10


def test_a_refusal_is_recorded_without_the_effect_and_told_again(shop, action):
    with pytest.raises(SoldOut, match="sold out"):
        refuse(shop, action)
    assert shop.free == 10
    assert shop.rows == {KEY: ("action", "refused", 1)}
    with pytest.raises(CallRefused, match=r"^sold out$") as caught:
        shop.reserve()
    assert caught.value.answer == {"left": 0}
    assert shop.free == 10
    assert shop.rows == {KEY: ("action", "refused", 2)}


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "x" * 100_000, "ä 🦄 %s {0} '"])
def test_a_refusal_of_any_text_can_be_recorded(plain_shop, action, text):
    with pytest.raises(SoldOut):
        refuse(plain_shop, action, text)
    with pytest.raises(CallRefused) as caught:
        plain_shop.reserve()
    assert 0 < len(str(caught.value)) <= 2_000


def test_any_other_exception_leaves_nothing(shop, action):
    connection = shop.connect()
    with pytest.raises(ZeroDivisionError), barrier(connection, action):
        shop.take(connection)
        raise ZeroDivisionError
    assert (shop.free, shop.rows) == (10, {})
    assert shop.reserve().is_due


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_leaves_nothing(shop, action, error):
    connection = shop.connect()
    with pytest.raises(error), barrier(connection, action):
        shop.take(connection)
        raise error
    assert (shop.free, shop.rows) == (10, {})


def test_an_error_of_the_database_inside_a_refusal_does_not_spoil_its_record(shop, action):
    connection = shop.connect()
    with pytest.raises(SoldOut), barrier(connection, action):
        try:
            shop.run(connection, "INSERT INTO seats VALUES (NULL)")
        except Exception as error:
            raise SoldOut("a rule of the database says no") from error
    with pytest.raises(CallRefused, match="a rule of the database"):
        shop.reserve()


def test_an_answer_that_is_not_json_is_refused_where_it_is_set_and_nothing_is_done(shop, action):
    connection = shop.connect()
    with pytest.raises(InvalidData, match="answer"), barrier(connection, action) as call:
        shop.take(connection)
        call.answer = object()
    assert (shop.free, shop.rows) == (10, {})


def test_a_later_change_of_what_was_set_does_not_reach_the_record(plain_shop, action):
    seats = [1]
    with barrier(plain_shop.connect(), action) as call:
        call.answer = seats
        seats.append(2)
    assert plain_shop.reserve().answer == [1]


# ----------------------------------------------------------------------------------------- undos


def test_an_undo_gets_what_the_forward_call_recorded_and_undoes_it(shop):
    shop.reserve(answer={"seat": 17})
    call = shop.cancel()
    assert (call.is_due, call.forward_answer) == (True, {"seat": 17})
    assert shop.free == 10
    assert shop.rows == {
        KEY: ("action", "undone", 1),
        UNDO_KEY: ("compensation", "done", 1),
    }


def test_a_duplicate_undo_is_not_due_and_gets_the_recorded_answer(shop):
    shop.reserve()
    shop.cancel(answer={"undone": 17})
    again = shop.cancel(answer="other")
    assert (again.is_due, again.is_duplicate, again.answer) == (False, True, {"undone": 17})
    assert shop.free == 10


def test_an_undo_of_nothing_succeeds_leaves_a_tombstone_and_may_answer(shop):
    call = shop.cancel(answer="nothing to undo")
    assert (call.is_due, call.is_duplicate, call.forward_answer) == (False, False, None)
    assert shop.rows == {
        KEY: ("action", "tombstone", 0),
        UNDO_KEY: ("compensation", "done", 1),
    }
    assert shop.cancel().answer == "nothing to undo"
    assert shop.free == 10


def test_an_undo_of_what_was_refused_is_not_due_and_the_refusal_stands(shop, action):
    with pytest.raises(SoldOut):
        refuse(shop, action)
    assert shop.cancel().is_due is False
    assert shop.free == 10
    with pytest.raises(CallRefused, match="sold out"):
        shop.reserve()


def test_a_second_undo_under_another_key_undoes_nothing(shop, undo):
    shop.reserve()
    other = replace(undo, idempotency_key="somebody else's undo")
    assert [shop.cancel().is_due, shop.cancel(other).is_due] == [True, False]
    assert shop.free == 10


@pytest.mark.parametrize("error", [StepRejected, ValueError])
def test_an_undo_that_fails_leaves_the_effect_and_can_be_tried_again(shop, undo, error):
    shop.reserve(answer="seat 1")
    connection = shop.connect()
    with pytest.raises(error), barrier(connection, undo):
        shop.give_back(connection)
        raise error("not today")
    assert shop.free == 9
    assert shop.rows == {KEY: ("action", "done", 1)}
    assert shop.cancel().forward_answer == "seat 1"
    assert shop.free == 10


def test_a_refusal_in_a_block_that_is_not_due_is_not_recorded(plain_shop, action, undo):
    with pytest.raises(StepRejected), barrier(plain_shop.connect(), undo):
        raise StepRejected("no")
    assert plain_shop.rows == {}
    plain_shop.reserve(answer="stands")
    with pytest.raises(StepRejected), barrier(plain_shop.connect(), action):
        raise StepRejected("no")
    assert plain_shop.reserve().answer == "stands"


# --------------------------------------------------------------------------- whose key, whose word


@pytest.mark.parametrize(
    "first,second", [(b"17", b"18"), ({"seat": 1}, {"seat": 2}), ([], {}), ("1", 1)]
)
def test_a_key_that_comes_with_another_request_is_found_out(plain_shop, first, second):
    plain_shop.reserve(request=first)
    with pytest.raises(KeyReused, match="used for another request"):
        plain_shop.reserve(request=second)
    assert plain_shop.free == 9
    assert plain_shop.rows == {KEY: ("action", "done", 1)}
    assert plain_shop.reserve(request=first).is_duplicate
    assert plain_shop.reserve().is_duplicate


def test_the_order_of_keys_is_no_other_request(plain_shop):
    plain_shop.reserve(request={"a": 1, "b": 2})
    assert plain_shop.reserve(request={"b": 2, "a": 1}).is_duplicate


def test_a_reused_key_is_never_reported_as_not_done():
    # A second attempt that asks for something else must not make the first one look undone.
    assert issubclass(KeyReused, OutcomeUnknown)
    assert not issubclass(KeyReused, StepRejected)


def test_a_tombstone_takes_every_request(plain_shop):
    plain_shop.cancel()
    with pytest.raises(CallUndone):
        plain_shop.reserve(request={"seat": 1})


def test_a_key_is_not_taken_for_another_operation(plain_shop, action, undo):
    plain_shop.reserve()
    with pytest.raises(KeyReused):
        plain_shop.cancel(BarrierCall(KEY, "compensation", forward_key="other"))
    with pytest.raises(KeyReused):
        plain_shop.cancel(BarrierCall("new", "compensation", forward_key="new"))
    plain_shop.cancel()
    with pytest.raises(KeyReused):
        plain_shop.reserve(BarrierCall(UNDO_KEY))
    assert plain_shop.free == 10


def test_keys_that_differ_only_far_behind_or_in_case_are_different_calls(plain_shop):
    long = "k" * 1_990
    for key in (f"{long}1", f"{long}2", "ä" * 1_000, "KEY", "key", "' OR 1=1 --", ":key %(key)s"):
        assert plain_shop.reserve(BarrierCall(key)).is_due
        assert plain_shop.reserve(BarrierCall(key)).is_duplicate
    assert plain_shop.free == 3
    assert max(len(key.encode()) for key in plain_shop.rows) <= 1_000


# ----------------------------------------------------------------------------------------- fencing


def test_a_stale_driver_does_not_act(shop, action, undo):
    shop.reserve(replace(action, token=4))
    late = replace(action, idempotency_key="tx-1/hotel/action", forward_key="", token=3)
    with pytest.raises(StaleDriver, match="token 3, and 4 was seen") as caught:
        shop.reserve(late)
    assert (caught.value.token, caught.value.highest) == (3, 4)
    with pytest.raises(StaleDriver):
        shop.cancel(replace(undo, token=3))
    assert shop.free == 9
    assert shop.rows == {KEY: ("action", "done", 1)}


def test_the_token_of_a_duplicate_counts_too(shop, action):
    shop.reserve(replace(action, token=3))
    shop.reserve(replace(action, token=5))
    assert shop.column("token") == {KEY: 5}
    with pytest.raises(StaleDriver):
        shop.reserve(replace(action, idempotency_key="tx-1/hotel/action", forward_key="", token=4))


def test_the_token_of_a_refused_call_counts_too(plain_shop, action):
    plain_shop.cancel(BarrierCall("u", "compensation", KEY, "tx-1", token=3))
    with pytest.raises(CallUndone):
        plain_shop.reserve(replace(action, token=9))
    with pytest.raises(StaleDriver):
        plain_shop.reserve(BarrierCall("new", transaction_id="tx-1", token=8))


def test_a_duplicate_of_a_stale_driver_is_told_the_truth_and_does_not_act(shop, action):
    shop.reserve(replace(action, token=4), answer="seat 1")
    again = shop.reserve(replace(action, token=3))
    assert (again.is_due, again.answer) == (False, "seat 1")
    assert shop.column("token") == {KEY: 4}
    assert shop.free == 9


def test_an_undo_by_the_new_driver_fences_the_old_one(plain_shop, action, undo):
    plain_shop.cancel(replace(undo, token=4))
    other = replace(action, idempotency_key="tx-1/hotel/action", forward_key="", token=3)
    with pytest.raises(StaleDriver):
        plain_shop.reserve(other)


@pytest.mark.parametrize(
    "call",
    [
        BarrierCall("k", transaction_id="tx-2", token=1),
        BarrierCall("k", transaction_id="tx-1", token=4),
        BarrierCall("k", transaction_id="tx-1"),
        BarrierCall("k", token=1),
    ],
)
def test_who_is_not_stale_may_act(plain_shop, action, call):
    plain_shop.reserve(replace(action, token=4))
    assert plain_shop.reserve(call).is_due


# ------------------------------------------------------------------------- the caller's transaction


def test_in_the_callers_transaction_the_commit_is_the_callers(shop, action):
    connection = shop.connect()
    shop.take(connection)
    with barrier(connection, action) as call:
        shop.take(connection)
        call.answer = "seat 1"
    assert (shop.free, shop.rows) == (10, {})
    connection.commit()
    assert shop.free == 8
    assert shop.reserve().answer == "seat 1"


def test_what_the_caller_rolls_back_never_happened(shop, action):
    connection = shop.connect()
    shop.take(connection)
    with barrier(connection, action):
        shop.take(connection)
    connection.rollback()
    assert (shop.free, shop.rows) == (10, {})


@pytest.mark.parametrize(
    "kind",
    # Not sqlite3 itself, which begins no transaction for a SELECT.
    [
        "psycopg",
        *(f"{face} over {name}" for face in FACES for name in ("sqlite", "postgresql")),
    ],
)
def test_a_transaction_that_has_only_read_so_far_is_the_callers_too(open_shop, action, kind):
    shop = open_shop(kind)
    connection = shop.connect()
    shop.run(connection, "SELECT free FROM seats")
    with barrier(connection, action):
        shop.take(connection)
    assert (shop.free, shop.rows) == (10, {})
    connection.rollback()
    assert (shop.free, shop.rows) == (10, {})
    assert shop.reserve().is_due


def test_an_exception_takes_nothing_of_the_callers_with_it(shop, action):
    connection = shop.connect()
    shop.take(connection)
    with pytest.raises(ZeroDivisionError), barrier(connection, action):
        shop.take(connection)
        raise ZeroDivisionError
    connection.commit()
    assert (shop.free, shop.rows) == (9, {})


def test_a_refusal_in_the_callers_transaction_is_recorded_with_the_callers_commit(shop, action):
    connection = shop.connect()
    shop.take(connection)
    with pytest.raises(SoldOut), barrier(connection, action):
        shop.take(connection)
        raise SoldOut("no")
    connection.commit()
    assert shop.free == 9
    with pytest.raises(CallRefused):
        shop.reserve()


def test_two_calls_fit_into_one_transaction(shop, action):
    connection = shop.connect()
    shop.take(connection)
    for number in range(2):
        with barrier(connection, BarrierCall(f"k{number}")) as call:
            shop.take(connection)
            assert call.is_due
    connection.commit()
    assert shop.free == 7
    assert len(shop.rows) == 2


# ----------------------------------------------------------------------------------------- probes


def test_a_probe_says_done_with_the_recorded_answer(shop, action):
    shop.reserve(answer={"seat": 17})
    assert barrier_probe(shop.connect(), asking(action)) == Done({"seat": 17})


def test_a_probe_that_says_not_done_makes_it_true_for_ever(shop, action):
    answer = barrier_probe(shop.connect(), asking(action))
    assert isinstance(answer, NotDone)
    with pytest.raises(CallUndone):
        shop.reserve()
    assert shop.free == 10
    assert isinstance(barrier_probe(shop.connect(), asking(action)), NotDone)


def test_what_a_probe_made_impossible_is_what_was_called_so_far(shop, action):
    asked = replace(asking(action), forward_attempt=1)
    assert isinstance(barrier_probe(shop.connect(), asked), NotDone)
    with pytest.raises(CallUndone):
        shop.reserve(action)
    again = replace(action, attempt=2)
    assert shop.reserve(again, answer={"seat": 2}).is_due
    assert shop.free == 9
    assert shop.reserve(action).is_duplicate, "the first attempt, when it comes at last"
    assert barrier_probe(shop.connect(), asked) == Done({"seat": 2})
    assert shop.free == 9


def test_a_later_probe_makes_the_later_attempts_impossible_too(plain_shop, action):
    for attempt in (1, 2):
        asked = replace(asking(action), forward_attempt=attempt)
        assert isinstance(barrier_probe(plain_shop.connect(), asked), NotDone)
    earlier = replace(asking(action), forward_attempt=1)
    assert isinstance(barrier_probe(plain_shop.connect(), earlier), NotDone)
    with pytest.raises(CallUndone):
        plain_shop.reserve(replace(action, attempt=2))
    assert plain_shop.reserve(replace(action, attempt=3)).is_due


def test_after_an_undo_no_later_attempt_acts_whatever_was_probed(plain_shop, action):
    asked = replace(asking(action), forward_attempt=1)
    barrier_probe(plain_shop.connect(), asked)
    assert plain_shop.cancel().is_due is False
    for attempt in (1, 2, 99):
        with pytest.raises(CallUndone):
            plain_shop.reserve(replace(action, attempt=attempt))
    barrier_probe(plain_shop.connect(), asked)
    with pytest.raises(CallUndone):
        plain_shop.reserve(replace(action, attempt=2))
    assert plain_shop.free == 10


def test_a_probe_that_knows_no_attempt_makes_all_impossible(plain_shop, action):
    barrier_probe(plain_shop.connect(), replace(asking(action), forward_attempt=1))
    barrier_probe(plain_shop.connect(), asking(action))
    with pytest.raises(CallUndone):
        plain_shop.reserve(replace(action, attempt=2))


def test_a_stale_driver_does_not_take_the_place_of_a_tombstone(plain_shop, action):
    barrier_probe(plain_shop.connect(), replace(asking(action), forward_attempt=1))
    plain_shop.reserve(BarrierCall("other", transaction_id="tx-1", token=4))
    with pytest.raises(StaleDriver):
        plain_shop.reserve(replace(action, attempt=2))
    assert plain_shop.reserve(replace(action, attempt=2, token=4)).is_due


def test_a_probe_knows_what_was_refused_and_what_was_undone(plain_shop, action):
    with pytest.raises(SoldOut):
        refuse(plain_shop, action)
    assert barrier_probe(plain_shop.connect(), asking(action)) == NotDone(
        "it was refused: sold out"
    )
    other = replace(action, step_id="hotel", idempotency_key="h", forward_key="h")
    plain_shop.reserve(other)
    plain_shop.cancel(BarrierCall("u", "compensation", "h"))
    assert barrier_probe(plain_shop.connect(), asking(other)) == NotDone(
        "it was carried out, and undone"
    )


def test_an_undo_after_a_probe_has_nothing_to_undo(plain_shop, action):
    barrier_probe(plain_shop.connect(), asking(action))
    assert plain_shop.cancel().is_due is False
    assert plain_shop.free == 10


def test_a_probe_of_a_stale_driver_leaves_no_tombstone(shop, action):
    shop.reserve(BarrierCall("other", transaction_id="tx-1", token=4))
    answer = barrier_probe(shop.connect(), asking(action))
    assert isinstance(answer, Unknown)
    assert "taken over" in answer.why
    assert shop.reserve(replace(action, token=4)).is_due


def test_a_probe_refuses_a_transaction_that_may_be_rolled_back_later(shop, action):
    connection = shop.connect()
    shop.take(connection)
    with pytest.raises(DefinitionError, match="Commit first"):
        barrier_probe(connection, asking(action))
    connection.commit()
    assert (shop.free, shop.rows) == (9, {})


def test_a_probe_of_a_key_that_is_an_undo_is_unknown(plain_shop, action):
    plain_shop.cancel()
    strange = BarrierCall("p", "probe", forward_key=UNDO_KEY)
    assert isinstance(barrier_probe(plain_shop.connect(), strange), Unknown)


@pytest.mark.parametrize("operation", ["probe", "verification"])
def test_what_only_looks_does_not_pass_the_barrier(plain_shop, action, operation):
    looking = replace(action, operation=operation, idempotency_key=f"tx-1/flight/{operation}")
    with pytest.raises(InvalidCall, match="barrier_probe"), barrier(plain_shop.connect(), looking):
        pytest.fail("it was let in")
    assert plain_shop.rows == {}


def asking(context):
    return replace(context, operation="probe", idempotency_key="tx-1/flight/probe")


# ------------------------------------------------------------------------------- rules of the block


def test_a_block_that_commits_by_itself_is_in_doubt_for_good(open_shop, action, undo):
    shop = open_shop("sqlite3")
    connection = shop.connect()
    with pytest.raises(OutcomeUnknown, match="ended the barrier's transaction"):  # noqa: SIM117
        with barrier(connection, action), connection:
            shop.take(connection)
    assert shop.rows == {KEY: ("action", "running", 1)}
    for call in (shop.reserve, shop.cancel):
        with pytest.raises(OutcomeUnknown, match="in the middle"):
            call()
    assert isinstance(barrier_probe(shop.connect(), asking(action)), Unknown)
    assert shop.rows == {KEY: ("action", "running", 1)}


@pytest.mark.parametrize("kind", ["psycopg", "Connection over postgresql", "Session over sqlite"])
@pytest.mark.parametrize("refusal", [None, StepRejected("no")])
def test_a_block_that_commits_by_itself_is_never_called_done(open_shop, action, kind, refusal):
    shop = open_shop(kind)
    connection = shop.connect()
    with pytest.raises(OutcomeUnknown, match="ended the barrier's transaction"):  # noqa: SIM117
        with barrier(connection, action):
            shop.take(connection)
            if kind == "psycopg":
                connection.execute("COMMIT")
            else:
                connection.commit()
            if refusal:
                raise refusal
    assert shop.rows.get(KEY, ("action", "running", 1)) == ("action", "running", 1)


def test_without_the_table_nothing_is_done_and_the_remedy_is_named(shop, action):
    connection = shop.connect()
    shop.run(connection, "DROP TABLE aumai_barrier")
    connection.commit()
    with pytest.raises(NotDelivered, match=r"create_barrier_table\(connection\)"):
        shop.reserve()
    assert shop.free == 10


def test_a_row_says_when_it_was_made_and_when_it_was_heard_of_last(plain_shop, clock):
    made_at = clock.now()
    plain_shop.reserve(clock=clock)
    clock.advance(60)
    plain_shop.reserve(clock=clock)
    assert plain_shop.column("created_at") == {KEY: made_at}
    assert plain_shop.column("seen_at") == {KEY: clock.now()}
