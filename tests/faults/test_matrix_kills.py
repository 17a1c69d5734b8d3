"""The same matrix with SIGKILL at every boundary of the journal, and recovery by a new process.

`law.py` also says where the boundaries are: a victim that passes others, or in another order,
fails the test.
"""

import shutil
import signal
from itertools import islice
from pathlib import Path

import pytest
from tests.faults.cells import CELLS
from tests.faults.law import Law
from tests.faults.network import Network
from tests.faults.participant import Hotel
from tests.faults.scene import seen_of

from aumai_transactions import TransactionManager
from aumai_transactions.testing.kill_nursery import Nursery

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "import sys; sys.path.insert(0, {!r}); from tests.faults.victim import main; main(sys.argv[1])"
)
# So many at once; each has a participant of its own, and all of a cell share a store.
AT_ONCE = 6
NOWHERE = 0
ALL, NONE = slice(None), slice(0)


@pytest.fixture(scope="session")
def nursery():
    with Nursery(["-c", PROGRAM.format(str(ROOT))]) as started:
        yield started


def shares(cell, *, is_async):
    """Return which of the kills of a cell are this driver's.

    Where the law for both drivers is the same, points and all, they share them: each takes every
    other one, or, where calls time out, the one that cannot be late on a busy machine takes all.
    """
    laws = [law_of(cell, is_async=is_async) for is_async in (False, True)]
    if laws[0].seen() != laws[1].seen() or laws[0].points != laws[1].points:
        return ALL
    if cell.fault.times_out:
        return ALL if is_async else NONE
    return slice(is_async, None, 2)


def law_of(cell, *, is_async, kill_at=None):
    return Law(cell, leaves_behind=not is_async, kill_at=kill_at, threads_answer=False)


class KilledCell:
    """One cell, carried out once for each of its points, by processes that die there."""

    def __init__(self, cell, folder, nursery, *, is_async):
        self.cell, self.folder, self.nursery, self.is_async = cell, folder, nursery, is_async
        self.hotels = {}
        self.names = {}
        whole = self.law(None)
        whole.seen()
        self.points = whole.points
        self.kills = whole.distinct_points()
        self.kills = self.kills[shares(cell, is_async=is_async)]

    def law(self, kill_at):
        return law_of(self.cell, is_async=self.is_async, kill_at=kill_at)

    def orders(self, role, **more):
        common = {"role": role, "cell": self.cell.name, "folder": str(self.folder)}
        return {**common, "is_async": self.is_async, **more}

    def kill_all(self):
        """Kill one at each point; the last one, at none, shows that there are no more points."""
        template = Hotel(self.folder / "hotel.db", self.cell.kind)
        template.create()
        numbers = iter([*self.kills, NOWHERE])
        while batch := list(islice(numbers, AT_ONCE)):
            victims = {}
            for number in batch:
                self.hotels[number] = Hotel(self.folder / f"hotel-{number}.db", self.cell.kind)
                shutil.copyfile(template.path, self.hotels[number].path)
                hotel = str(self.hotels[number].path)
                orders = self.orders("drive", kill_at=number, hotel=hotel)
                victims[number] = self.nursery.start(**orders)
            for number, victim in victims.items():
                self.reaped(number, victim)

    def reaped(self, number, victim):
        lines = []
        while (line := victim.next_line()) is not None:
            lines.append(line)
        self.names[number] = lines[0].removeprefix("tx ")
        if number == NOWHERE:
            assert lines[1:] == [f"passed {point}" for point in self.points]
            assert victim.reap() == 0
        else:
            assert lines[1:] == [f"at {self.points[number - 1]}"]
            assert victim.reap() == -signal.SIGKILL

    def recover(self):
        for number in self.kills:
            if self.cell.fault.arrives == "before_next":
                Network(self.cell, self.hotels[number]).deliver()
        # Where a victim dies before its first append, there is nothing to recover.
        begun = [name for number, name in self.names.items() if number != 1]
        hotels = {self.names[number]: str(hotel.path) for number, hotel in self.hotels.items()}
        victim = self.nursery.start(**self.orders("recover", begun=begun, hotels=hotels))
        assert victim.finish() == [f"recovered {name}" for name in begun]

    def seen(self):
        """What holds at the end of the story, by point."""
        found = {}
        with TransactionManager(store=str(self.folder / "store.db")) as manager:
            for number, name in self.names.items():
                network = Network(self.cell, self.hotels[number])
                if self.cell.fault.again_later:
                    network.deliver_again()
                network.deliver()
                found[self.title(number)] = seen_of(manager, name, self.hotels[number])
            assert manager.verify().problems == {}
        return found

    def expected(self):
        return {self.title(number): self.law(number).seen() for number in self.names}

    def title(self, number):
        return "nowhere" if number == NOWHERE else f"{number}: {self.points[number - 1]}"


def cases():
    """Each cell with each driver; but see `shares`."""
    for name, cell in CELLS.items():
        for is_async in (False, True):
            if shares(cell, is_async=is_async) != NONE:
                yield pytest.param(name, is_async, id=f"{name}-{'async' if is_async else 'sync'}")


@pytest.mark.parametrize("name,is_async", list(cases()))
def test_the_world_is_as_the_law_says_wherever_the_process_is_killed(
    name, is_async, nursery, memory_folder
):
    cell = KilledCell(CELLS[name], memory_folder, nursery, is_async=is_async)
    cell.kill_all()
    cell.recover()
    assert cell.seen() == cell.expected()
