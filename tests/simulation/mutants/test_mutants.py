"""The simulator has teeth: each planted bug is found, or the build fails.

`pytest tests/simulation/mutants -n0 -s -k table` prints at which seed each of them is found;
`pytest tests/simulation/mutants -m deep` looks for each among fresh seeds.
"""

import pytest
from tests.simulation.mutants import (  # noqa: F401 (each enters its mutants)
    back_mutants,
    driver_mutants,
    forward_mutants,
    lock_mutants,
    participant_mutants,
    store_mutants,
)
from tests.simulation.mutants.planting import MUTANTS

_ = pytest, MUTANTS
