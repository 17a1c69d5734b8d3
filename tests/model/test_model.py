"""The protocol holds whatever fails, each safeguard is needed, and what the models mean exists."""

import importlib
import re
from pathlib import Path

import pytest
from tests.reliability.share import ALL

from aumai_transactions.core.kinds import KINDS

HERE = Path(__file__).parent
deep = pytest.mark.deep

TRANSACTION, LOCKS = "transaction.pml", "locks.pml"
ASKS_FIRST = {"probe_left_tombstone"}

REMOVED = [
    *("NO_FENCE", "NO_EXPECTED", "NO_ALREADY_OURS", "NO_INTENT", "GUESS_APPENDED"),
    *("TIMEOUT_IS_FAILURE", "UNDELIVERED_CLEARS", "RERUN_BLIND", "UNDO_SURE_ONLY"),
    *("UNDO_FORWARDS", "EARLY_END", "NO_UNDO_WISH", "CRASH_IS_FAILURE", "NO_TOMBSTONE"),
    *("PROBE_ONLY_LOOKS", "KEY_BY_ATTEMPT"),
]
"""Without any one of these the world is left wrong."""
JOURNAL_REMOVED = {
    "NO_FENCE": "I6_one_driver",
    "NO_INTENT": "I1_no_call_before_its_intent",
    "GUESS_APPENDED": "I1_no_call_before_its_intent",
    "RERUN_BLIND": "I5_never_twice",
}
"""Where the journal's own rules see it at once, and which of them does."""
LOCKS_REMOVED = {
    "NO_BLOCK": "I10_one_holder",
    "RELEASE_AFTER_STEP": "I10_nobody_in_between",
    "RELEASE_AT_BACK": "I10_nobody_in_between",
    "RELEASE_BY_TIMER": "I10_nobody_in_between",
    "SAME_TOKEN": "I10_nobody_in_between",
    "NO_FENCE": "I10_nobody_in_between",
}
WORLD_RULES = {
    "I2_committed_means_all_in_force",
    "I2_rolled_back_means_nothing_stands",
    "I3_order",
    "I4_no_forward_after_back",
    "I5_never_twice",
    "a_wish_is_heard",
}
STUCK_WITHOUT = {
    TRANSACTION: ["NO_RESEND", "NO_TAKEOVER"],
    LOCKS: ["NO_DEADLOCK_CHECK", "NO_RELEASE"],
}
QUICK = {"NO_FENCE", "NO_EXPECTED", "NO_INTENT", "TIMEOUT_IS_FAILURE"} | {
    *("UNDO_SURE_ONLY", "NO_TOMBSTONE", "KEY_BY_ATTEMPT", "RELEASE_AFTER_STEP")
}
"""Taken away in every run of the suite; the others by the deep one."""


def some(names):
    return [name if name in QUICK else pytest.param(name, marks=deep) for name in names]


def holds(found, model, never):
    assert found.broken is None
    assert found.is_complete
    assert found.reached == marked_in(model) - never


def marked_in(model):
    marks = re.findall(r"SOMETIMES\((\w+)\)", (HERE / model).read_text("utf-8"))
    return frozenset(marks) - {"what"}


# ------------------------------------------------------------------------------------ it is safe


@pytest.mark.parametrize(
    "how,never",
    [
        (("CRASHES=0",), {"died", *ASKS_FIRST}),
        (("STEPS=1",), ASKS_FIRST),
        (("STEPS=1", "FIRST=PROBED", "CRASHES=0"), {"died"}),
        pytest.param((), ASKS_FIRST, marks=deep),
        pytest.param(("FIRST=PROBED",), set(), marks=deep),
    ],
)
def test_a_transaction_is_all_or_nothing_whatever_fails(search, how, never, figures):
    found = search(TRANSACTION, *how)
    holds(found, TRANSACTION, never)
    assert found.states > 10_000
    figures("model", ALL, searches=1, states=found.states, violations=0)


@pytest.mark.parametrize("how", [(), ("PLANNED",)])
def test_nobody_comes_in_between(search, how):
    holds(search(LOCKS, *how), LOCKS, {"circle_broken"} if how else set())


@deep
@pytest.mark.parametrize(
    "how",
    [
        ("STEPS=3", "CRASHES=0"),
        ("CLAIMS=3", "CRASHES=1"),
        ("FIRST=PROBED", "OTHERS=PROBED"),
        ("FIRST=PROBED", "OTHERS=IDEMPOTENT"),
        ("FIRST=IDEMPOTENT", "OTHERS=IDEMPOTENT"),
    ],
    ids=" ".join,
)
def test_more_steps_more_claims_and_more_kinds_of_actions_are_safe_too(search, how, figures):
    found = search(TRANSACTION, *how, is_large=True)
    assert found.broken is None
    assert found.is_complete
    assert {"committed", "rolled_back", "taken_over", "fenced", "already_ours"} <= found.reached
    figures("model", ALL, searches=1, states=found.states, violations=0)


# -------------------------------------------------------------------------------- and it must be so


@pytest.mark.parametrize("safeguard", some(REMOVED))
def test_without_a_safeguard_the_world_is_left_wrong(search, safeguard, figures):
    kinds = ("FIRST=PROBED",) if safeguard == "PROBE_ONLY_LOOKS" else ()
    assert search(TRANSACTION, "WORLD", safeguard, *kinds).broken in WORLD_RULES
    figures("model", ALL, safeguards_taken_away_and_needed=1)


@deep
@pytest.mark.parametrize("safeguard", JOURNAL_REMOVED)
def test_without_a_safeguard_the_journal_breaks_its_rules(search, safeguard, figures):
    assert search(TRANSACTION, safeguard).broken == JOURNAL_REMOVED[safeguard]
    figures("model", ALL, safeguards_taken_away_and_needed=1)


@pytest.mark.parametrize("safeguard", some(LOCKS_REMOVED))
def test_without_a_safeguard_of_the_locks_somebody_comes_in_between(search, safeguard, figures):
    assert search(LOCKS, safeguard).broken == LOCKS_REMOVED[safeguard]
    figures("model", ALL, safeguards_taken_away_and_needed=1)


def test_a_model_in_which_nothing_goes_wrong_does_not_pass_for_one(search):
    found = search(TRANSACTION, "CLAIMS=1", "CRASHES=0", "STEPS=1")
    assert found.broken is None
    never = marked_in(TRANSACTION) - found.reached
    assert {"taken_over", "fenced", "died"} <= never


# -------------------------------------------------------------------------------- and it goes on


@pytest.mark.parametrize(
    "model,how",
    [
        (TRANSACTION, ("FAULTS=1",)),
        pytest.param(TRANSACTION, ("FAULTS=2",), marks=deep),
        (LOCKS, ()),
        pytest.param(LOCKS, ("PLANNED",), marks=deep),
        pytest.param(TRANSACTION, ("FAULTS=3", "CRASHES=2"), marks=deep),
        pytest.param(TRANSACTION, ("FIRST=PROBED", "OTHERS=PROBED"), marks=deep),
    ],
)
def test_once_the_faults_stop_every_transaction_ends(search, model, how, figures):
    found = search(model, *how, liveness=True)
    assert found.broken is None
    assert found.is_complete
    figures("model", ALL, searches=1, states=found.states, violations=0)


@pytest.mark.parametrize(
    "model,safeguard", [(model, name) for model, names in STUCK_WITHOUT.items() for name in names]
)
def test_without_these_one_never_ends(search, model, safeguard):
    assert search(model, safeguard, liveness=True).broken == "liveness"


# ------------------------------------------------------------------------ and it is about this code


def listed_in(model):
    section = (HERE / model).read_text("utf-8").partition("safeguards: to remove")[2]
    return re.findall(r"^   ([A-Z_]+)  ", section.partition("--- */")[0], re.MULTILINE)


def test_every_safeguard_that_a_model_lists_is_taken_away_here():
    assert sorted(listed_in(TRANSACTION)) == sorted([*REMOVED, *STUCK_WITHOUT[TRANSACTION]])
    assert sorted(listed_in(LOCKS)) == sorted([*LOCKS_REMOVED, *STUCK_WITHOUT[LOCKS]])


def rows():
    """The tables of the page: what stands in the model, and what it stands for."""
    page = (HERE / "README.md").read_text("utf-8")
    found = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", page, re.MULTILINE)
    assert len(found) > 30, "the page has no tables"
    return [
        (re.findall(r"`([^`]+)`", left), re.findall(r"`([^`]+)`", right)) for left, right in found
    ]


def named(path):
    """Find `package.module:name.name`, or the kind of an entry."""
    if path in KINDS:
        return KINDS[path]
    module, _, names = path.partition(":")
    found = importlib.import_module(f"aumai_transactions.{module}")
    for name in names.split("."):
        found = getattr(found, name)
    return found


def test_what_the_models_stand_for_exists():
    wrong = []
    for _left, right in rows():
        assert right
        for path in right:
            try:
                named(path)
            except (ImportError, AttributeError):
                wrong.append(path)
    assert wrong == []


def test_what_the_page_explains_stands_in_a_model():
    models = {name: (HERE / name).read_text("utf-8") for name in (TRANSACTION, LOCKS)}
    words = {word for text in models.values() for word in re.findall(r"\w+", text)}
    assert [word for left, _right in rows() for word in left if word not in words] == []


@pytest.mark.parametrize("model", [TRANSACTION, LOCKS])
def test_every_part_of_a_model_is_explained(model):
    text = (HERE / model).read_text("utf-8")
    parts = set(re.findall(r"^(?:inline|(?:active )?proctype) (\w+)", text, re.MULTILINE))
    parts |= set(listed_in(model))
    assert sorted(parts - {word for left, _right in rows() for word in left}) == []


def test_a_name_that_is_gone_is_noticed():
    with pytest.raises(AttributeError):
        named("core.decider:advance_no_more")
    with pytest.raises(ImportError):
        named("core.no_such_module:advance")
