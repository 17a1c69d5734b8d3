"""What is done next: in which order, when, and what is done about what is in doubt."""
# mypy: disable-error-code="union-attr"

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aumai_transactions.core.definition import Reference, Retry, idempotency_key
from aumai_transactions.core.doubts import UNKNOWN_ATTEMPTS_MAX
from aumai_transactions.core.entries import StepStarted
from aumai_transactions.core.observations import (
    DriverArrived,
    HandlerReturned,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
)
from aumai_transactions.core.planning import plan
from aumai_transactions.errors import InvalidTransactionState

# ------------------------------------------------------------------------------------------ graph


def test_independent_steps_start_together_up_to_the_limit(play, make_step):
    steps = [make_step(name, after=()) for name in "abc"]
    tx = play(*steps, parallel_max=2).commit()
    assert tx.calls == ["action:a", "action:b"]
    assert tx.returned("b").calls == ["action:c"]


def test_a_step_starts_only_when_all_that_it_waits_for_succeeded(play, make_step):
    tx = play(
        make_step("a", after=()),
        make_step("b", after=()),
        make_step("c", after=("a", "b")),
        parallel_max=3,
    ).commit()
    assert tx.returned("b").calls == []
    assert tx.returned("a").calls == ["action:c"]


def test_a_diamond_is_undone_backwards(play, make_step):
    tx = play(
        make_step("top", after=()),
        make_step("left", after=("top",)),
        make_step("right", after=("top",)),
        make_step("bottom", after=("left", "right")),
        make_step("end"),
        parallel_max=2,
    ).commit()
    tx.returned("top").returned("right").returned("left").returned("bottom").raised("end")
    order = []
    while tx.calls:
        name = tx.calls[0].partition(":")[2]
        order.append(name)
        tx.returned(name)
    assert order == ["bottom", "left", "right", "top"]


def test_a_failure_waits_for_the_steps_that_still_run(play, make_step):
    tx = play(make_step("a", after=()), make_step("b", after=()), parallel_max=2).commit()
    tx.raised("a")
    assert (tx.recorded, tx.calls) == (["step_failed:a"], [])
    tx.see(HandlerReturned("b", "action"))
    assert tx.recorded == ["step_succeeded:b", "rollback_started:a", "compensation_started:b"]


def test_the_first_step_that_failed_is_named(play, make_step):
    tx = play(make_step("a", after=()), make_step("b", after=()), parallel_max=2).commit()
    tx.raised("b").raised("a")
    assert tx.result.failed_step == "b"


# ------------------------------------------------------------------------------------- references


def refers(make_step, at="/id", into=("flight",)):
    return make_step("b", data={"flight": None}, references=(Reference(into, "a", at),))


def test_a_reference_is_filled_in_and_stands_in_the_intent(play, make_step):
    tx = play(make_step("a"), refers(make_step)).commit().returned("a", {"id": 7})
    assert isinstance(tx.entries[-1], StepStarted)
    assert tx.entries[-1].data == {"flight": 7}
    assert tx.saga.step("b").resolved_data == {"flight": 7}


def test_the_undo_and_a_second_attempt_get_the_data_that_was_filled_in(play, make_step):
    b = make_step(
        "b",
        data={"flight": None},
        references=(Reference(("flight",), "a", "/id"),),
        idempotent=True,
    )
    tx = play(make_step("a"), b).commit().returned("a", {"id": 7}).raised("b", "in_doubt")
    assert tx.entries[-1].data == {"flight": 7}
    tx.raised("b", "in_doubt")
    assert tx.calls == ["compensation:b"]
    assert tx.saga.step("b").resolved_data == {"flight": 7}


@pytest.mark.parametrize(
    "at,into",
    [
        ("/nothing", ("flight",)),
        ("/id/deeper", ("flight",)),
        ("/id", ("no", "such")),
        ("/id", ("l", 3)),
        ("/id", ("l", "x")),
        ("/id", ()),
    ],
)
def test_a_reference_that_cannot_be_filled_in_fails_its_step_before_it_runs(
    play, make_step, at, into
):
    b = make_step("b", data={"flight": None, "l": []}, references=(Reference(into, "a", at),))
    tx = play(make_step("a"), b).commit().returned("a", {"id": 7})
    assert tx.recorded[1:] == ["step_failed:b", "rollback_started:b", "compensation_started:a"]
    assert "UnresolvedReference" in tx.result.error
    assert tx.entries[-3].attempt == 0


def test_the_output_of_a_warned_step_cannot_be_referred_to(play, make_step):
    tx = play(make_step("a"), refers(make_step)).commit()
    tx.see(HandlerReturned("a", "action", None, "what it returned was not JSON"))
    assert tx.recorded[1] == "step_failed:b"


# -------------------------------------------------------------------------------------- C4: doubt


def test_an_idempotent_step_in_doubt_runs_again_under_the_same_key(play, make_step):
    tx = play(make_step("a", idempotent=True)).commit().raised("a", "in_doubt")
    assert tx.recorded == ["step_in_doubt:a", "step_started:a"]
    assert tx.entries[-1].attempt == 2
    assert idempotency_key("tx", "a", "action") == "tx/a/action"
    assert tx.returned("a").state == "committed"


def test_an_idempotent_step_that_stays_in_doubt_is_compensated_after_the_last_attempt(
    play, make_step
):
    tx = play(make_step("a", idempotent=True)).commit()
    for _ in range(UNKNOWN_ATTEMPTS_MAX - 1):
        assert tx.raised("a", "in_doubt").calls == ["action:a"]
    tx.raised("a", "in_doubt")
    assert tx.recorded == ["step_in_doubt:a", "rollback_started:a", "compensation_started:a"]
    assert tx.entries[-1].in_doubt


def test_a_step_in_doubt_that_is_not_idempotent_is_compensated_as_in_doubt(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b", "in_doubt")
    assert tx.recorded == ["step_in_doubt:b", "rollback_started:b", "compensation_started:b"]
    assert tx.entries[-1].in_doubt
    tx.returned("b")
    assert tx.recorded == ["compensation_succeeded:b", "compensation_started:a"]
    assert not tx.entries[-1].in_doubt
    assert tx.returned("a").result.reason == "in_doubt"


@pytest.mark.parametrize(
    "options", [{"on_unknown": "ask"}, {"compensating_action": None}], ids=["ask", "no undo"]
)
def test_a_step_in_doubt_that_asks_waits_for_a_person(play, make_step, options):
    tx = play(make_step("a", **options), make_step("b")).commit().raised("a", "in_doubt")
    assert tx.recorded == ["step_in_doubt:a"]
    assert (tx.calls, tx.state) == ([], "active")
    assert tx.result.waiting.reason == "in_doubt"
    assert tx.result.waiting.step_ids == ["a"]
    assert (tx.result.failed_step, tx.result.error) == ("a", "Problem: a raised")


def test_a_step_without_an_undo_may_say_compensate_and_is_outstanding_then(play, make_step):
    tx = play(make_step("a", compensating_action=None, on_unknown="compensate")).commit()
    tx.raised("a", "in_doubt")
    assert tx.recorded[1:] == [
        "rollback_started:a",
        "step_outstanding:a",
        "transaction_rolled_back",
    ]
    (left,) = tx.result.outstanding
    assert left.reason == "no_compensation"


def test_a_step_in_doubt_without_effect_is_neither_asked_about_nor_outstanding(play, make_step):
    tx = play(make_step("a", compensating_action=None, effect="none")).commit()
    tx.raised("a", "in_doubt")
    assert tx.state == "rolled_back"
    assert tx.result.clean


@pytest.mark.parametrize(
    "answer,end", [("happened", "committed"), ("did_not_happen", "rolled_back")]
)
def test_the_answer_of_a_person_decides_a_step_in_doubt(play, make_step, answer, end):
    tx = (
        play(make_step("a", on_unknown="ask")).commit().raised("a", "in_doubt").resolve("a", answer)
    )
    assert tx.state == end
    assert tx.result.compensated_steps == []
    assert any(answer.replace("_", " ") in warning for warning in tx.result.warnings)


def test_a_retry_asked_for_by_a_person_runs_a_doubtful_step_once_more(play, make_step):
    tx = play(make_step("a", on_unknown="ask")).commit().raised("a", "in_doubt").retry("a")
    assert tx.recorded == ["retry_requested:a", "claimed", "step_started:a"]
    tx.raised("a", "in_doubt")
    assert (tx.calls, tx.state) == ([], "active")


def test_a_rollback_asked_for_while_a_person_is_asked_undoes_the_doubtful_step(play, make_step):
    tx = play(make_step("a", on_unknown="ask")).commit().raised("a", "in_doubt")
    tx.see(RollbackCalled())
    assert tx.calls == ["compensation:a"]
    assert tx.entries[-1].in_doubt
    assert tx.returned("a").result.reason == "requested"


def test_a_commit_never_happens_over_a_step_in_doubt(play, make_step):
    a = make_step("a", on_unknown="ask", after=())
    b = make_step("b", after=())
    tx = play(a, b, parallel_max=2).commit().raised("a", "in_doubt").returned("b")
    assert (tx.calls, tx.state) == ([], "active")
    assert "transaction_committed" not in tx.recorded


# ------------------------------------------------------------------ in doubt: who is asked, when


PROBED = {"has_probe": True, "probe_retry": Retry(2, 1.0, jitter=0.0)}


def test_a_person_is_asked_only_when_nobody_else_can_be(play, make_step, steady):
    policy = PROBED | {"retry": steady}
    tx = play(make_step("a", policy, idempotent=True, on_unknown="ask")).commit()
    asked = []
    tx.raised("a", "in_doubt")
    while tx.result.waiting.reason != "in_doubt":
        if not tx.calls:
            tx.wake()
        asked.append(tx.calls[0])
        if tx.calls == ["probe:a"]:
            tx.probed("a")
        elif tx.calls == ["action:a"]:
            tx.raised("a", "in_doubt")
    assert asked == [
        *["probe:a", "probe:a", "action:a"],
        *["probe:a", "probe:a", "action:a"],
        *["probe:a", "probe:a"],
    ]
    assert (tx.calls, tx.wakes_after) == ([], None)


@pytest.mark.parametrize("idempotent", [True, False])
def test_no_step_runs_again_and_none_is_undone_before_its_probe_was_asked(
    play, make_step, idempotent
):
    for way in ("forward", "rollback", "crash"):
        tx = play(make_step("a", PROBED, idempotent=idempotent)).commit()
        if way == "rollback":
            tx.rollback()
        tx.crash() if way == "crash" else tx.raised("a", "in_doubt")
        assert tx.calls == ["probe:a"], way


def test_a_person_may_say_what_happened_while_a_probe_is_asked(play, make_step):
    tx = play(make_step("a", PROBED), make_step("b")).commit().raised("a", "in_doubt")
    tx.resolve("a", "happened")
    assert tx.calls == ["action:b"]


def test_a_person_may_say_what_happened_while_the_next_attempt_is_waited_for(play, make_step):
    tx = play(make_step("a", PROBED)).commit().raised("a", "in_doubt").probed("a")
    assert tx.wakes_after == 1
    tx.resolve("a", "did_not_happen")
    assert (tx.state, tx.result.clean) == ("rolled_back", True)


def test_a_person_may_say_what_happened_also_while_it_goes_back(play, make_step):
    tx = play(make_step("a", PROBED)).commit().rollback().raised("a", "in_doubt")
    tx.see(ResolutionAnswered("a", "happened", "me", "n"))
    assert (tx.calls, tx.entries[-1].in_doubt) == (["compensation:a"], False)
    tx = play(make_step("a", PROBED)).commit().rollback().raised("a", "in_doubt")
    tx.see(ResolutionAnswered("a", "did_not_happen", "me", "n"))
    assert (tx.state, tx.result.clean, tx.saga.step("a").undo_attempt) == ("rolled_back", True, 0)


def test_a_person_may_end_the_wait_for_a_call_that_was_left_behind(play, make_step):
    tx = play(make_step("a")).commit().left_behind("a")
    assert (tx.calls, tx.result.waiting.reason) == ([], "left_behind")
    tx.see(RetryAsked("a", "me", "n"))
    assert (tx.calls, tx.entries[-1].in_doubt) == (["compensation:a"], True)


def test_a_crash_while_a_probe_is_asked_asks_it_again(play, make_step):
    tx = play(make_step("a", PROBED)).commit().raised("a", "in_doubt").crash()
    assert (tx.recorded, tx.entries[-1].attempt) == (["claimed", "probe_started:a"], 2)


def test_a_crash_while_a_probe_is_asked_in_going_back_asks_it_again(play, make_step):
    tx = play(make_step("a", PROBED)).commit().rollback().raised("a", "in_doubt").crash()
    assert tx.calls == ["probe:a"]


def test_a_rollback_while_a_probe_is_asked_goes_back_and_asks_on(play, make_step):
    tx = play(make_step("a", PROBED)).commit().raised("a", "in_doubt").rollback()
    assert (tx.recorded, tx.state) == (["rollback_requested", "rollback_started"], "compensating")
    assert tx.calls == []
    assert tx.probed("a", "not_done").state == "rolled_back"


def test_a_crash_always_runs_an_idempotent_step_once_more(play, make_step):
    retry = Retry(attempts_max=1)
    tx = play(make_step("a", {"retry": retry}, idempotent=True)).commit()
    for attempt in (2, 3, 4):
        tx.crash()
        assert (tx.calls, tx.entries[-1].attempt) == (["action:a"], attempt)


# ------------------------------------------------------------------------------------- waking up


def test_while_a_step_is_in_doubt_only_its_own_times_are_waited_for(play, make_step, steady):
    a = make_step("a", {"retry": steady}, after=())
    b = make_step("b", PROBED, after=())
    tx = play(a, b).commit().raised("a")
    tx.now += 1_500_000
    tx.raised("b", "in_doubt").probed("b")
    # The next attempt of a is due, and does not begin before it is known what became of b.
    assert tx.wakes_after == 1
    assert tx.wake().calls == ["probe:b"]
    assert tx.probed("b", "done").calls == ["action:a"]


def test_a_person_who_is_asked_holds_up_what_waits_for_a_time(play, make_step, steady):
    a = make_step("a", {"retry": steady}, after=())
    tx = play(a, make_step("b", on_unknown="ask", after=())).commit().raised("a")
    tx.raised("b", "in_doubt")
    assert (tx.calls, tx.wakes_after, tx.result.waiting.reason) == ([], None, "in_doubt")
    assert tx.resolve("b", "happened").wakes_after == 1


def test_the_first_time_of_several_is_waited_for(play, make_step, steady):
    a = make_step("a", {"retry": steady}, after=())
    tx = play(a, make_step("b", after=())).commit().raised("a").raised("b", after_seconds=5.0)
    assert tx.wakes_after == 1
    assert tx.wake().calls == ["action:a"]
    assert tx.returned("a").wakes_after == 4


OUTCOMES = st.sampled_from(["not_done", "in_doubt", "timeout", "cancelled"])
MAYBE_RETRY = st.sampled_from(
    [None, None, Retry(3, 1.0), Retry(2, 0.0), Retry(4, 9.0, 1.0, 9.0, 0, 12)]
)
SOME_POLICY = st.fixed_dictionaries(
    {
        "retry": MAYBE_RETRY,
        "has_probe": st.booleans(),
        "probe_retry": MAYBE_RETRY,
        "has_verify": st.booleans(),
        "verify_retry": MAYBE_RETRY,
        "undo_idempotent": st.booleans(),
        "undo_retry": MAYBE_RETRY,
        "abandon_after_seconds": st.sampled_from([None, 0.5]),
    }
)
SOME_STEP = st.fixed_dictionaries(
    {
        "policy": SOME_POLICY,
        "idempotent": st.booleans(),
        "on_unknown": st.sampled_from([None, "ask", "compensate"]),
        "after": st.sampled_from([None, ()]),
    }
)


@settings(max_examples=300)
@given(st.data())
def test_whatever_is_seen_it_is_never_stuck_and_always_ends(play, make_step, data):
    """`Play` checks after every observation that something moves it; here, that it ends."""
    options = data.draw(st.lists(SOME_STEP, min_size=1, max_size=3))
    steps = [make_step(f"s{number}", **option) for number, option in enumerate(options)]
    tx = play(
        *steps,
        parallel_max=data.draw(st.integers(1, 2)),
        timeout_scope=data.draw(st.sampled_from(["start", "transaction"])),
        on_compensation_failure=data.draw(st.sampled_from(["continue", "halt"])),
    ).commit()
    for _ in range(60):
        if tx.state in ("committed", "rolled_back"):
            break
        one_more(tx, data)
    else:
        finish(tx)
    assert tx.state in ("committed", "rolled_back")


def busy(tx):
    for step in tx.saga.steps:
        if step.probing:
            yield "probe", step.step_id
        elif step.verifying:
            yield "verification", step.step_id
        elif step.undo_running:
            yield "compensation", step.step_id
        elif step.state.value == "running":
            yield "action", step.step_id


def one_more(tx, data):
    """Let one more thing be seen, whatever it is."""
    event = data.draw(st.sampled_from(["call"] * 8 + ["crash", "claim", "rollback", "late"]))
    under_way = list(busy(tx))
    if event == "crash":
        tx.crash()
    elif event == "claim" and not tx.saga.running:
        tx.claim()
    elif event == "rollback":
        tx.see(RollbackCalled())
    elif event == "late":
        left = [step for step in tx.saga.steps if step.left_behind]
        if left:
            outcome = data.draw(st.sampled_from(["succeeded", "not_done", "in_doubt"]))
            tx.late(left[0].step_id, outcome, min(left[0].left_behind))
    elif under_way:
        answer(tx, data, *under_way[0])
    elif tx.wakes_after is not None:
        tx.wake()
    else:
        ask_a_person(tx)


def answer(tx, data, operation, name):
    if operation == "probe":
        tx.probed(name, data.draw(st.sampled_from(["done", "not_done", "unknown"])))
    elif operation == "verification":
        tx.verified(name, data.draw(st.sampled_from(["clean", "residue", "unknown"])))
    elif data.draw(st.booleans()):
        tx.returned(name, continues=operation == "compensation" and data.draw(st.booleans()))
    else:
        tx.raised(
            name,
            data.draw(OUTCOMES),
            may_retry=data.draw(st.booleans()),
            after_seconds=data.draw(st.sampled_from([None, None, 0.0, 7.0])),
            is_answer=data.draw(st.booleans()),
            left_behind=data.draw(st.booleans()),
            draw=data.draw(st.floats(0, 1)),
        )


def ask_a_person(tx):
    name = tx.result.waiting.step_ids[0]
    with suppress(InvalidTransactionState):
        tx.resolve(name, "happened" if tx.state == "active" else "undone")
    tx.claim()


def finish(tx):
    """Answer well from here on: so it must come to an end."""
    for _ in range(60):
        if tx.state in ("committed", "rolled_back"):
            return
        under_way = list(busy(tx))
        if under_way:
            operation, name = under_way[0]
            if operation == "probe":
                tx.probed(name, "done")
            elif operation == "verification":
                tx.verified(name, "clean")
            else:
                tx.returned(name)
        elif tx.wakes_after is not None:
            tx.wake()
        else:
            ask_a_person(tx)


def test_nothing_is_planned_while_what_runs_is_all_that_is_left(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit()
    assert plan(tx.saga, tx.now) == ()
    assert tx.see(DriverArrived("d1")).calls == ["compensation:a"]
