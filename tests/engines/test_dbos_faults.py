"""The fault matrix of outcomes, carried out by DBOS: the same law as on our own drivers.

Calls that time out are left to the drivers' own matrix: there the clock moves only when somebody
waits, and here the caller waits beside the engine. What becomes of them is carried out by the same
procedures.
"""

import pytest
from tests.engines.quick import QuickEngine
from tests.faults.cells import CELLS
from tests.faults.law import Law
from tests.faults.scene import carry_out

from aumai_transactions import TransactionManager
from aumai_transactions.engines.dbos import DbosEngine

NAMES = [name for name, cell in CELLS.items() if not cell.fault.times_out]


@pytest.fixture
def make_manager(tmp_path, dbos_template):
    """Make a manager whose transactions DBOS carries out."""
    made = []

    def make(*, clock, **options):
        (tmp_path / "dbos.db").write_bytes(dbos_template.read_bytes())
        engine = QuickEngine(DbosEngine(f"sqlite:///{tmp_path}/dbos.db"), clock)
        store = f"sqlite:///{tmp_path}/store.db"
        made.append(TransactionManager(store=store, engine=engine, clock=clock, **options))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_world_is_as_the_law_says_on_dbos_too(name, make_manager, tmp_path):
    cell = CELLS[name]

    seen = carry_out(cell, tmp_path, make_manager, is_async=False)

    assert seen == Law(cell, leaves_behind=True).seen()
