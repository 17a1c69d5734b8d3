"""What users hold."""
# mypy: disable-error-code="arg-type"

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from aumai_transactions import (
    BackupReport,
    ConflictNotice,
    DescribedStep,
    Description,
    Event,
    OutputReference,
    OutstandingCompensation,
    ReadConflict,
    Recovered,
    Resource,
    ResourceLock,
    RetryPolicy,
    Risk,
    StepState,
    Transaction,
    TransactionExpired,
    TransactionNotFinal,
    TransactionResult,
    TransactionRolledBack,
    TransactionState,
    TransactionStep,
    Verification,
    Waiting,
    WitnessReport,
)

NOW = datetime(2026, 2, 27, 12, 30, 0, 123456, tzinfo=UTC)
RESULT = TransactionResult(
    transaction_id="tx-1",
    state=TransactionState.rolled_back,
    completed_steps=["s1", "s2"],
    failed_step="s3",
    error="ValueError: declined",
    reason="step_failed",
    outputs={"s1": {"id": 7}},
    compensated_steps=["s1"],
    uncompensated=["s0"],
    outstanding=[
        OutstandingCompensation(
            step_id="s2",
            agent_id="hotel",
            action="book",
            compensating_action="cancel",
            reason="failed",
            error="OSError: gone",
        )
    ],
    unverified=["s8"],
    simulated_steps=["s9"],
    warnings=["mind the gap"],
    durable=True,
    waiting=Waiting(reason="halted", detail="retry s2", step_ids=["s2"]),
    started_at=NOW,
    finished_at=NOW,
)
NOTICE = ConflictNotice(
    transaction_id="tx-1",
    resource="account:1",
    version_read=3,
    version_now=5,
    is_certain=True,
    changed_by="tx-2",
    steps=["s1"],
    can_read_again=True,
    can_be_rolled_back=True,
)
DESCRIPTION = Description(
    transaction_id="tx-1",
    state="active",
    name="trip",
    can_be_rolled_back=True,
    deadline=NOW,
    done=[
        DescribedStep(
            step_id="s1",
            agent_id="hotel",
            action="book",
            data='{"room":1}',
            undo="cancel",
            can_be_undone=True,
            undo_before=NOW,
        )
    ],
    running=[
        DescribedStep(
            step_id="s2",
            agent_id="hotel",
            action="pay",
            data="{}",
            undo="refund",
            can_be_undone=True,
        )
    ],
    in_doubt=[
        DescribedStep(step_id="s3", agent_id="hotel", action="call", data="{}", error="no answer")
    ],
)
MODELS = [
    NOTICE,
    Transaction(),
    Transaction(
        steps=[
            TransactionStep(
                agent_id="a",
                action="b",
                data={"deep": [1, 2.5, None, {"x": True}]},
                compensating_action="c",
                state=StepState.in_doubt,
                after=["s0"],
                references=[
                    OutputReference(into=["deep", 0], step_id="s0", at="/x", type="number")
                ],
                retry=RetryPolicy(attempts_max=3, budget_seconds=60),
                timeout_seconds=2.5,
                pivot=True,
                on_commit=True,
                confirming_action="d",
                requires_approval=True,
                approval_timeout_seconds=9.5,
                undo_within_seconds=60.0,
                scope_id="c1",
            )
        ],
        created_at=NOW,
        timeout_seconds=0.5,
        timeout_scope="transaction",
        on_crash="roll_back",
        on_compensation_failure="halt",
        name="trip",
        idempotency_key="order-7",
        actions={"b": {"kind": "http"}},
        shape="interactive",
        parallel_compensation=True,
        allow_irreversible_first=True,
        resume_within_seconds=90.0,
        on_undo_window="roll_back",
        state=TransactionState.compensating,
    ),
    TransactionStep(agent_id="a", action="b"),
    TransactionResult(transaction_id="t", state=TransactionState.committed),
    RESULT,
    Event(
        transaction_id="t",
        sequence=1,
        kind="step_started",
        at=NOW,
        state=TransactionState.active,
        step_id="s1",
        fields={"attempt": 1},
    ),
    Recovered(transaction_id="t", outcome="finished", detail="rolled back", result=RESULT),
    Verification(transactions=1, entries=2, problems={"t": "damaged"}),
    Verification(),
    Verification(store_problems=["its schema has another store"]),
    BackupReport(path="b", store_id="s", changes=1, made_at=NOW),
    BackupReport(
        path="b",
        store_id="s",
        changes=7,
        made_at=NOW,
        transactions=2,
        entries=9,
        resources=1,
        sha256="ab",
        damaged={"t": "its hash does not fit"},
        waiting=["u"],
    ),
    WitnessReport(path="w", store_id="s", changes=7, transactions=2, written=1),
    Waiting(reason="in_doubt", detail="ask"),
    Waiting(reason="retry", detail="wait", step_ids=["s1"], until=NOW),
    RetryPolicy(),
    RetryPolicy(attempts_max=1, first_delay_seconds=0, jitter=0, budget_seconds=0.5),
    Risk(code="no_probe", message="add a probe", step_id="s1"),
    Description(transaction_id="t", state="active", deadline=NOW),
    DESCRIPTION,
    DESCRIPTION.done[0],
    Resource(name="account:42"),
    Resource.shared("rate:usd"),
    TransactionStep(agent_id="a", action="b", resources=[Resource(name="r")]),
    ResourceLock(resource="r", mode="shared", transaction_id="t", token=7),
    ResourceLock(resource="r", mode="exclusive", transaction_id="t", place=1, waits_for=["u"]),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_model_comes_back_equal_from_json_and_from_python(model):
    kind = type(model)
    assert kind.model_validate_json(model.model_dump_json()) == model
    assert kind.model_validate(model.model_dump()) == model
    assert kind.model_validate(model.model_dump(mode="json")) == model


def test_every_exported_model_is_tested_for_its_round_trip():
    import aumai_transactions

    exported = {
        value
        for name in aumai_transactions.__all__
        if isinstance(value := getattr(aumai_transactions, name), type)
        and issubclass(value, BaseModel)
    }
    inside = {OutputReference, OutstandingCompensation}
    assert {type(model) for model in MODELS} | inside >= exported


@pytest.mark.parametrize("timeout", [60, 60.0, 0.5])
def test_a_timeout_keeps_its_type_over_json(timeout):
    found = Transaction.model_validate_json(Transaction(timeout_seconds=timeout).model_dump_json())
    assert type(found.timeout_seconds) is type(timeout)


@given(
    st.builds(
        Transaction,
        transaction_id=st.uuids().map(str),
        state=st.sampled_from(TransactionState),
        created_at=st.datetimes(timezones=st.just(UTC)),
        timeout_seconds=st.integers(1, 10**9) | st.floats(0.001, 1e9),
        name=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        steps=st.lists(
            st.builds(
                TransactionStep,
                agent_id=st.text("abc", min_size=1),
                action=st.text("abc", min_size=1),
                data=st.dictionaries(st.text("abc"), st.integers() | st.booleans() | st.none()),
                state=st.sampled_from(StepState),
                after=st.none() | st.lists(st.text("abc")),
            ),
            max_size=3,
        ),
    )
)
def test_any_transaction_comes_back_equal_from_json(tx):
    assert Transaction.model_validate_json(tx.model_dump_json()) == tx


def test_a_transaction_needs_a_time_with_a_zone():
    with pytest.raises(ValidationError, match="timezone"):
        Transaction(created_at="2026-02-27T12:00:00")


@pytest.mark.parametrize(
    "state,final",
    [
        ("pending", False),
        ("active", False),
        ("committing", False),
        ("compensating", False),
        ("committed", True),
        ("rolled_back", True),
        ("failed", True),
    ],
)
def test_three_states_are_final(state, final):
    assert TransactionState(state).is_final is final
    assert TransactionResult(transaction_id="t", state=state).is_final is final


@pytest.mark.parametrize(
    "changes,clean",
    [
        ({}, True),
        ({"state": "committed"}, True),
        ({"state": "failed"}, True),
        ({"state": "active"}, False),
        ({"uncompensated": ["s1"]}, False),
        ({"outstanding": RESULT.outstanding}, False),
        ({"unverified": ["s1"]}, False),
        ({"warnings": ["x"]}, True),
    ],
)
def test_clean_means_final_and_nothing_left(changes, clean):
    result = TransactionResult(**{"transaction_id": "t", "state": "rolled_back", **changes})
    assert result.clean is clean


def test_raise_for_state_returns_a_committed_result():
    result = TransactionResult(transaction_id="t", state="committed")
    assert result.raise_for_state() is result


@pytest.mark.parametrize(
    "state,error",
    [
        ("rolled_back", TransactionRolledBack),
        ("failed", TransactionExpired),
        ("active", TransactionNotFinal),
        ("compensating", TransactionNotFinal),
        ("committing", TransactionNotFinal),
    ],
)
def test_raise_for_state_raises_what_fits_with_the_result(state, error):
    result = TransactionResult(transaction_id="t", state=state)
    with pytest.raises(error) as caught:
        result.raise_for_state()
    assert type(caught.value) is error
    assert caught.value.result is result


def test_a_read_conflict_is_a_rollback_with_a_name_of_its_own():
    result = TransactionResult(transaction_id="t", state="rolled_back", reason="conflict")
    with pytest.raises(ReadConflict) as caught:
        result.raise_for_state()
    assert caught.value.result is result


def test_raise_for_state_names_the_steps_own_exception_as_the_cause():
    result = TransactionResult(transaction_id="t", state="rolled_back")
    cause = ValueError("declined")
    result.attach_cause(cause)
    with pytest.raises(TransactionRolledBack) as caught:
        result.raise_for_state()
    assert caught.value.__cause__ is cause
    # What only this process knows does not make two results differ.
    assert result == TransactionResult.model_validate_json(result.model_dump_json())


def test_a_result_tells_the_whole_story_in_plain_lines():
    assert str(RESULT).splitlines() == [
        "Transaction tx-1: rolled_back (step failed)",
        "  failed step: s3: ValueError: declined",
        "  completed: s1, s2",
        "  undone: s1",
        "  cannot be undone, nothing declared: s0",
        "  undone, but not verified: s8",
        "  simulated, no handler: s9",
        "  needs a person: s2 book (cancel, failed): OSError: gone",
        "  waiting: retry s2",
        "  warning: mind the gap",
    ]


def test_a_description_is_told_in_plain_lines_without_what_is_empty():
    assert str(DESCRIPTION).splitlines() == [
        "Transaction tx-1 (trip): active, can still be rolled back",
        "done:",
        '- s1 hotel: book {"room":1} (can be undone until 2026-02-27T12:30:00Z)',
        "under way:",
        "- s2 hotel: pay {} (can be undone)",
        "in doubt, nobody knows whether it happened:",
        "- s3 hotel: call {} (no answer)",
    ]


def test_a_result_that_is_not_durable_says_so_last():
    story = str(TransactionResult(transaction_id="t", state="failed", error="too late"))
    assert story.splitlines() == [
        "Transaction t: failed",
        "  why: too late",
        "  kept in memory only: this record ends with the process",
    ]


@pytest.mark.parametrize(
    "field,wrong",
    [
        ("attempts_max", [0, -1, 10_001, 1.5]),
        ("first_delay_seconds", [-1, math.inf, math.nan, 1e12]),
        ("delay_factor", [0.5, math.inf, 1_001]),
        ("delay_seconds_max", [-1, math.nan, 1e12]),
        ("jitter", [-0.1, 1.1, math.nan]),
        ("budget_seconds", [0, -1, math.inf]),
        ("attempts", [3]),
    ],
)
def test_a_retry_policy_that_cannot_be_is_refused(field, wrong):
    for value in wrong:
        with pytest.raises(ValidationError, match=field):
            RetryPolicy(**{field: value})


def test_a_retry_policy_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        RetryPolicy().attempts_max = 3


def test_a_verification_is_intact_without_problems():
    assert Verification().is_intact
    assert not Verification(problems={"t": "x"}).is_intact
