"""The fault matrix on DBOS with SIGKILL at every boundary, and another machine that goes on.

The same points and the same law as in `tests/faults/test_matrix_kills.py`, for two of its faults.
"""

from pathlib import Path

import pytest
from tests.faults.cells import CELLS
from tests.faults.test_matrix_kills import KilledCell, law_of

from aumai_transactions.testing.kill_nursery import Nursery

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "import sys; sys.path.insert(0, {!r}); from tests.engines.victim import main; main(sys.argv[1])"
)
FAULTS = ("forward_answer_lost", "backward_twice_late")
NAMES = [name for name, cell in CELLS.items() if cell.fault.name in FAULTS]
FIRST = 1
"""Before this point nothing is done; but it has been submitted, so that it is done later."""


@pytest.fixture(scope="module")
def nursery():
    with Nursery(["-c", PROGRAM.format(str(ROOT))]) as started:
        yield started


class KilledHostedCell(KilledCell):
    def __init__(self, cell, folder, nursery, template):
        super().__init__(cell, folder, nursery, is_async=False)
        self.template = template
        self.kills = self.law(None)
        self.kills.seen()
        self.kills = self.kills.distinct_points()

    def law(self, kill_at):
        kill_at = None if kill_at == FIRST else kill_at
        return law_of(self.cell, is_async=False, kill_at=kill_at)

    def orders(self, role, **more):
        if role == "recover":
            more["begun"] = list(self.names.values())
        return super().orders(role, template=str(self.template), **more)

    def recover(self):
        hotels = {self.names[number]: str(hotel.path) for number, hotel in self.hotels.items()}
        victim = self.nursery.start(**self.orders("recover", hotels=hotels))
        assert victim.finish() == [f"recovered {name}" for name in self.names.values()]


@pytest.mark.parametrize("name", NAMES)
def test_the_world_is_as_the_law_says_wherever_dbos_is_killed(
    name, nursery, tmp_path, dbos_template
):
    cell = KilledHostedCell(CELLS[name], tmp_path, nursery, dbos_template)
    cell.kill_all()
    cell.recover()
    assert cell.seen() == cell.expected()
