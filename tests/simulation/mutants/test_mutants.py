"""The simulator has teeth: each planted bug is found, or the build fails.

The normal suite begins with the seed at which a mutant is known to be found; where the simulator
has changed since, it goes on with a few more. With `-m deep`, each mutant is looked for among 2,000
seeds that nobody has chosen: the rarest is found once in some 1,500. A mutant that survives is a
hole in what the simulator does, or in what it watches; it is mended there, and the mutant stays.
`pytest -s` prints a line for each, `python -m tests.simulation.mutants` the whole table.
"""

import pytest
from tests.reliability.share import some
from tests.simulation.mutants.every_mutant import EVERY
from tests.simulation.mutants.hunting import SEEDS_MAX, hunt, table
from tests.simulation.mutants.planting import Planting, planted

from aumai_transactions.testing.simulator import simulate

KNOWN = [one for one in EVERY if one.seed is not None]
PINNED = sorted({one.seed for one in KNOWN if one.seed is not None})
FRESH = 20_001
FEW = 100


@pytest.mark.parametrize("one", KNOWN, ids=lambda one: one.name)
def test_a_planted_bug_is_found_at_the_seed_that_is_known_to_show_it(one):
    found = hunt(one, [one.seed, *range(1, FEW)])

    print("\n".join(table([(one, found)])[1:]))
    assert found is not None, (
        f"{one.name} survives: {one.sentence} Where the simulator draws otherwise than before, "
        f"find its new seed with: python -m tests.simulation.mutants --from 1 {one.name}"
    )


@pytest.mark.parametrize("seed", PINNED)
def test_nothing_is_found_at_that_seed_in_the_product_as_it_is(seed):
    simulate(seed).raise_for_violations()


def test_a_planted_bug_is_taken_back_wholly():
    before = simulate(PINNED[0]).digest
    for one in EVERY:
        with planted(one):
            pass

    assert simulate(PINNED[0]).digest == before


def test_what_is_planted_where_nothing_is_says_so():
    with pytest.raises(AssertionError, match="is nowhere"):
        Planting().everywhere(object(), None)


def test_each_mutant_says_by_which_rules_it_may_be_found():
    names = [one.name for one in EVERY]

    assert len(names) == len(set(names))
    assert len(KNOWN) >= 90
    assert not [one.name for one in EVERY if not one.rules or not one.sentence]


@pytest.mark.deep
@pytest.mark.parametrize("one", list(some(EVERY)), ids=lambda one: one.name)
def test_a_planted_bug_is_found_among_seeds_that_nobody_has_chosen(one, figures):
    found = hunt(one, range(FRESH, FRESH + SEEDS_MAX))

    print("\n".join(table([(one, found)])[1:]))
    assert found is not None, f"{one.name} survives {SEEDS_MAX} seeds: {one.sentence}"
    figures("mutants", mutants=1, seeds=found.tries, survived=0)
