"""Attributes first, message second; every message says what to do next."""
# mypy: disable-error-code="arg-type"

import copy
import pickle

import pytest

from aumai_transactions import errors
from aumai_transactions.models import OutstandingCompensation, TransactionResult, Waiting

RESULT = TransactionResult(
    transaction_id="tx-1", state="rolled_back", failed_step="s2", error="ValueError: declined"
)
WAITING = TransactionResult(
    transaction_id="tx-1",
    state="active",
    waiting=Waiting(reason="in_doubt", detail="find out, then resolve"),
)
# Each error with its attributes, and what its message must name.
ERRORS = [
    (
        errors.InvalidTransactionState("tx-1", "committed", "commit", "Begin a new one."),
        {"transaction_id": "tx-1", "state": "committed", "call": "commit"},
        ["tx-1", "committed", "cannot commit", "Begin a new one."],
    ),
    (
        errors.UnknownAction(["a", "b"], "tx-1", "Register it."),
        {"actions": ("a", "b")},
        ["'a', 'b'", "tx-1"],
    ),
    (errors.DuplicateStep("s1", "tx-1"), {"step_id": "s1"}, ["'s1'", "id of its own"]),
    (
        errors.UnknownStep("s9", "step 's1'", "tx-1"),
        {"step_id": "s9", "named_by": "step 's1'"},
        ["'s9'", "step 's1'", "Name a step"],
    ),
    (
        errors.DependencyCycle(["a", "b"], "tx-1"),
        {"cycle": ("a", "b")},
        ["a → b → a", "Remove one"],
    ),
    (
        errors.PlanFileError("p.toml", "steps[2].agent", "is missing"),
        {"file": "p.toml", "where": "steps[2].agent", "problem": "is missing"},
        ["p.toml: steps[2].agent: is missing"],
    ),
    (
        errors.InvalidData("$.a", "is a set. Pass sorted(value)."),
        {"path": "$.a"},
        ["$.a: is a set"],
    ),
    (
        errors.CommitPointPassed("tx-1", "committing", "roll back"),
        {"transaction_id": "tx-1", "state": "committing", "call": "roll back"},
        ["cannot roll back", "tx-1", "committing", "commit point is passed", "nothing was changed"],
    ),
    (
        errors.TransactionNotActive("tx-1", "committed", "execute a step in", "Nothing was done."),
        {"transaction_id": "tx-1", "hint": "Nothing was done."},
        ["execute a step in", "tx-1", "Nothing was done."],
    ),
    (
        errors.NoActiveTransaction("book_hotel"),
        {"what": "book_hotel"},
        ["book_hotel", "with transaction():", "tx.bind(function)"],
    ),
    (
        errors.StepInDoubt("tx-1", "s1", "no answer", undone=True),
        {"transaction_id": "tx-1", "step_id": "s1", "detail": "no answer", "undone": True},
        ["nobody knows", "s1", "tx-1", "no answer", "It was undone"],
    ),
    (
        errors.StepInDoubt("tx-1", "s1", "no answer", undone=False),
        {"undone": False},
        ["A person must find out", "resolve tx-1 s1 --happened | --did-not-happen"],
    ),
    (
        errors.StepFailed("tx-1", "s1", "CardDeclined: no money"),
        {"transaction_id": "tx-1", "step_id": "s1", "detail": "CardDeclined: no money"},
        ["tx-1", "s1 ", "CardDeclined: no money"],
    ),
    (
        errors.LockTimeout("tx-1", "s1", "it waited 30 s for r, which tx-2 has"),
        {
            "transaction_id": "tx-1",
            "step_id": "s1",
            "detail": "it waited 30 s for r, which tx-2 has",
        },
        ["tx-1", "s1 ", "not begun", "for r, which tx-2 has", "aumai-transactions locks"],
    ),
    (
        errors.StepUndone("tx-1", "s1", "undone with its savepoint"),
        {"transaction_id": "tx-1", "step_id": "s1", "why": "undone with its savepoint"},
        ["tx-1", "s1", "undone with its savepoint"],
    ),
    (
        errors.ApprovalPending("tx-1", "s1", "ab12"),
        {"transaction_id": "tx-1", "step_id": "s1", "digest": "ab12"},
        ["approve tx-1 s1", "ask for the same step"],
    ),
    (
        errors.UndoRefused("tx-1", "savepoint draft", ["s2", "s3"]),
        {"transaction_id": "tx-1", "what": "savepoint draft", "dependants": ("s2", "s3")},
        ["savepoint draft", "tx-1", "s2, s3", "Nothing was changed"],
    ),
    (
        errors.IrreversibleBeforeCompensatable("tx-1", "mail", "book"),
        {"transaction_id": "tx-1", "irreversible": "mail", "compensatable": "book"},
        ["'mail'", "'book'", "on_commit=True", "allow_irreversible_first=True"],
    ),
    (errors.ReadConflict(RESULT), {"result": RESULT}, ["tx-1", "s2"]),
    (errors.TransactionRolledBack(RESULT), {"result": RESULT}, ["tx-1", "s2", "declined"]),
    (errors.TransactionExpired(RESULT), {"result": RESULT}, ["tx-1"]),
    (errors.TransactionNotFinal(WAITING), {"result": WAITING}, ["tx-1", "active", "find out"]),
    (
        errors.StoreUnavailable("full. Make room.", outcome_unknown=True),
        {"outcome_unknown": True},
        ["Make room"],
    ),
    (
        errors.JournalConflict("tx-1", "process 7"),
        {"transaction_id": "tx-1"},
        ["process 7", "show tx-1"],
    ),
    (
        errors.TransactionNotFound("tx-1", "memory:", "See list."),
        {"transaction_id": "tx-1", "place": "memory:"},
        ["no transaction 'tx-1' in memory:. See list."],
    ),
    (
        errors.SchemaVersionError("/x.db", 3, 1),
        {"place": "/x.db", "found": 3, "known": 1},
        ["/x.db", "3", "1", "Install a newer"],
    ),
    (
        errors.JournalCorrupt("tx-1", 4, "no hash"),
        {"transaction_id": "tx-1", "sequence": 4, "problem": "no hash"},
        ["tx-1", "entry 4", "no hash", "verify tx-1"],
    ),
    (
        errors.JournalTooNew("tx-1", 4, "entry kind 'x'"),
        {"sequence": 4, "found": "entry kind 'x'"},
        ["entry 4", "newer release", "Install"],
    ),
    (
        errors.InternalError("I4 broke.", ["1 a", "2 b"]),
        {"journal_tail": ("1 a", "2 b")},
        ["report", "2 b"],
    ),
    (errors.StoreNotFound("there is no /x"), {}, ["/x"]),
    (errors.StoreFormatError("/x is no store"), {}, ["/x"]),
    (
        errors.IdempotencyKeyReused("order-7", "tx-1", "step 2 of its plan has another data"),
        {
            "key": "order-7",
            "transaction_id": "tx-1",
            "detail": "step 2 of its plan has another data",
        },
        ["'order-7'", "tx-1", "step 2", "Repeat the same plan"],
    ),
    (errors.RetryLater(3), {"after_seconds": 3}, ["3 s"]),
    (errors.RetryLater(3, "too busy"), {"after_seconds": 3}, ["too busy"]),
    (errors.OutcomeUnknown("no answer", 5), {"after_seconds": 5}, ["no answer"]),
    (errors.OutcomeUnknown(), {"after_seconds": None}, []),
    (errors.StepRejected("declined"), {}, ["declined"]),
    (errors.NotDelivered("no route"), {}, ["no route"]),
]
IDS = [type(error).__name__ for error, _attributes, _named in ERRORS]


@pytest.mark.parametrize("error,attributes,named", ERRORS, ids=IDS)
def test_an_error_has_its_attributes_and_a_message_that_names_them(error, attributes, named):
    for name, value in attributes.items():
        assert getattr(error, name) == value
    for text in named:
        assert text in str(error)
    assert not str(error).startswith(("'", '"'))


def all_classes(root):
    for kind in root.__subclasses__():
        if kind.__module__.startswith(errors.__name__):
            yield kind
            yield from all_classes(kind)


def test_every_error_class_with_a_message_of_its_own_is_tested():
    tested = {type(error) for error, _attributes, _named in ERRORS}
    own = {kind for kind in all_classes(errors.TransactionError) if "__init__" in vars(kind)}
    assert own
    assert own <= tested


def test_the_tree_of_errors_is_the_documented_one():
    tree = errors.__doc__
    for kind in all_classes(errors.TransactionError):
        assert kind.__name__ in tree


@pytest.mark.parametrize(
    "kind,builtin",
    [
        (errors.DefinitionError, ValueError),
        (errors.IdempotencyKeyReused, errors.DefinitionError),
        (errors.InvalidData, ValueError),
        (errors.TransactionNotFound, KeyError),
        (errors.TransactionNotFound, errors.StoreError),
        (errors.TransactionExpired, errors.TransactionRolledBack),
        (errors.ReadConflict, errors.TransactionRolledBack),
        (errors.TransactionNotActive, errors.InvalidTransactionState),
        (errors.CommitPointPassed, errors.InvalidTransactionState),
        (errors.IrreversibleBeforeCompensatable, errors.DefinitionError),
    ],
)
def test_an_error_can_be_caught_as_what_a_caller_would_expect(kind, builtin):
    assert issubclass(kind, builtin)


def test_what_a_handler_raises_is_no_error_of_ours():
    steering = (
        errors.StepRejected,
        errors.NotDelivered,
        errors.OutcomeUnknown,
        errors.RetryLater,
    )
    for kind in steering:
        assert kind.__name__ in errors.__doc__
        assert not issubclass(kind, errors.TransactionError)


def test_a_rollback_that_left_something_says_so():
    left = OutstandingCompensation(step_id="s1", agent_id="a", action="x", reason="failed")
    result = RESULT.model_copy(update={"outstanding": [left]})
    assert "needs a person: s1" in str(errors.TransactionRolledBack(result))


@pytest.mark.parametrize("error,attributes,named", ERRORS, ids=IDS)
def test_an_error_survives_a_process_boundary(error, attributes, named):
    """Process pools and task queues pickle what a job raises."""
    sent = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
    for again in (sent, copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        for name, value in attributes.items():
            assert getattr(again, name) == value
