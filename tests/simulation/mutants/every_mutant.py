"""All mutants, in the order in which they are looked for.

Owns: nothing but the list: each module enters its own when it is imported.
"""

from tests.simulation.mutants import (
    back_mutants,
    driver_mutants,
    forward_mutants,
    lock_mutants,
    participant_mutants,
    store_mutants,
)
from tests.simulation.mutants.planting import MUTANTS

GROUPS = (
    store_mutants,
    driver_mutants,
    forward_mutants,
    back_mutants,
    lock_mutants,
    participant_mutants,
)

EVERY = tuple(MUTANTS)
