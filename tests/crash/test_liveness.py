"""Who is dead is known at once, and who lives is left alone."""

import signal

import pytest

from aumai_transactions.core.entries import Claimed
from aumai_transactions.core.journal import entries

pytestmark = pytest.mark.crash


@pytest.fixture(params=["sqlite", "postgres"])
def scene(request, scenes):
    """A lock file tells who lives in the one store, and the process itself in the other."""
    if request.param == "sqlite":
        return scenes(seed=1)
    server = request.getfixturevalue("postgres16")
    return scenes(seed=1, url=server.store(), server=server)


def standing(scene, point, in_flight=1, **orders):
    """A driver that stands still at this point, in the middle of a transaction."""
    victim = scene.start("drive", in_flight=in_flight, stop_at=point, **orders)
    scene.driver_of(victim)
    while not (line := victim.next_line()).startswith("there "):
        assert line == "in flight"
    return victim, line.removeprefix("there ")


def claims(journal):
    return [entry for _, entry in entries(journal) if isinstance(entry, Claimed)]


def test_what_a_killed_process_left_is_recovered_at_once(scene):
    victim, _ = standing(scene, "after:action:s3", in_flight=20)
    victim.kill()
    left = scene.look([victim]).journals
    assert left

    [report] = scene.recover()

    assert report == dict.fromkeys(left, "finished")
    assert scene.unfinished() == {}
    scene.judge()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("point", ["durable:step_started:s2", "after:action:s2"])
def test_recovery_leaves_the_transaction_of_a_living_driver_alone(scene, point, is_async):
    victim, name = standing(scene, point, is_async=is_async)
    before = scene.unfinished()[name]

    assert scene.recover(2) == [{}, {}]
    assert scene.unfinished() == {name: before}

    victim.finish()
    assert len(claims(scene.judge()[name])) == 1
    assert scene.outcomes[name] == "committed"


def test_recovery_leaves_the_undo_of_a_living_driver_alone(scene):
    victim, name = standing(scene, "after:compensation:s2", in_flight=6)

    assert name not in scene.recover()[0]

    victim.finish()
    assert len(claims(scene.judge()[name])) == 1


def test_a_stopped_driver_lives_and_goes_on_where_it_stood(scene):
    victim, name = standing(scene, "after:action:s2")
    victim.send(signal.SIGSTOP)

    assert scene.recover(2) == [{}, {}]

    victim.send(signal.SIGCONT)
    victim.finish()
    assert len(claims(scene.judge()[name])) == 1
    assert scene.outcomes[name] == "committed"


def test_a_stopped_driver_that_is_killed_is_dead_at_once(scene):
    victim, name = standing(scene, "after:action:s2")
    victim.send(signal.SIGSTOP)
    victim.kill()

    assert scene.recover() == [{name: "finished"}]
    assert scene.journals()[name].token == 2


def test_the_dead_are_recovered_while_the_living_go_on(scene):
    living, alive = standing(scene, "after:action:s2", label="living")
    dying, dead = standing(scene, "after:action:s2", label="dying")
    dying.kill()

    assert scene.recover() == [{dead: "finished"}]
    assert list(scene.unfinished()) == [alive]

    living.finish()
    scene.survivors.add("living")
    scene.judge()


@pytest.mark.parametrize("is_async", [False, True])
def test_many_recoverers_at_once_finish_each_transaction_once(scene, is_async):
    victim, _ = standing(scene, "after:action:s2", in_flight=60)
    victim.kill()
    left = set(scene.look([victim]).journals)

    reports = scene.recover(4, is_async=is_async, at_once=3)

    done = [name for report in reports for name, outcome in report.items()]
    assert sorted(done) == sorted(left)
    journals = scene.judge()
    assert {len(claims(journals[name])) for name in left} == {2}


def test_a_recoverer_that_is_killed_is_recovered_at_once_again_and_again(scene):
    victim, _ = standing(scene, "after:compensation:s2", in_flight=6)
    victim.kill()
    names = set()
    for _ in range(3):
        victim = scene.start("recover", stop_at="after:compensation:s2")
        scene.driver_of(victim)
        names.add(victim.next_line().removeprefix("there "))
        victim.kill()
    # Recovery goes from the oldest on, so each of them came to the same one.
    [name] = names

    assert scene.recover()[0][name] == "finished"

    undone = [e for e in scene.effects if e.operation == "compensation" and e.mark == "effect"]
    attempts = [e.attempt for e in undone if (e.transaction_id, e.step_id) == (name, "s2")]
    assert len(attempts) >= 4
    assert attempts == sorted(set(attempts))
    assert len(claims(scene.judge()[name])) == 5
