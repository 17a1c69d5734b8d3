"""Random programs, random deaths, one plain model of the world: the invariants hold.

`AUMAI_EXAMPLES` says how many programs are lived, instead of the few that every run can afford.
`make nightly` lives 10,000.
"""

import os
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

EXAMPLES = int(os.environ.get("AUMAI_EXAMPLES", "0"))
TORTURE = EXAMPLES or 10_000
ON_DISK = 10
"""On SQLite one of so many is lived."""
QUIET = settings(suppress_health_check=list(HealthCheck), deadline=None)
IN_CI = settings(QUIET, max_examples=EXAMPLES or 80, stateful_step_count=15)
ON_DISK_IN_CI = settings(QUIET, max_examples=EXAMPLES // ON_DISK or 8, stateful_step_count=10)
UNBOUNDED = settings(
    QUIET, max_examples=TORTURE, stateful_step_count=30, derandomize=False, print_blob=True
)
UNBOUNDED_ON_DISK = settings(
    UNBOUNDED, max_examples=max(TORTURE // ON_DISK, 1), stateful_step_count=20
)


@pytest.fixture
def new_file(tmp_path):
    numbers = count(1)
    return lambda: tmp_path / f"{next(numbers)}.db"


def test_the_world_is_what_the_model_says_after_every_step_in_memory(programs_of):
    run_state_machine_as_test(programs_of(), settings=IN_CI)


def test_the_world_is_what_the_model_says_after_every_step_on_sqlite(programs_of, new_file):
    run_state_machine_as_test(programs_of(new_file), settings=ON_DISK_IN_CI)


@pytest.mark.torture
def test_the_world_is_what_the_model_says_in_ten_thousand_programs(programs_of):
    run_state_machine_as_test(programs_of(), settings=UNBOUNDED)


@pytest.mark.torture
def test_the_world_is_what_the_model_says_in_a_thousand_programs_on_sqlite(programs_of, new_file):
    run_state_machine_as_test(programs_of(new_file), settings=UNBOUNDED_ON_DISK)
