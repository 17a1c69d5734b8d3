"""A million simulated transactions, or a share of them: no history of any seed breaks a rule.

`AUMAI_SIMULATION_SEED` says which seed comes first.
"""

import pytest
from tests.reliability.share import some
from tests.simulation.test_simulator import FIRST_FRESH

from aumai_transactions.testing.simulator import simulate
from aumai_transactions.testing.simulator.running import TRANSACTIONS

SEEDS = 50_000
CHUNK = 1_000


@pytest.mark.deep
@pytest.mark.parametrize("first", range(FIRST_FRESH, FIRST_FRESH + SEEDS, CHUNK))
def test_no_seed_of_a_million_transactions_breaks_a_rule(first, figures):
    seeds = list(some(range(first, first + CHUNK)))
    events = 0
    for seed in seeds:
        report = simulate(seed)
        report.raise_for_violations()
        events += report.happened
    transactions = len(seeds) * TRANSACTIONS
    figures("simulation", seeds=len(seeds), transactions=transactions, events=events, violations=0)
