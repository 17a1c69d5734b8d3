"""What simulated clients want.

Owns: the transactions of a seed: their shape, their options, and how they are begun. Each is drawn
from a stream of its own, so that fewer of them leave the others as they are.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal

from aumai_transactions.models import Output, Resource
from aumai_transactions.testing.simulator import actions

Start = Literal["commit", "submit", "save", "roll_back", "keyed", "interactive"]

STARTS: tuple[Start, ...] = (
    "commit", "commit", "commit", "commit", "submit", "submit", "submit",
    "save", "roll_back", "keyed", "interactive", "interactive",
)  # fmt: skip
WAITS_SECONDS = (0.0, 0.0, 0.5, 0.5, 2.0, 6.0)


@dataclass(slots=True)
class PlannedStep:
    """Hold one step that a client wants.

    Args:
        agent_id: On whose behalf.
        action: Its action.
        data: What it is given, but for references.
        after: Numbers of the steps that it waits for; None for all before.
        refers_to: Numbers of the steps whose outputs it is given.
        options: What else is declared about it.
    """

    agent_id: str
    action: str
    data: dict[str, Any]
    after: list[int] | None = None
    refers_to: list[int] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """Hold one transaction that a client wants.

    Args:
        number: Which one it is.
        start: How it is begun.
        at: When, seconds from the beginning.
        process: Which process its client is in.
        wait_seconds: How long the client waits for its end.
        timeout_seconds: Its timeout.
        options: What is declared about it.
        steps: Its steps.
        dice: Draws what its client does as it goes.
    """

    number: int
    start: Start
    at: float
    process: int
    wait_seconds: float
    timeout_seconds: float
    options: dict[str, Any]
    steps: list[PlannedStep]
    dice: random.Random


class Planner:
    """Draw the transactions of one seed.

    Args:
        seed: The seed.
        span_seconds: Within which time they begin.
    """

    def __init__(self, seed: int, span_seconds: float) -> None:
        self._seed = seed
        self._span = span_seconds
        dice = random.Random(f"{seed}/plans")  # noqa: S311 (a simulation)
        # Why a choice for each seed: what meets what is different in each of them then.
        self._actions = dice.sample(actions.STEPS, dice.randint(2, 8))
        self._keys = [f"key:{number}" for number in range(dice.randint(1, 4))]
        self._uses_keys = dice.choice((0.0, 0.2, 0.6))
        self._special = dice.choice((0.0, 0.3, 0.8))
        self._is_long = dice.random() < 0.05
        # Why: programs that claim as they go wait for each other in circles only where many meet.
        self._is_crowd = dice.random() < 0.08
        if self._is_crowd:
            self._span, self._uses_keys = min(span_seconds, 2.0), 0.6

    def plan(self, number: int) -> Plan:
        """Return the transaction of this number."""
        dice = random.Random(f"{self._seed}/plan/{number}")  # noqa: S311
        start = dice.choice(STARTS)
        if self._is_crowd:
            start = "interactive"
        plan = Plan(
            number=number,
            start=start,
            at=dice.random() * self._span,
            process=dice.randrange(8),
            wait_seconds=dice.choice(WAITS_SECONDS),
            timeout_seconds=dice.choice((3_600, 3_600, 3_600, 30, 5, 0.5)),
            options=self._options(dice, start),
            steps=[],
            dice=dice,
        )
        count = dice.choice((0, 1, 1, 2, 2, 3, 3, 4, 5))
        if self._is_long and dice.random() < 0.1:
            count = dice.randint(20, 60)
        is_graph = dice.random() < 0.5
        for index in range(count):
            plan.steps.append(self._step(dice, index, is_graph=is_graph))
        if dice.random() < self._special and start != "interactive":
            self._end(dice, plan)
        return plan

    def _options(self, dice: random.Random, start: Start) -> dict[str, Any]:
        options: dict[str, Any] = {
            "on_compensation_failure": dice.choice(("continue", "continue", "halt")),
            "parallel_compensation": dice.random() < 0.3,
            "allow_irreversible_first": True,
            "on_undo_window": dice.choice(("warn", "roll_back")),
            "isolation": dice.choice(("exclusive", "exclusive", "validated", "none")),
            "lock_timeout_seconds": dice.choice((2.0, 10.0, 60.0)),
            "release_outstanding_locks": dice.random() < 0.3,
            "metadata": {"tenant": dice.choice("abc")} if dice.random() < 0.3 else {},
            "crashes_max": dice.choice((2, 5, 10)),
        }
        if start == "interactive":
            options["on_crash"] = dice.choice((None, "roll_back"))
        else:
            options["on_crash"] = dice.choice((None, None, "resume", "roll_back"))
            options["timeout_scope"] = dice.choice(("start", "start", "transaction"))
        return options

    def _step(self, dice: random.Random, index: int, *, is_graph: bool) -> PlannedStep:
        action = dice.choice(self._actions)
        step = PlannedStep(f"agent-{dice.randrange(3)}", action.name, {"action": action.name})
        step.data["n"] = index
        if is_graph and dice.random() < 0.7:
            step.after = dice.sample(range(index), min(index, dice.randrange(3)))
        if index and dice.random() < 0.15:
            step.refers_to = [dice.randrange(index)]
        if dice.random() < self._uses_keys:
            names = dice.sample(self._keys, dice.randint(1, min(2, len(self._keys))))
            step.options["resources"] = [
                Resource(name=name, mode=dice.choice(("exclusive", "exclusive", "shared")))
                for name in names
            ]
        if dice.random() < self._special * 0.2:
            step.options["requires_approval"] = True
            if dice.random() < 0.6:
                step.options["approval_timeout_seconds"] = dice.choice((2.0, 60.0))
        if dice.random() < self._special * 0.2:
            step.action = "attempt"
            step.data["action"] = "attempt"
        return step

    def _end(self, dice: random.Random, plan: Plan) -> None:
        """Let a plan end with a pivot, or with held steps, or both."""
        agent = f"agent-{dice.randrange(3)}"
        if dice.random() < 0.6:
            action = dice.choice(actions.PIVOTS).name
            plan.steps.append(PlannedStep(agent, action, {"action": action}, None, []))
            plan.steps[-1].options["pivot"] = True
        for _ in range(dice.randrange(3)):
            action = dice.choice(actions.HELD).name
            plan.steps.append(PlannedStep(agent, action, {"action": action}))
            plan.steps[-1].options["on_commit"] = True
            if dice.random() < self._uses_keys:
                plan.steps[-1].options["resources"] = [Resource(name=dice.choice(self._keys))]


def data_of(step: PlannedStep, names: list[str]) -> dict[str, Any]:
    """Return a step's data, references to the outputs of earlier steps in it.

    Args:
        step: The step.
        names: The ids of the steps before it.
    """
    data = dict(step.data)
    for number in step.refers_to:
        data[f"from_{number}"] = Output(names[number], "/id", "string")
    return data
