"""DBOS keeps the contract of an engine, on SQLite and on a real PostgreSQL."""

import pytest

from aumai_transactions.testing.engine_contract import CHECKS

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_dbos_on_sqlite_keeps_the_contract(check, sqlite_rig):
    check(sqlite_rig)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_dbos_on_postgresql_keeps_the_contract(check, postgres_rig):
    check(postgres_rig)
