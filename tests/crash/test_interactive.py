"""kill -9 in the middle of interactive transactions, and at their commit point.

Two agents, real threads and real tasks, share one transaction; whatever moment a kill hits, and
whatever is done then, the world is exactly one of all or nothing.
"""
# mypy: disable-error-code="var-annotated"

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.testing.kill_nursery import Nursery

pytestmark = pytest.mark.crash

VICTIM = Path(__file__).with_name("interactive_victim.py")
THINGS = {f"{agent}.{number}" for agent in ("one", "two") for number in range(20)}
# A point is passed before and after each effect, and after each durable entry.
POINTS = 330
KILLS = 10
WAITS = {"on_crash": "wait", "resume_within_seconds": 3_600}


class Scene:
    """One store, one world, and the processes that work on them."""

    def __init__(self, folder, nursery):
        self.folder = folder
        self.nursery = nursery
        self.folder.mkdir()

    def start(self, role, **orders):
        return self.nursery.start(role=role, folder=str(self.folder), **orders)

    def killed(self, role, **orders):
        """Let a process work until it stands still, and kill it; return its transaction.

        Where it came to its end before that, nothing is killed.
        """
        victim = self.start(role, **orders)
        lines = []
        while (line := victim.next_line()) not in (None, "now") and "ended" not in line:
            lines.append(line)
        if line == "now":
            victim.kill()
        else:
            victim.finish()
        return next((item.split()[1] for item in lines if item.startswith("tx ")), None)

    def finished(self, role, **orders):
        """Let a process work to its end, and return what it said last."""
        lines = self.start(role, **orders).finish()
        return lines[-1] if lines else None

    def manager(self):
        return TransactionManager(store=str(self.folder / "store.db"))

    @property
    def lines(self):
        try:
            text = (self.folder / "world").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    @property
    def standing(self):
        """What stands, and how often: a repeated call with the same key changes nothing."""
        standing = {}
        for action, it, step_id, _key in self.lines:
            if action == "cancel":
                standing.pop(step_id, None)
            elif action != "confirm":
                standing[step_id] = it
        return Counter(standing.values())

    def judge(self, state):
        """Check what must hold whatever happened."""
        keys = {}
        calls = Counter()
        for action, _it, step_id, key in self.lines:
            keys.setdefault((action, step_id), set()).add(key)
            calls[action, step_id] += 1
        assert [name for name, used in keys.items() if len(used) > 1] == []
        once = [name for name, times in calls.items() if times > 1 and name[0] == "book_once"]
        assert once == []
        with self.manager() as manager:
            assert manager.verify().problems == {}
            listed = manager.find()
            assert [item.summary.state.value for item in listed] in ([state], [])
            assert manager.recover() == []


@pytest.fixture(scope="module")
def nursery():
    with Nursery([str(VICTIM)]) as started:
        yield started


@pytest.fixture
def scenes(tmp_path, nursery):
    made = []

    def make():
        made.append(Scene(tmp_path / f"scene-{len(made)}", nursery))
        return made[-1]

    return make


def moments(seed, count=KILLS):
    """Choose moments, one in each part of a run, so that no part is left out."""
    drawn = random.Random(seed)
    width = POINTS // count
    return [part * width + drawn.randint(1, width) for part in range(count)]


# ------------------------------------------------------------------------------------ two agents


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "tasks"])
def test_two_agents_are_killed_at_any_moment_and_resumed_and_everything_stands_once(
    scenes, is_async
):
    for number, moment in enumerate(moments(seed=1 + is_async)):
        scene = scenes()
        name = scene.killed("agents", stop_at=moment, options=WAITS, is_async=is_async)
        if number % 2:
            # Somebody recovers first: it settles what is in doubt, and leaves the rest alone.
            assert scene.finished("recover") in (None, "waiting active", "finished committed")
        if number % 3 == 1:
            scene.killed("agents", resume=name, stop_at=moment // 2 + 1, is_async=is_async)
        with scene.manager() as manager:
            ended = {item.summary.state.value for item in manager.find()} == {"committed"}
        if not ended:
            said = scene.finished("agents", resume=name, is_async=is_async)
            if said == "ended unknown":
                assert scene.lines == []
                continue
            assert said == "ended committed"
        assert (moment, scene.standing) == (moment, Counter(THINGS))
        scene.judge("committed")


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "tasks"])
def test_two_agents_are_killed_at_any_moment_and_recovered_and_nothing_stands(scenes, is_async):
    for number, moment in enumerate(moments(seed=11 + is_async)):
        scene = scenes()
        scene.killed("agents", stop_at=moment, options={}, is_async=is_async)
        if number % 2:
            # Whoever recovers is killed at it as well.
            scene.killed("recover", stop_at=moment // 4 + 1)
        scene.finished("recover")
        with scene.manager() as manager:
            states = [item.summary.state.value for item in manager.find()]
        assert states in ([], ["rolled_back"], ["committed"])
        wanted = Counter(THINGS) if states == ["committed"] else Counter()
        assert (moment, scene.standing) == (moment, wanted)
        scene.judge(states[0] if states else "none")


def test_two_agents_that_nobody_kills_commit_everything(scenes):
    for is_async in (False, True):
        scene = scenes()
        said = scene.finished("agents", options={}, is_async=is_async)
        assert said == "ended committed"
        assert scene.standing == Counter(THINGS)
        scene.judge("committed")


# ------------------------------------------------------------------------------------------ undo


def test_a_crash_right_after_the_effect_of_an_undo_repeats_that_one_with_its_key_and_no_other(
    scenes,
):
    scene = scenes()
    scene.killed("undoes", stop_at="after cancel c")
    assert [line[1] for line in scene.lines if line[0] == "cancel"] == ["e", "d", "c"]
    assert scene.finished("recover") == "finished rolled_back"
    undone = [(it, key) for action, it, _step, key in scene.lines if action == "cancel"]
    assert [it for it, _key in undone] == ["e", "d", "c", "c", "b", "a"]
    assert undone[2] == undone[3]
    assert len({key for _it, key in undone}) == 5
    scene.judge("rolled_back")


@pytest.mark.parametrize("action", ["book_safely", "book_once"])
def test_a_parallel_graph_is_killed_at_any_moment_and_ends_whole(scenes, action):
    drawn = random.Random(5)
    for _ in range(KILLS // 2):
        scene = scenes()
        moment = drawn.randint(1, 26)
        scene.killed("graph", stop_at=moment, options={}, action=action)
        scene.finished("recover")
        with scene.manager() as manager:
            states = [item.summary.state.value for item in manager.find()]
        everything = {"top", "bottom", *(f"middle {number}" for number in range(4))}
        wanted = Counter(everything) if states == ["committed"] else Counter()
        assert (moment, scene.standing) == (moment, wanted)
        if action == "book_safely":
            assert states in ([], ["committed"])
        scene.judge(states[0] if states else "none")


# ---------------------------------------------------------------------------------- commit point

BEFORE = ["after reserve r2", "durable step_succeeded s3"]
# Where nothing stands against it, the decision is one append with the request, or with the pivot.
DECIDED = {None: "durable commit_requested None", "wire": "durable step_succeeded s5"}
BEHIND = [
    "durable commit_decided None",
    "before confirm r1",
    "after confirm r1",
    "before confirm r2",
    "durable confirmation_succeeded s3",
    "before mail m1",
    "after mail m1",
    "after mail m2",
    "durable step_succeeded s4",
]
OVER_THE_PIVOT = ["before wire w", "after wire w"]
ALL_DONE = ["confirm r1", "confirm r2", "mail m1", "mail m2"]


def done_behind(scene):
    """What was done behind the commit point, each key counted once, in order."""
    seen = {}
    for action, it, _step, key in scene.lines:
        if action in ("confirm", "mail"):
            seen.setdefault(key, f"{action} {it}")
    return list(seen.values())


def is_decided(scene, name):
    with scene.manager() as manager:
        return "commit_decided" in [event.kind for event in manager.get_events(name)]


@pytest.mark.parametrize("pivot", [None, "wire"])
def test_behind_the_commit_decision_a_kill_leaves_only_the_way_forward(scenes, pivot):
    behind = [DECIDED[pivot], *BEHIND]
    for point in [*BEFORE, *behind]:
        scene = scenes()
        name = scene.killed("commits", stop_at=point, pivot=pivot, options={})
        decided = is_decided(scene, name)
        assert (point, decided) == (point, point in behind)
        said = scene.finished("recover")
        if decided:
            assert said in ("finished committed", None)
            assert (point, done_behind(scene)) == (point, ALL_DONE)
            scene.judge("committed")
        else:
            assert (said, done_behind(scene)) == ("finished rolled_back", [])
            assert scene.standing == Counter()
            scene.judge("rolled_back")


@pytest.mark.parametrize("point", OVER_THE_PIVOT)
def test_a_pivot_that_may_be_repeated_decides_after_a_kill(scenes, point):
    scene = scenes()
    scene.killed("commits", stop_at=point, pivot="wire", options={})
    assert scene.finished("recover") == "finished committed"
    assert done_behind(scene) == ALL_DONE
    assert len({key for action, _it, _step, key in scene.lines if action == "wire"}) == 1
    scene.judge("committed")


@pytest.mark.parametrize("answer", ["happened", "did_not_happen"])
def test_a_pivot_that_may_not_be_repeated_waits_for_a_person_after_a_kill(scenes, answer):
    scene = scenes()
    name = scene.killed("commits", stop_at="after wire_once w", pivot="wire_once", options={})
    scene.finished("recover")
    with scene.manager() as manager:
        result = manager.get_result(name)
        assert (result.state.value, result.waiting.reason) == ("active", "in_doubt")
        manager.resolve(name, "s5", answer, note="asked the bank", wait_max_seconds=0)
    scene.finished("recover")
    wanted = ALL_DONE if answer == "happened" else []
    assert done_behind(scene) == wanted
    with scene.manager() as manager:
        state = manager.get_result(name).state.value
    assert state == ("committed" if answer == "happened" else "rolled_back")
    scene.judge(state)


def test_a_recovery_behind_the_commit_point_that_is_killed_as_well_is_recovered(scenes):
    for point in ("before confirm r2", "after confirm r2", "after mail m1", "before mail m2"):
        scene = scenes()
        scene.killed("commits", stop_at="after confirm r1", pivot=None, options={})
        scene.killed("recover", stop_at=point)
        assert scene.finished("recover") == "finished committed"
        assert (point, done_behind(scene)) == (point, ALL_DONE)
        scene.judge("committed")


# ------------------------------------------------------------------------------------- approvals


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_a_planned_approval_survives_the_death_of_who_asked(scenes, answer):
    scene = scenes()
    name = scene.killed("pays", planned=True)
    scene.finished("recover")
    with scene.manager() as manager:
        assert manager.get_result(name).waiting.reason == "approval"
        getattr(manager, answer)(name, "s2", by="ann", wait_max_seconds=0)
    said = scene.finished("recover")
    assert said == ("finished committed" if answer == "approve" else "finished rolled_back")
    assert scene.standing == (Counter(["a", "b"]) if answer == "approve" else Counter())


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_an_interactive_approval_survives_the_death_of_its_program(scenes, answer):
    scene = scenes()
    name = scene.killed("pays", planned=False, stop_at="durable approval_requested s2")
    with scene.manager() as manager:
        getattr(manager, answer)(name, "s2", by="ann", wait_max_seconds=0)
    if answer == "approve":
        assert scene.finished("pays", planned=False, resume=name) == "ended committed"
        assert [line[:2] for line in scene.lines] == [["book_once", "a"], ["pay", "b"]]
    else:
        assert scene.finished("recover") == "finished rolled_back"
        assert scene.standing == Counter()
