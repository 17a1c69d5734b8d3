"""Where the engines of tests keep what they know."""

import subprocess
import sys
from pathlib import Path

import pytest

from aumai_transactions.testing.engine_contract import Rig

ROOT = Path(__file__).parents[2]
MAKE = """
import sys
from aumai_transactions.engines.dbos import DbosEngine
engine = DbosEngine(sys.argv[1])
engine.open(lambda execution, argument: "")
engine.close()
"""


@pytest.fixture(scope="session")
def dbos_template(tmp_path_factory):
    """A system database of DBOS on SQLite that nothing has used yet."""
    path = tmp_path_factory.mktemp("dbos") / "template.db"
    subprocess.run([sys.executable, "-c", MAKE, f"sqlite:///{path}"], check=True, timeout=120)
    return path


@pytest.fixture
def sqlite_rig(tmp_path, monkeypatch, dbos_template):
    monkeypatch.setenv("AUMAI_DBOS_TEMPLATE", str(dbos_template))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stores = iter(range(10_000))
    engine = "tests.engines.made:dbos_sqlite"
    with Rig(engine, tmp_path, lambda: f"sqlite:///{tmp_path}/store-{next(stores)}.db") as rig:
        yield rig


@pytest.fixture
def postgres_rig(tmp_path, monkeypatch, durable_postgres):
    # Each test has a schema for DBOS, and each of its processes a name of its own to it.
    url = f"postgresql://postgres@/postgres?host={durable_postgres.folder}"
    monkeypatch.setenv("AUMAI_DBOS_URL", url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    engine = "tests.engines.made:dbos_postgres"
    with Rig(engine, tmp_path, durable_postgres.store) as rig:
        yield rig
