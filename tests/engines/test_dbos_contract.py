"""DBOS keeps the contract of an engine, on SQLite and on a real PostgreSQL.

The kills are dealt out to several tests, so that none of them takes long on a busy machine.
"""

import pytest

from aumai_transactions.testing.engine_contract import CHECKS, KILLS

pytestmark = pytest.mark.crash

SHARES = 4
PLAIN = [check for check in CHECKS if check not in KILLS]


@pytest.fixture(params=["sqlite_rig", "postgres_rig"])
def rig(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("check", PLAIN, ids=lambda check: check.__name__)
def test_dbos_keeps_the_contract(check, rig):
    check(rig)


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("check", KILLS, ids=lambda check: check.__name__)
def test_wherever_a_process_is_killed_dbos_loses_nothing_and_does_nothing_twice(check, share, rig):
    rig.kills = (share, SHARES)
    check(rig)
