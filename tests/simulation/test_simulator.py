"""One seed is one history, whatever runs it; and the seeds of every change are sound."""
# mypy: disable-error-code="arg-type, var-annotated"

import os
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from aumai_transactions.testing.simulator import Case, SimulationFailed, run, simulate
from aumai_transactions.testing.simulator.__main__ import main

CHUNK = 40
FIXED = 400
FRESH = 80
FIRST_FRESH = int(os.environ.get("AUMAI_SIMULATION_SEED", "1000000"))
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")

RARE = {
    # who may act
    "takeover", "takeover_in_undo", "takeover_in_action", "takeover_behind_commit_point",
    "answer_held", "answer_fenced", "answer_moved", "answer_blocked", "answer_already_ours",
    "call_by_stale_driver", "stale_driver_refused", "lease_not_renewed", "appends_in_one_write",
    # commits of which nobody knew
    "fault_late_append_appended", "fault_late_append_already_ours", "fault_late_append_moved",
    "fault_store_reply_lost", "fault_store_down", "raised_StoreUnavailable",
    # participants
    "null_compensation", "hanging_refused", "repeat_after_undo", "duplicate_answered",
    "astray_call", "late_return", "late_succeeded", "late_not_done", "late_behind_the_end",
    "probe_done", "probe_not_done", "probe_unknown", "verification_clean",
    "verification_residue", "verification_unknown",
    # calls again
    "again_action", "again_compensation", "again_confirmation", "again_probe", "undo_in_doubt",
    "retry_scheduled", "outstanding", "rollback_revoked",
    # ways to end, and people
    "committed", "rolled_back", "expired", "commit_decided", "partial_rollback",
    "rollback_step_failed", "rollback_in_doubt", "rollback_deadline", "rollback_denied",
    "rollback_crash", "rollback_cancelled", "rollback_conflict", "rollback_requested",
    "approval_given", "asked_RetryAsked", "asked_ResolutionAnswered", "asked_RollbackCalled",
    "left_to_a_person_approval", "left_to_a_person_halted", "left_to_a_person_commit",
    "left_to_a_person_in_doubt", "left_to_a_person_outstanding",
    # resources, groups and clocks
    "locks_granted", "locks_awaited", "rollback_deadlock",
    "raised_LockTimeout", "scope_opened", "scope_released",
    "fault_crash", "fault_pause", "fault_skew", "fault_jump", "fault_call_very_late",
}  # fmt: skip
"""What must have happened in the fixed seeds; else it is the simulator that is broken."""

WITH_A_DEADLOCK = (525, 1063, 1196, 1292, 1614)
# mypy: disable-error-code="arg-type, var-annotated"


@pytest.mark.parametrize("first", range(0, FIXED, CHUNK))
def test_the_fixed_seeds_are_sound(first):
    for seed in range(first, first + CHUNK):
        simulate(seed).raise_for_violations()


@pytest.mark.parametrize("first", range(FIRST_FRESH, FIRST_FRESH + FRESH, CHUNK))
def test_fresh_seeds_are_sound(first):
    print(f"AUMAI_SIMULATION_SEED={FIRST_FRESH}")
    for seed in range(first, first + CHUNK):
        simulate(seed).raise_for_violations()


def test_every_rare_state_is_reached():
    counts = Counter()
    # Why the last: one that has to give way to another is rarer than that.
    for seed in (*range(FIXED), *WITH_A_DEADLOCK):
        counts += simulate(seed).counts
        if not RARE - counts.keys():
            return
    assert RARE - counts.keys() == set()


def test_long_and_empty_transactions_are_among_them():
    lines = []
    for seed in range(60):
        simulate(seed, on_line=lines.append)
    sizes = {int(line.split()[-1]) for line in lines if " begins " in line}
    assert 0 in sizes
    assert max(sizes) >= 20


def test_one_seed_is_one_history():
    one, other = simulate(11), simulate(11)
    assert (one.digest, one.fired, one.counts) == (other.digest, other.fired, other.counts)
    assert simulate(12).digest != one.digest


def test_a_history_does_not_depend_on_what_ran_before_nor_on_the_trace():
    alone = simulate(14)
    for seed in range(3):
        simulate(seed)
    lines = []
    assert simulate(14, on_line=lines.append).digest == alone.digest
    assert len(lines) > 100


PROGRAM = (
    "from aumai_transactions.testing.simulator import simulate\n"
    "print([simulate(seed).digest for seed in range(20, 26)])\n"
)


def digests(python, hash_seed, source):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": source}
    command = [python, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def source(root):
    return str(root / "src")


@pytest.fixture
def root(request):
    return request.config.rootpath


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_a_history_does_not_depend_on_the_hash_seed(hash_seed, source):
    here = f"{[simulate(seed).digest for seed in range(20, 26)]}\n"
    assert digests(sys.executable, hash_seed, source) == here


@pytest.mark.parametrize("name", PYTHONS)
def test_a_history_is_the_same_on_every_python(name, source):
    python = shutil.which(name)
    if python is None:
        pytest.skip(f"there is no {name} here")
    needs = subprocess.run(
        [python, "-c", "import pydantic, click"], check=False, capture_output=True
    )
    if needs.returncode:
        pytest.skip(f"{name} has no pydantic and click here")
    here = f"{[simulate(seed).digest for seed in range(20, 26)]}\n"
    assert digests(python, "7", source) == here


def test_fewer_transactions_leave_the_others_as_they_are():
    lines = []
    run(Case(5, only_one := 20, numbers=(3,)), on_line=lines.append)
    begun = [line for line in lines if " begins " in line]
    all_lines = []
    run(Case(5, only_one), on_line=all_lines.append)
    theirs = [line for line in all_lines if " begins " in line]
    assert len(begun) == 1
    assert begun[0].split()[3:] in [line.split()[3:] for line in theirs]


def test_a_class_of_faults_that_is_left_out_never_happens():
    whole = simulate(4)
    name = whole.fired[0].partition("@")[0]
    fewer = run(Case(4, without=(name,)))
    assert not any(fault.startswith(f"{name}@") for fault in fewer.fired)
    assert fewer.fired


def test_a_run_without_faults_is_a_run_without_faults():
    assert run(Case(4, faults=())).fired == []


def test_the_command_tells_how_many_were_sound(capsys):
    assert main(["--seed", "1", "--seeds", "2", "--transactions", "5", "--counts"]) == 0
    said = capsys.readouterr().out
    assert "2 seeds, 10 transactions" in said
    assert "committed" in said


@pytest.mark.parametrize(
    "given,problem",
    [
        (["--seed", "x"], "invalid int"),
        (["--seed", "1", "--seeds", "0"], "no whole number from 1"),
        (["--seed", "1", "--only", "a"], "numbers with commas"),
        (["--seed", "1", "--without", "rain"], "no class 'rain'"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(given, problem, capsys):
    with pytest.raises(SystemExit) as refused:
        main(given)
    assert refused.value.code == 2
    assert problem in capsys.readouterr().err


def test_a_failure_tells_how_to_see_it_again():
    report = simulate(1)._replace(violations=["I2: something"])
    with pytest.raises(SimulationFailed, match=r"--seed 1 --transactions 20 --trace"):
        report.raise_for_violations()
