"""kill -9 at any moment: nothing lost, nothing twice, nothing left standing.

What the windows are, and why there is none between a result and the next intent:
`aumai_transactions.testing.kill_windows`. Kills at seeded random moments show that nothing was
forgotten; kills at chosen points see to it that every window is hit in every run.
"""

import os

import pytest

pytestmark = pytest.mark.crash

IN_FLIGHT = 200
FEW_IN_FLIGHT = 12
RANDOM_KILLS = {"tasks": 17, "threads": 17, "processes": 16}
# The windows are those of the drivers; what a store of its own kind adds is found by a few.
RANDOM_KILLS_ON_POSTGRES = {"tasks": 2, "threads": 2, "processes": 4}
TORTURE_KILLS = int(os.environ.get("AUMAI_TORTURE_KILLS", "1000"))
EPISODE_KILLS = 25
# A point is passed before and after each effect, before and after each entry is durable.
POINTS_MAX = 2_000
RECOVERY_POINTS_MAX = 400

# Where a driver is made to stand still and is killed, and which window that is.
CHOSEN = {
    "durable:step_started:s2": "intent_to_effect",
    # The append that carried the result of s1 and the intent of s2 has just become durable.
    "durable:step_succeeded:s1": "intent_to_effect",
    "before:action:s1": "intent_to_effect",
    "after:action:s2": "effect_to_result",
    # The handler of s1 has returned; that append has not begun.
    "append:StepSucceeded:s1": "result_to_next_intent",
    "append:StepFailed:s3": "result_to_undo",
    "append:TransactionCommitted:None": "result_to_outcome",
    # The outcome is durable, and no caller was told.
    "durable:transaction_committed:None": None,
    "before:compensation:s2": "undo_intent_to_effect",
    "after:compensation:s2": "undo_effect_to_result",
    "append:CompensationSucceeded:s2": "undo_result_to_next",
    "append:TransactionRolledBack:None": "undo_result_to_next",
}
CHOSEN_IN_RECOVERY = {
    "durable:step_started:s2": "intent_to_effect",
    "after:action:s2": "effect_to_result",
    "append:StepSucceeded:s2": "result_to_next_intent",
    "append:TransactionCommitted:None": "result_to_outcome",
    "before:compensation:s1": "undo_intent_to_effect",
    "after:compensation:s1": "undo_effect_to_result",
    "append:TransactionRolledBack:None": "undo_result_to_next",
}


def drivers_of(shape, number):
    """What carries out 200 transactions, in the three shapes; a label names each process."""
    if shape != "processes":
        return [{"in_flight": IN_FLIGHT, "is_async": shape == "tasks", "label": f"{number}"}]
    count = 4
    return [
        {"in_flight": IN_FLIGHT // count, "is_async": bool(n % 2), "label": f"{number}.{n}"}
        for n in range(count)
    ]


def kill_at_random(scene, shape, number):
    """Kill what drives 200 transactions, at a random moment, and recover."""
    orders = drivers_of(shape, number)
    moment = scene.random.randint(1, POINTS_MAX // len(orders))
    orders[0]["now_at"] = moment
    started = [scene.start("drive", **order) for order in orders]
    for victim in started:
        scene.driver_of(victim)
        victim.wait_for("in flight")
    started[0].wait_for("now")
    living = started[1:] if number % 2 else []
    killed = [victim for victim in started if victim not in living]
    for victim in killed:
        victim.kill()
    found = scene.look(killed, nobody_lives=not living)
    scene.survivors |= {order["label"] for order in orders[1:] if living}
    recover_somehow(scene, number, living)
    for victim in living:
        victim.finish()
    scene.recovered(found)


def recover_somehow(scene, number, living):
    """Recover with one process or two at once, after none, one or two that are killed at it.

    Who lives begins new transactions until then, and only finishes its own from then on.
    """
    for _ in range(number % 3):
        moment = scene.random.randint(1, RECOVERY_POINTS_MAX)
        victim = scene.start("recover", now_at=moment, pause_seconds=0.001)
        scene.driver_of(victim)
        # Why not always: it may have had less to do than that.
        if victim.says("now"):
            victim.kill()
            scene.look([victim], nobody_lives=False)
        else:
            victim.finish()
    for victim in living:
        victim.release()
    scene.recover(
        1 + number // 2 % 2, is_async=number % 4 == 3, at_once=1 if number % 8 == 0 else 8
    )


def kill_all_in_the_middle(scene):
    """Kill a process all of whose transactions stand between the intent and effect of s2.

    So recovery runs s2 and s3 of some, and undoes s2 and s1 of others.
    """
    victim = scene.start("drive", in_flight=FEW_IN_FLIGHT, hold_at="before:action:s2")
    scene.driver_of(victim)
    for _ in range(FEW_IN_FLIGHT):
        victim.wait_for("held")
    victim.kill()
    found = scene.look([victim], is_chosen=True)
    assert found.windows == {"intent_to_effect": FEW_IN_FLIGHT}
    return found


def kill_at_point(scene, role, point, window):
    """Kill a process that stands still at a point; check that this is the window we name."""
    in_flight = FEW_IN_FLIGHT if role == "drive" else 0
    victim = scene.start(role, in_flight=in_flight, stop_at=point)
    scene.driver_of(victim)
    while not (line := victim.next_line()).startswith("there "):
        assert line == "in flight"
    name = line.removeprefix("there ")
    victim.kill()
    found = scene.look([victim], is_chosen=True)
    calls = {call.transaction_id: call for call in found.calls}
    if window is None:
        assert name not in found.journals
    else:
        assert scene.window_of(calls[name]) == window
        assert calls[name].is_recovery == (role == "recover")
    return found


def kill_once_at(scene, role, point, window):
    """Kill at a chosen point, in an own drive or in the recovery of one, and recover."""
    if role == "drive":
        found = kill_at_point(scene, "drive", point, window)
    else:
        found = kill_all_in_the_middle(scene)
        kill_at_point(scene, "recover", point, window)
    scene.recover()
    scene.recovered(found)


def hit_what_was_missed(scene):
    """See to it that every window has been hit, whatever the random moments were."""
    for point, window in CHOSEN.items():
        if window in scene.tally.missed():
            kill_once_at(scene, "drive", point, window)
    if scene.tally.missed():
        kill_once_at(scene, "recover", "before:compensation:s1", "undo_intent_to_effect")


@pytest.mark.parametrize("shape", list(RANDOM_KILLS))
def test_whatever_moment_a_kill_hits_every_transaction_ends_whole(scene, shape):
    for number in range(RANDOM_KILLS[shape]):
        kill_at_random(scene, shape, number)
    hit_what_was_missed(scene)
    print(scene.tally)
    assert scene.tally.missed() == []
    scene.judge()


@pytest.mark.parametrize("role,points", [("drive", CHOSEN), ("recover", CHOSEN_IN_RECOVERY)])
def test_a_kill_at_each_point_is_in_the_window_we_name_and_every_transaction_ends_whole(
    scene, role, points
):
    for point, window in points.items():
        kill_once_at(scene, role, point, window)
    scene.judge()


@pytest.mark.parametrize("shape", list(RANDOM_KILLS_ON_POSTGRES))
def test_whatever_moment_a_kill_hits_every_transaction_on_postgres_ends_whole(
    postgres_scene, shape
):
    for number in range(RANDOM_KILLS_ON_POSTGRES[shape]):
        kill_at_random(postgres_scene, shape, number)
    postgres_scene.judge()


@pytest.mark.parametrize("role,points", [("drive", CHOSEN), ("recover", CHOSEN_IN_RECOVERY)])
def test_a_kill_at_each_point_leaves_every_transaction_on_postgres_to_end_whole(
    postgres_scene, role, points
):
    for point, window in points.items():
        kill_once_at(postgres_scene, role, point, window)
    postgres_scene.judge()


@pytest.mark.torture
def test_a_thousand_kills(scenes, capsys, figures):
    tally = None
    transactions = 0
    shapes = list(RANDOM_KILLS)
    for episode in range(-(-TORTURE_KILLS // EPISODE_KILLS)):
        scene = scenes(seed=1_000 + episode)
        for number in range(EPISODE_KILLS):
            kill_at_random(scene, shapes[episode % len(shapes)], number)
        hit_what_was_missed(scene)
        judged = len(scene.judge())
        transactions += judged
        if tally is None:
            tally = scene.tally
        else:
            tally.merge(scene.tally)
        with capsys.disabled():
            print(f"\nepisode {episode}, {shapes[episode % len(shapes)]}: {judged:,} transactions")
            print(tally, flush=True)
        scene.remove()
    assert tally is not None
    assert tally.missed() == []
    figures(
        "kills",
        kills=tally.random["kills"] + tally.chosen["kills"],
        transactions=transactions,
        lost_doubled_or_half=0,
    )
