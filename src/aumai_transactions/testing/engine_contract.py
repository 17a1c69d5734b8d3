"""What every engine must do, as checks that any test runner can run.

Owns: the contract of `aumai_transactions.engine`, in executable form, and what must hold of
transactions that an engine carries out, wherever its process is killed.
Rules:
  1. Each check is a function that takes a `Rig` and raises `ContractBroken`. It needs no test
     runner. Processes are real, and are killed with SIGKILL.
  2. Nothing here sleeps, and no check depends on the machine's speed.

Use it so, with a function that makes your engine, on what stands in a folder:

    def my_engine(folder: Path) -> Engine: ...

    stores = (f"sqlite:///{tmp_path}/store-{n}.db" for n in itertools.count())
    with Rig("my_package.engines:my_engine", tmp_path, stores.__next__) as rig:
        for check in CHECKS:
            check(rig)

or all of them: `check_engine`.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from aumai_transactions.testing.engine_programs import PLANS, Effects
from aumai_transactions.testing.journals import ContractBroken
from aumai_transactions.testing.kill_nursery import Nursery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from aumai_transactions.testing.kill_nursery import Victim

__all__ = ["CHECKS", "KILLS", "ContractBroken", "Rig", "check_engine"]

SECONDS_MAX = 60.0
AT_ONCE = 6
PROGRAM = ("-m", "aumai_transactions.testing.engine_programs")


@dataclass
class Rig:
    """Say what is checked, and where.

    Args:
        engine: `module:function`; the function takes a folder, and returns an engine that keeps
            what it knows under the name of that folder, so that a later process finds it.
        folder: An empty folder.
        store: Returns the URL of a new store each time.
        kills: Which of the kills are made: the first, and how many further the next one is.
    """

    engine: str
    folder: Path
    store: Callable[[], str]
    kills: tuple[int, int] = (0, 1)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _nursery: Nursery | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every process."""
        if self._nursery is not None:
            self._nursery.close()

    @property
    def nursery(self) -> Nursery:
        """What starts processes; itself one that has imported the engine."""
        if self._nursery is None:
            self._nursery = Nursery([*PROGRAM, self.engine])
        return self._nursery

    def place(self) -> Place:
        """Return a new place for one engine."""
        folder = self.folder / f"engine-{next(self._numbers)}"
        folder.mkdir()
        return Place(self, folder, self.store())


@dataclass
class Place:
    """Hold one engine, its store, and the file of effects."""

    rig: Rig
    folder: Path
    store: str

    @property
    def effects(self) -> list[str]:
        """What was done here."""
        return Effects(self.folder / "effects").all()

    def started(self, **orders: Any) -> Victim:
        """Start a program."""
        given = {
            "engine": self.rig.engine,
            "folder": str(self.folder),
            "store": self.store,
            "effects": str(self.folder / "effects"),
            "key": f"{self.rig.folder.name}.{self.folder.name}",
        }
        return self.rig.nursery.start(**given, **orders)

    def run(self, *, dies: bool = False, **orders: Any) -> list[str]:
        """Run a program to its end, and return what it said.

        Args:
            dies: True where it must be killed by SIGKILL.
            **orders: What it is told.
        """
        return ended(self.started(**orders), dies=dies)

    def script(self, *body: str, then: list[list[str]], **orders: Any) -> list[str]:
        """Carry a workflow out that consists of these words, and return all effects."""
        self.run(program="script", body=body, then=then, **orders)
        return self.effects


def _is(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise ContractBroken(f"{what}: {found!r}, and not {wanted!r}")


def _gets(number: int, value: object = None) -> str:
    return "gets " + json.dumps({"number": number, "value": value}, sort_keys=True)


def ended(victim: Victim, *, dies: bool = False) -> list[str]:
    """Wait until a program has ended, and return what it said.

    Raises:
        ContractBroken: It ended in another way than it must.
    """
    told = []
    while (line := victim.next_line(SECONDS_MAX)) is not None:
        told.append(line)
    code = victim.reap()
    if code != (-signal.SIGKILL if dies else 0):
        raise ContractBroken(f"a process ended with {code}: {told}")
    return told


ONCE = [["start", "w"], ["until ended"]]


def a_step_that_was_kept_is_not_done_again(rig: Rig) -> None:
    """Kill a process in the third step, and let another one go on."""
    place, words = rig.place(), ("a", "b", "c", "d")
    place.run(dies=True, program="script", body=words, then=ONCE, die_in="c")
    before = place.effects
    _is(before[-3:], ["does b", _gets(1), "does c"], "the first process")
    after = place.script(*words, then=[["until ended"]])[len(before) :]
    wanted = ["body w argument", _gets(0), _gets(1), "does c", _gets(2), "does d", _gets(3)]
    _is(after, wanted, "the second process")


def what_is_kept_comes_back_as_it_was(rig: Rig) -> None:
    """Keep every kind of JSON, and read it in another process."""
    value: dict[str, Any] = {
        "text": "é \n \u2028 \"'",
        "n": [0, -1, 2**53 - 1, 0.1, 1e300],
        "none": None,
        "e": {},
    }
    place = rig.place()
    orders: dict[str, Any] = {"program": "script", "body": ("a", "b"), "value": value}
    place.run(dies=True, then=ONCE, die_in="b", **orders)
    place.run(then=[["until ended"]], **orders)
    _is([one for one in place.effects if one.startswith("gets")].count(_gets(0, value)), 2, "gets")


def a_name_is_taken_once(rig: Rig) -> None:
    """Start a workflow again, while it runs and when it has ended, here and elsewhere."""
    place = rig.place()
    again = [["start", "w"], ["start", "w"], ["until ended"], ["start", "w"], ["enqueue", "w"]]
    place.script("a", then=again)
    place.script("a", then=[["start", "w"], ["enqueue", "v"], ["until ended"]])
    names = Counter(one for one in place.effects if one.startswith("body"))
    _is(names, {"body w argument": 1, "body v argument": 1}, "the bodies that were begun")


def a_signal_ends_a_wait(rig: Rig) -> None:
    """Signal a workflow before it waits; and one that there is not, which is no error."""
    place = rig.place()
    then = [["signal", "none"], ["start", "w"], ["signal", "w"], ["until ended"], ["signal", "w"]]
    _is(place.script("a", "wait", "b", then=then)[3:4], ["woken"], "what ended the wait")


def time_ends_a_wait_of_a_process_that_has_died(rig: Rig) -> None:
    """Kill a process behind a wait; another one does not wait for what is over."""
    place, words = rig.place(), ("wait a little", "a", "wait a little", "b")
    place.run(dies=True, program="script", body=words, then=ONCE, die_in="b")
    after = place.script(*words, then=[["until ended"]])
    _is(after.count("does a"), 1, "the step behind a wait")
    _is(after[-1], _gets(3), "the end")


def a_cancelled_workflow_does_nothing_more(rig: Rig) -> None:
    """Cancel a workflow in a step; what follows is not done, now or later."""
    place = rig.place()
    words = ("a", "hold", "b")
    then = [["start", "w"], ["until ended"], ["status", "w"]]
    victim = place.started(program="script", body=words, then=then)
    victim.wait_for("holds")
    place.run(program="script", body=words, then=[["cancel", "w"], ["cancel", "none"]])
    victim.release()
    ended(victim)
    found = place.effects
    _is(found.count("status w cancelled"), 1, "cancelled")
    _is(("does b" in found, "stopped" in found), (False, True), "what it did behind that")
    found = place.script("a", "hold", "b", then=[["status", "w"]])
    _is(found.count("does b"), 0, "what it did later")


def it_tells_how_a_workflow_stands(rig: Rig) -> None:
    """Ask before, while, and after."""
    place = rig.place()
    then = [["status", "w"], *ONCE]
    place.script("a", then=then)
    _is(place.effects[0], "status w None", "before it was started")
    place.script("a", then=[["status", "w"]])
    _is(place.effects[-1], "status w ended", "when it has ended")


def _wrong(plan: str, place: Place, where: str, told: list[str]) -> str | None:
    """Say what is wrong with how a plan has ended, if anything is."""
    transaction_id = told[-2].removeprefix("tx ")
    state, clean, problems = told[-1].removeprefix("state ").split(" ", 2)
    wrong = _wrong_with(plan, state, _done(place.effects, transaction_id))
    if wrong is None and (clean, problems) != ("True", "{}"):
        wrong = f"clean is {clean}, damage is {problems}"
    return None if wrong is None else f"{where}: {state}: {wrong}; {place.effects}"


def _done(effects: list[str], transaction_id: str) -> dict[str, list[str]]:
    """Return what was done of each step, in order."""
    done: dict[str, list[str]] = {}
    for line in effects:
        name, step_id, what, *_ = line.split(" ")
        if name == transaction_id:
            done.setdefault(step_id, []).append(what)
    return done


def _wrong_with(plan: str, state: str, done: dict[str, list[str]]) -> str | None:
    """Say which promise an outcome breaks (DESIGN I2, I4, I5)."""
    if state not in ("committed", "rolled_back"):
        return "it is not final"
    if plan == "backward" and state == "committed":
        return "it was refused, and has committed"
    for number, kind in enumerate(PLANS[plan], start=1):
        found = done.get(f"s{number}", [])
        actions, undos = found.count("action"), found.count("undo")
        if kind != "safe" and actions > 1:
            return f"s{number} ({kind}) was done {actions} times"
        if state == "committed" and (not actions or undos):
            return f"s{number} ({kind}) was done {actions} times, and undone {undos} times"
        if state == "rolled_back" and actions and found[-1] != "undo":
            return f"s{number} ({kind}) stands: {found}"
    return None


def nothing_is_lost_and_nothing_twice(rig: Rig, plan: str) -> None:
    """Carry a plan out once for each boundary, and kill the process there."""
    told = rig.place().run(program="begin", plan=plan, kill_at=0)
    first, stride = rig.kills
    points = sum(one.startswith("passed ") for one in told)
    broken = []
    for batch in _batches(range(1 + first, 1 + points, stride)):
        places = {number: rig.place() for number in batch}
        victims = {
            number: place.started(program="begin", plan=plan, kill_at=number)
            for number, place in places.items()
        }
        died = {number: ended(victim, dies=True)[-1] for number, victim in victims.items()}
        again = {n: place.started(program="finish", plan=plan) for n, place in places.items()}
        for number, victim in again.items():
            where = f"{plan}, {number}, {died[number]}"
            broken.append(_wrong(plan, places[number], where, ended(victim)))
    found = [one for one in broken if one is not None]
    if found:
        raise ContractBroken("\n".join(found))


def _batches(numbers: range) -> Iterator[range]:
    for first in range(0, len(numbers), AT_ONCE):
        yield numbers[first : first + AT_ONCE]


def _at_every_boundary(plan: str) -> Callable[[Rig], None]:
    check = partial(nothing_is_lost_and_nothing_twice, plan=plan)
    check.__name__ = f"nothing_is_lost_and_nothing_twice_{plan}"  # type: ignore[attr-defined]
    return check


KILLS: tuple[Callable[[Rig], None], ...] = (
    _at_every_boundary("forward"),
    _at_every_boundary("backward"),
)
"""The checks that take long; `Rig.kills` says which of their kills are made."""

CHECKS: tuple[Callable[[Rig], None], ...] = (
    a_step_that_was_kept_is_not_done_again,
    what_is_kept_comes_back_as_it_was,
    a_name_is_taken_once,
    a_signal_ends_a_wait,
    time_ends_a_wait_of_a_process_that_has_died,
    a_cancelled_workflow_does_nothing_more,
    it_tells_how_a_workflow_stands,
    *KILLS,
)


def check_engine(rig: Rig) -> dict[str, str]:
    """Run every check, and return what is broken.

    Args:
        rig: What is checked, and where.

    Returns:
        What each broken check found, by its name; empty where the engine keeps the contract.
    """
    broken = {}
    for check in CHECKS:
        name: str = check.__name__
        try:
            check(rig)
        except Exception as error:  # noqa: BLE001 (a broken engine may raise anything)
            broken[name] = f"{type(error).__name__}: {error}"
    return broken
