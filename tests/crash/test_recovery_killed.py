"""Whoever recovers is killed, again and again, until somebody is left alone; then all is whole.

Half of the kills hit a chosen point between an intent, an effect and a result, the other half a
random one.
"""

import itertools
from collections import Counter

import pytest
from tests.crash.test_kill import CHOSEN_IN_RECOVERY
from tests.reliability.share import times

from aumai_transactions import TransactionManager
from aumai_transactions.core.entries import Claimed
from aumai_transactions.core.journal import entries

pytestmark = pytest.mark.crash

KILLS = times(400)
FEW_KILLS = 14
IN_FLIGHT = 12
RANDOM_POINTS_MAX = 60


@pytest.fixture(params=["sqlite", "postgres"])
def scene(request, scenes):
    if request.param == "sqlite":
        return scenes(seed=1)
    return request.getfixturevalue("postgres_scene")


def killed_in_the_middle(scene, **orders):
    """Kill a process all of whose transactions stand between the intent and effect of s2."""
    victim = scene.start("drive", in_flight=IN_FLIGHT, hold_at="before:action:s2", **orders)
    scene.driver_of(victim)
    for _ in range(IN_FLIGHT):
        victim.wait_for("held")
    victim.kill()
    return scene.look([victim], is_chosen=True)


def kill_a_recoverer(scene, **orders):
    """Kill a recoverer where it is told to be; None where it was done before it came there."""
    victim = scene.start("recover", **orders)
    scene.driver_of(victim)
    while (line := victim.next_line()) is not None:
        if line == "now" or line.startswith("there "):
            victim.kill()
            return scene.look([victim], is_chosen="stop_at" in orders, nobody_lives=False)
    victim.finish()
    return None


def kill_recoverers(scene, kills):
    """Kill recoverers so often, one after the other, each of which goes on where one has died."""
    points = itertools.cycle(CHOSEN_IN_RECOVERY)
    deaths: Counter[str] = Counter()
    found, left = [], False
    while sum(deaths.values()) < kills:
        if not left:
            # Why so many: it is the test that kills, and no transaction is to blame for it.
            found.append(killed_in_the_middle(scene, crashes_max=100_000))
            left = True
        is_chosen = sum(deaths.values()) % 2 == 1
        moment = scene.random.randint(1, RANDOM_POINTS_MAX)
        if is_chosen:
            hit = kill_a_recoverer(scene, stop_at=next(points))
        else:
            at_once = 1 + moment % 4
            hit = kill_a_recoverer(scene, now_at=moment, pause_seconds=0.001, at_once=at_once)
        if hit is None and not is_chosen:
            left = False  # It has finished everything; whoever looks for a chosen point may not.
        elif hit is None:
            left = bool(scene.unfinished())
        else:
            found.append(hit)
            deaths["chosen" if is_chosen else "random"] += 1
    scene.recover()
    for each in found:
        scene.recovered(each)
    journals = scene.judge()
    claims = [
        sum(isinstance(entry, Claimed) for _, entry in entries(journal))
        for journal in journals.values()
    ]
    print(f"{dict(deaths)}, {len(journals)} transactions, {max(claims)} drivers of one at most")
    assert min(deaths.values()) >= kills // 3
    return max(claims)


def test_recoverers_that_are_killed_again_and_again_leave_everything_to_end_whole(scene):
    assert kill_recoverers(scene, FEW_KILLS) > 3


@pytest.mark.deep
def test_recoverers_are_killed_hundreds_of_times(scene, figures):
    assert kill_recoverers(scene, KILLS) > 3
    ended = len(scene.journals())
    figures("recovery kills", kills=KILLS, transactions=ended, lost_doubled_or_half=0)


def test_an_undo_in_which_every_recoverer_dies_is_left_to_a_person_and_the_rest_is_finished(scene):
    killed_in_the_middle(scene, crashes_max=3)
    standing = []
    for _ in range(3):
        victim = scene.start("recover", stop_at="before:compensation:s1")
        scene.driver_of(victim)
        standing.append(victim.next_line().removeprefix("there "))
        victim.kill()
    # Recovery goes from the oldest on, so each of them died of the same one.
    [name] = set(standing)

    [report] = scene.recover()

    assert report.pop(name) == "waiting"
    assert set(report.values()) == {"finished"}
    assert list(scene.unfinished()) == [name]
    with TransactionManager(store=scene.url) as manager:
        waiting = manager.get_result(name).waiting
        assert waiting is not None
        assert (waiting.reason, waiting.step_ids) == ("poisoned", ["s1"])
        assert "3 processes in a row" in waiting.detail
        manager.retry(name, "s1", note="the cause is mended", wait_max_seconds=0)
    assert scene.recover() == [{name: "finished"}]
    scene.judge()
