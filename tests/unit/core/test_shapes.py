"""Which shapes a transaction may have: refused when it is declared, by name."""

import pytest

from aumai_transactions.core.definition import Definition, Policy, StepDefinition
from aumai_transactions.core.shapes import check_shape, check_step
from aumai_transactions.errors import DefinitionError, IrreversibleBeforeCompensatable


def step(name, **options):
    return StepDefinition(name, "agent", options.pop("action", f"do_{name}"), {}, **options)


def check(*steps, idempotent=(), unknown=(), **options):
    def is_idempotent(name):
        return None if name in unknown else name in idempotent

    check_shape(Definition(1, 60, steps, **options), "tx", is_idempotent)


FINE = [
    step("a"),
    step("a", pivot=True),
    step("a", on_commit=True, idempotent=True),
    step("a", on_commit=True, policy=Policy(has_probe=True)),
    step("a", on_commit=True, action="elsewhere"),
    step("a", compensating_action="undo", confirming_action="safe"),
    step("a", confirming_action="elsewhere"),
    step("a", requires_approval=True, approval_timeout_seconds=5.0),
    step("a", pivot=True, requires_approval=True),
    step("a", effect="irreversible"),
    step("a", effect="irreversible", pivot=True),
    step("a", effect="irreversible", on_commit=True, idempotent=True),
]


@pytest.mark.parametrize("fine", FINE, ids=str)
def test_a_step_that_fits_together_is_allowed(fine):
    check(fine, idempotent=("safe",), unknown=("elsewhere",))


@pytest.mark.parametrize(
    "wrong,named",
    [
        (step("a", pivot=True, on_commit=True, idempotent=True), "only one of them"),
        (step("a", pivot=True, confirming_action="safe"), "has a confirming action"),
        (
            step("a", on_commit=True, idempotent=True, confirming_action="safe"),
            "has a confirming action",
        ),
        (
            step("a", on_commit=True, idempotent=True, requires_approval=True),
            "nobody can deny it any more",
        ),
        (
            step("a", effect="irreversible", compensating_action="undo"),
            "irreversible and names a compensating action",
        ),
        (step("a", approval_timeout_seconds=5.0), "requires no approval"),
        (step("a", on_commit=True), "neither idempotent nor has it a probe"),
        (step("a", confirming_action="unsafe"), "is not declared idempotent"),
    ],
    ids=str,
)
def test_a_step_that_contradicts_itself_is_refused_by_name(wrong, named):
    with pytest.raises(DefinitionError, match=named) as caught:
        check(wrong, idempotent=("safe",))
    assert "step 'a' of transaction tx" in str(caught.value)
    with pytest.raises(DefinitionError, match=named):
        check_step(wrong, "tx", lambda name: name == "safe")


def test_there_is_one_point_of_no_return():
    with pytest.raises(DefinitionError, match="the pivots 'p', 'q'"):
        check(step("p", pivot=True), step("q", pivot=True))


def test_only_a_program_can_be_waited_for():
    with pytest.raises(DefinitionError, match="a planned transaction has none"):
        check(step("a"), on_crash="wait")
    check(on_crash="wait", shape="interactive", resume_within_seconds=60.0)


# -------------------------------------------------------------------------------- irreversible last


@pytest.mark.parametrize(
    "steps",
    [
        (step("mail", effect="irreversible"), step("book", compensating_action="undo")),
        (
            step("mail", effect="irreversible", after=()),
            step("book", compensating_action="undo", after=()),
        ),
        (
            step("x", after=()),
            step("mail", effect="irreversible", after=("x",)),
            step("book", compensating_action="undo", after=("x",)),
        ),
    ],
    ids=["before", "beside", "in another branch"],
)
def test_what_nothing_undoes_comes_behind_what_may_be_undone(steps):
    with pytest.raises(IrreversibleBeforeCompensatable) as caught:
        check(*steps)
    assert (caught.value.irreversible, caught.value.compensatable) == ("mail", "book")
    check(*steps, allow_irreversible_first=True)


@pytest.mark.parametrize(
    "steps",
    [
        (step("book", compensating_action="undo"), step("mail", effect="irreversible")),
        (
            step("book", compensating_action="undo", after=()),
            step("x", after=("book",)),
            step("mail", effect="irreversible", after=("x",)),
        ),
        (step("mail", effect="irreversible"), step("look")),
        (
            step("mail", effect="irreversible", on_commit=True, idempotent=True),
            step("book", compensating_action="undo"),
        ),
        (
            step("mail", effect="irreversible"),
            step("h", compensating_action="undo", on_commit=True, idempotent=True),
        ),
    ],
    ids=["behind", "far behind", "nothing to undo", "held", "the other is held"],
)
def test_what_nothing_undoes_is_fine_where_nothing_can_go_back_over_it(steps):
    check(*steps)
