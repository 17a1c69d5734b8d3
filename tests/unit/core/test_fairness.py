"""Whose turn it is among those who wait."""

from hypothesis import given
from hypothesis import strategies as st

from aumai_transactions.core.fairness import Candidate, in_turns

TENANTS = st.sampled_from(["", "a", "b", "c", "z"])
CANDIDATES = st.lists(TENANTS, max_size=30).map(
    lambda tenants: [
        Candidate(position, f"t{position}", tenant) for position, tenant in enumerate(tenants)
    ]
)


def waiting(**counts):
    """So many of each tenant, whose first ones have all come before the others' first ones."""
    names = [tenant for tenant, count in counts.items() for _ in range(count)]
    return [Candidate(position, f"{name}{position}", name) for position, name in enumerate(names)]


def tenants(found):
    return "".join(candidate.tenant for candidate in found)


def test_tenants_have_one_turn_after_the_other_until_one_has_no_more():
    assert tenants(in_turns(waiting(a=3, b=1, c=2), 9, "")) == "abcaca"


def test_the_first_turn_goes_to_the_one_behind_the_one_who_had_it_last():
    everybody = waiting(a=2, b=2, c=2)
    assert tenants(in_turns(everybody, 3, "a")) == "bca"
    assert tenants(in_turns(everybody, 3, "c")) == "abc"
    assert tenants(in_turns(everybody, 2, "bb")) == "ca"


def test_no_more_are_returned_than_asked_for():
    assert in_turns(waiting(a=2), 0, "") == []
    assert in_turns(waiting(a=2), -1, "") == []


@given(CANDIDATES, st.integers(0, 40), TENANTS)
def test_everybody_is_there_once_and_each_tenant_in_order_of_arrival(candidates, limit, after):
    found = in_turns([*candidates, *candidates], limit, after)
    assert len(found) == min(limit, len(candidates))
    assert len(set(found)) == len(found)
    for tenant in {candidate.tenant for candidate in found}:
        mine = [candidate for candidate in candidates if candidate.tenant == tenant]
        taken = [candidate for candidate in found if candidate.tenant == tenant]
        assert taken == mine[: len(taken)]


@given(CANDIDATES, st.integers(1, 40), TENANTS)
def test_no_tenant_is_more_than_one_turn_ahead_of_one_who_still_waits(candidates, limit, after):
    found = tenants(in_turns(candidates, limit, after))
    for tenant in {candidate.tenant for candidate in candidates}:
        if found.count(tenant) < sum(candidate.tenant == tenant for candidate in candidates):
            most = max((found.count(other) for other in set(found)), default=0)
            assert most <= found.count(tenant) + 1


@given(CANDIDATES, st.integers(1, 6))
def test_nobody_starves_where_only_the_first_is_taken_each_time(candidates, limit):
    """Whoever keeps coming back, every tenant is served within as many calls as there are."""
    everybody = {candidate.tenant for candidate in candidates}
    last, served = "", set()
    for _ in everybody:
        found = in_turns(candidates, limit, last)
        served.add(found[0].tenant)
        last = found[0].tenant
    assert served == everybody
