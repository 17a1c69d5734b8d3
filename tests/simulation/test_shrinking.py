"""A planted bug is found, and what shows it is made as small as it can be."""
# mypy: disable-error-code="arg-type, var-annotated"

import pytest

from aumai_transactions import calls
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.simulator import run, shrink, simulate
from aumai_transactions.testing.simulator.__main__ import main

SEEDS = 200


def first_failure():
    for seed in range(SEEDS):
        report = simulate(seed)
        if report.violations:
            return report
    pytest.fail(f"the planted bug was not found in {SEEDS} seeds")


@pytest.fixture
def timeouts_mean_not_done(monkeypatch):
    honest = calls.outcome_of

    def wrong(action, error):
        return "not_done" if isinstance(error, TimeoutError) else honest(action, error)

    monkeypatch.setattr(calls, "outcome_of", wrong)


@pytest.fixture
def nobody_is_fenced(monkeypatch):
    honest = MemoryStore._refusal

    def wrong(self, kept, append):
        answer = honest(self, kept, append)
        return None if answer is AppendAnswer.fenced else answer

    monkeypatch.setattr(MemoryStore, "_refusal", wrong)


@pytest.mark.usefixtures("timeouts_mean_not_done")
def test_a_failing_history_shrinks_to_one_transaction_and_one_fault():
    found = first_failure()
    smaller = shrink(found)
    assert len(smaller.case.numbers or ()) == 1
    assert len(smaller.fired) == 1
    assert len(found.fired) > 1
    assert smaller.violations[0].split(":")[0] == found.violations[0].split(":")[0]
    again = run(smaller.case)
    assert (again.violations, again.digest) == (smaller.violations, smaller.digest)


@pytest.mark.usefixtures("nobody_is_fenced")
def test_a_store_that_fences_nobody_is_found():
    assert "I6: " in first_failure().violations[0]


@pytest.mark.usefixtures("timeouts_mean_not_done")
def test_the_command_prints_the_violation_and_the_smaller_command(capsys):
    seed = first_failure().case.seed
    assert main(["--seed", str(seed)]) == 1
    said = capsys.readouterr().err
    assert "See it again:" in said
    assert "The smallest that was found:" in said
    assert "--only" in said
    assert "--faults" in said


def test_nothing_is_left_of_a_planted_bug():
    simulate(3).raise_for_violations()
