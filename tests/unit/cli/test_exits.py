import inspect

import pytest

from aumai_transactions import errors
from aumai_transactions.cli.exits import ERRORS, Code, code_of, code_of_error
from aumai_transactions.models import (
    OutstandingCompensation,
    TransactionResult,
    TransactionState,
    Waiting,
)

EXPECTED = {
    "TransactionError": 1,
    "InvalidTransactionState": 7,
    "TransactionNotActive": 7,
    "CommitPointPassed": 7,
    "NoActiveTransaction": 2,
    "StepInDoubt": 4,
    "StepUndone": 3,
    "StepFailed": 3,
    "ApprovalPending": 5,
    "UndoRefused": 7,
    "IrreversibleBeforeCompensatable": 2,
    "ReadConflict": 3,
    "Deadlock": 3,
    "LockTimeout": 3,
    "DefinitionError": 2,
    "UnknownAction": 2,
    "DuplicateStep": 2,
    "UnknownStep": 6,
    "DependencyCycle": 2,
    "PlanFileError": 2,
    "IdempotencyKeyReused": 2,
    "InvalidData": 2,
    "TransactionRolledBack": 3,
    "TransactionExpired": 3,
    "TransactionNotFinal": 5,
    "StoreError": 1,
    "StoreUnavailable": 1,
    "JournalConflict": 7,
    "TransactionNotFound": 6,
    "StoreNotFound": 6,
    "StoreFormatError": 1,
    "SchemaVersionError": 1,
    "JournalCorrupt": 1,
    "BackupError": 1,
    "JournalTooNew": 1,
    "InternalError": 1,
    "EngineError": 1,
}


def classes():
    return [
        thing
        for _, thing in inspect.getmembers(errors, inspect.isclass)
        if issubclass(thing, errors.TransactionError)
    ]


def test_every_error_has_the_exit_code_that_was_decided_for_it():
    found = {kind.__name__: int(code_of_error(kind.__new__(kind))) for kind in classes()}
    assert found == EXPECTED


def test_no_line_of_the_table_is_hidden_by_one_above_it():
    for place, (kind, _) in enumerate(ERRORS):
        assert not any(issubclass(kind, above) for above, _ in ERRORS[:place]), kind


def result(state, **fields):
    return TransactionResult(transaction_id="t", state=state, **fields)


LEFT = OutstandingCompensation(step_id="s", agent_id="a", action="x", reason="failed")


@pytest.mark.parametrize(
    "found,code",
    [
        (result(TransactionState.committed), Code.done),
        (result(TransactionState.rolled_back), Code.rolled_back),
        (result(TransactionState.failed), Code.rolled_back),
        (result(TransactionState.rolled_back, outstanding=[LEFT]), Code.attention),
        (
            result(TransactionState.active, waiting=Waiting(reason="in_doubt", detail="")),
            Code.attention,
        ),
        (
            result(TransactionState.compensating, waiting=Waiting(reason="halted", detail="")),
            Code.attention,
        ),
        (
            result(TransactionState.active, waiting=Waiting(reason="running", detail="")),
            Code.unfinished,
        ),
        (
            result(TransactionState.active, waiting=Waiting(reason="retry", detail="")),
            Code.unfinished,
        ),
        (
            result(TransactionState.compensating, waiting=Waiting(reason="left_behind", detail="")),
            Code.unfinished,
        ),
        (
            result(
                TransactionState.compensating,
                waiting=Waiting(reason="retry", detail=""),
                outstanding=[LEFT],
            ),
            Code.attention,
        ),
    ],
)
def test_an_outcome_has_one_exit_code_and_four_wins_over_three(found, code):
    assert code_of(found) is code
