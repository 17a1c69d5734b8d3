"""What the checks of an engine run, each in a process of its own that may be killed.

Owns: those programs, and the points at which they die.
Rules:
  1. A point has a name and a number. At the one that it was told a process kills itself with
     SIGKILL; nobody waits for a moment.
  2. An effect is one line in a file, in one write, so that a kill loses none and halves none.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aumai_transactions.answers import Done, NotDone
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.engine import ExecutionStopped
from aumai_transactions.errors import StepRejected
from aumai_transactions.testing.kill_nursery import Reporter, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aumai_transactions.actions import StepContext
    from aumai_transactions.engine import Body, Engine, Execution, Kept, Status

WAIT_SECONDS = 30.0
FOR_EVER_SECONDS = 3_000.0

PLANS = {
    "forward": ("safe", "asked", "once"),
    "backward": ("safe", "once", "refuse"),
}
"""What is done in each plan: `safe` is declared idempotent, `asked` has a probe, `once` neither;
`refuse` does nothing. All but the last have an undo."""


class Effects:
    """Write and read a file of what was done: one line for each effect."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, *words: str) -> None:
        """Add a line."""
        descriptor = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, " ".join(words).encode() + b"\n")
        finally:
            os.close(descriptor)

    def all(self) -> list[str]:
        """Return every line."""
        return self._path.read_text().splitlines() if self._path.exists() else []


class Points:
    """Count the points that are passed, and die at one of them.

    Args:
        reporter: Who hears which point that was.
        kill_at: At which; 0 for none.
    """

    def __init__(self, reporter: Reporter, kill_at: int) -> None:
        self.reporter = reporter
        self._kill_at = kill_at
        self._guard = threading.Lock()
        self.passed: list[str] = []

    def passing(self, name: str) -> None:
        """Pass a point, if this is not the one to die at."""
        with self._guard:
            self.passed.append(name)
            if len(self.passed) == self._kill_at:
                self.reporter.say(f"killed at {name}")
                os.kill(os.getpid(), signal.SIGKILL)


class WatchedEngine:
    """Be an engine with points between a step's work and its record, and behind that.

    Args:
        engine: The engine.
        points: The points.
    """

    def __init__(self, engine: Engine, points: Points) -> None:
        self._engine = engine
        self._points = points
        self.name = engine.name
        self.patience_seconds = engine.patience_seconds

    def open(self, body: Body) -> None:
        """Open it, with a body whose steps are watched."""
        self._engine.open(lambda execution, text: body(_Watched(execution, self._points), text))

    def start(self, workflow_id: str, argument: str, *, here: bool) -> None:
        """Start a workflow, between two points."""
        self._points.passing("before start")
        self._engine.start(workflow_id, argument, here=here)

    def signal(self, workflow_id: str) -> None:
        """Wake a workflow."""
        self._engine.signal(workflow_id)

    def cancel(self, workflow_id: str) -> None:
        """Let a workflow do nothing more."""
        self._engine.cancel(workflow_id)

    def status(self, workflow_id: str) -> Status | None:
        """Return how a workflow stands."""
        return self._engine.status(workflow_id)

    def close(self, drain_seconds: float = 0.0) -> None:
        """Close it."""
        self._engine.close(drain_seconds)


class _Watched:
    def __init__(self, execution: Execution, points: Points) -> None:
        self._execution = execution
        self._points = points
        self.workflow_id = execution.workflow_id

    @property
    def is_ending(self) -> bool:
        return self._execution.is_ending

    def step(self, name: str, function: Callable[[], Kept]) -> Kept:
        def watched() -> Kept:
            kept = function()
            self._points.passing(f"done, not kept: {name}")
            return kept

        kept = self._execution.step(name, watched)
        self._points.passing(f"kept: {name}")
        return kept

    def wait(self, seconds: float) -> None:
        self._execution.wait(seconds)


def engine_at(orders: Mapping[str, Any]) -> Engine:
    """Return the engine that the orders name as `module:function`."""
    module, _, function = orders["engine"].partition(":")
    engine: Engine = getattr(import_module(module), function)(Path(orders["folder"]))
    return engine


def manager_of(orders: Mapping[str, Any], points: Points) -> TransactionManager:
    """Return a manager on the watched engine, with handlers that leave lines in a file."""
    effects = Effects(Path(orders["effects"]))
    engine = WatchedEngine(engine_at(orders), points)
    manager = TransactionManager(store=orders["store"], engine=engine)

    def act(_name: str, data: dict[str, Any], context: StepContext) -> dict[str, Any]:
        if data["kind"] == "refuse":
            raise StepRejected("refused")
        if data["kind"] == "hold":
            points.reporter.say("holds")
            points.reporter.wait()
        points.passing(f"before the effect of {context.step_id}")
        effects.add(context.transaction_id, context.step_id, "action", context.idempotency_key)
        points.passing(f"after the effect of {context.step_id}")
        return {"done": context.step_id}

    def undo(_name: str, _data: dict[str, Any], context: StepContext) -> None:
        points.passing(f"before the undo of {context.step_id}")
        effects.add(context.transaction_id, context.step_id, "undo", context.idempotency_key)
        points.passing(f"after the undo of {context.step_id}")

    def ask(data: dict[str, Any], context: StepContext) -> Done | NotDone:
        line = f"{context.transaction_id} {context.step_id} action {context.forward_key}"
        return Done({"done": context.step_id}) if line in effects.all() else NotDone(str(data))

    manager.action("undo", idempotent=True)(undo)
    for kind in ("safe", "once", "refuse", "hold"):
        register = manager.action(kind, compensating_action="undo", idempotent=kind == "safe")
        register(act)
    manager.action("asked", compensating_action="undo")(act).probe(ask)
    return manager


def begin(reporter: Reporter, orders: Mapping[str, Any]) -> None:
    """Carry a plan out, until the end or until killed."""
    points = Points(reporter, orders["kill_at"])
    manager = manager_of(orders, points)
    tx = manager.begin(name=orders["plan"], idempotency_key=orders["key"])
    for kind in PLANS[orders["plan"]]:
        manager.add_step(tx, "agent", kind, {"kind": kind})
    reporter.say(f"tx {tx.transaction_id}")
    result = manager.commit(tx)
    reporter.say(f"state {result.state.value}")
    manager.close()
    for name in points.passed:
        reporter.say(f"passed {name}")


def finish(reporter: Reporter, orders: Mapping[str, Any]) -> None:
    """Finish what a dead process has left."""
    manager = manager_of(orders, Points(reporter, 0))
    manager.recover()
    tx = manager.begin(name=orders["plan"], idempotency_key=orders["key"])
    for kind in PLANS[orders["plan"]]:
        manager.add_step(tx, "agent", kind, {"kind": kind})
    result = manager.commit(tx)
    if not result.is_final:
        result = manager.wait(tx, timeout_seconds=WAIT_SECONDS)
    problems = manager.verify().problems
    reporter.say(f"tx {tx.transaction_id}")
    reporter.say(f"state {result.state.value} {result.clean} {json.dumps(problems)}")
    manager.close()


def script(reporter: Reporter, orders: Mapping[str, Any]) -> None:
    """Carry a workflow out whose body is a list of words, and say what becomes of it."""
    effects = Effects(Path(orders["effects"]))
    engine = engine_at(orders)
    ended = threading.Event()

    def body(execution: Execution, argument: str) -> str:
        effects.add("body", _short(orders, execution.workflow_id), argument)
        try:
            for number, word in enumerate(orders["body"]):
                _do(execution, effects, reporter, {**orders, "number": number, "word": word})
        except ExecutionStopped:
            effects.add("stopped")
            ended.set()
            raise
        ended.set()
        return "well"

    engine.open(body)
    for order in orders["then"]:
        _ordered(engine, effects, ended, [*order, orders["key"]])
    engine.close(WAIT_SECONDS)


def _short(orders: Mapping[str, Any], workflow_id: str) -> str:
    return workflow_id.removeprefix(f"{orders['key']}.")


def _do(
    execution: Execution, effects: Effects, reporter: Reporter, orders: Mapping[str, Any]
) -> None:
    word = orders["word"]
    if word == "wait":
        execution.wait(FOR_EVER_SECONDS)
        effects.add("woken")
        return
    if word == "wait a little":
        execution.wait(0.2)
        effects.add("woken")
        return

    def work() -> Kept:
        effects.add("does", word)
        if word == orders.get("die_in"):
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "hold":
            reporter.say("holds")
            reporter.wait()
        return {"number": orders["number"], "value": orders.get("value")}

    kept = execution.step(word, work)
    effects.add("gets", json.dumps(kept, sort_keys=True))


def _ordered(
    engine: Engine,
    effects: Effects,
    ended: threading.Event,
    order: list[str],
) -> None:
    match order:
        case ["start", name, where]:
            engine.start(f"{where}.{name}", "argument", here=True)
        case ["enqueue", name, where]:
            engine.start(f"{where}.{name}", "argument", here=False)
        case ["signal", name, where]:
            engine.signal(f"{where}.{name}")
        case ["cancel", name, where]:
            engine.cancel(f"{where}.{name}")
        case ["status", name, where]:
            effects.add("status", name, str(engine.status(f"{where}.{name}")))
        case ["until ended", _]:
            if not ended.wait(WAIT_SECONDS):
                effects.add("too long")
        case _:
            effects.add("unknown order", *order)


def run(reporter: Reporter, orders: Mapping[str, Any]) -> None:
    """Run what the orders say."""
    {"begin": begin, "finish": finish, "script": script}[orders["program"]](reporter, orders)


if __name__ == "__main__":
    import_module(sys.argv[1].partition(":")[0])
    serve(int(sys.argv[2]), run)
