"""The words with which a handler answers."""

import copy
import pickle
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

import aumai_transactions
from aumai_transactions import answers
from aumai_transactions.answers import (
    Clean,
    Continue,
    Done,
    NotDone,
    NothingToUndo,
    Residue,
    Unknown,
)

ANSWERS = [
    (Done({"id": 7}), {"output": {"id": 7}}),
    (Done(), {"output": None}),
    (NotDone("no"), {"why": "no"}),
    (Unknown("busy"), {"why": "busy"}),
    (Clean(), {}),
    (Residue([1]), {"left": [1]}),
    (NothingToUndo("none"), {"why": "none"}),
    (Continue({"id": 8}), {"output": {"id": 8}}),
]


@pytest.mark.parametrize("answer,said", ANSWERS, ids=repr)
def test_an_answer_is_a_value_that_says_what_it_was_given(answer, said):
    assert {field.name: getattr(answer, field.name) for field in fields(answer)} == said
    assert answer == type(answer)(**said)
    for name in said:
        with pytest.raises(FrozenInstanceError):
            setattr(answer, name, None)


@pytest.mark.parametrize("answer,said", ANSWERS, ids=repr)
def test_an_answer_survives_a_process_boundary(answer, said):
    sent = pickle.loads(pickle.dumps(answer))  # noqa: S301 (our own bytes)
    assert sent == answer == copy.copy(answer)


def test_no_two_kinds_of_answers_are_equal():
    kinds = {type(answer) for answer, _said in ANSWERS}
    blank = [kind() for kind in kinds]
    assert all(one != other for one in blank for other in blank if one is not other)


def test_every_answer_is_tested_and_exported():
    kinds = {
        kind for kind in vars(answers).values() if isinstance(kind, type) and is_dataclass(kind)
    }
    assert kinds == {type(answer) for answer, _said in ANSWERS}
    assert {kind.__name__ for kind in kinds} <= set(aumai_transactions.__all__)
