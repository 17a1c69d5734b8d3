"""How a call gets to a participant, and its answer back, in a simulation.

Owns: what is lost, late, slow or doubled on the way, and how long a client waits.
Rules:
  1. Calls are doubled only where the participant keeps the contract: no library can help where a
     network sends a call twice to one that does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.errors import NotDelivered
from aumai_transactions.testing.simulator.participants import Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from aumai_transactions.testing.simulator.actions import Request
    from aumai_transactions.testing.simulator.participants import Effect
    from aumai_transactions.testing.simulator.processes import Process
    from aumai_transactions.testing.simulator.world import World

DAY = 86_400.0
PATIENCE_SECONDS = (2.0, 8.0, 30.0)
LATE_SECONDS = (4.0, 20.0, 60.0, 600.0)
VERY_LATE_SECONDS = (3_600.0, DAY, 7 * DAY)
AGAIN_SECONDS = (0.0, 0.05, 5.0, 30.0, 300.0)


class Network:
    """Carry calls between simulated processes and participants.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._streams: dict[object, Random] = {}
        self.in_flight = 0

    def send(self, process: Process, request: Request, answered: Callable[[Reply], None]) -> None:
        """Send a request; `answered` is told what came back, or that the client gave up."""
        world, faults = self._world, self._world.faults
        world.watch.called(process, request.context)
        whose = world.whose(request.context.transaction_id)
        dice = self._dice(whose)
        after = world.agenda.after
        if faults.hit("not_delivered", whose):
            error: Exception = NotDelivered("nobody is there")
            after(0.01, answered, Reply(error=error))
            return
        after(dice.choice(PATIENCE_SECONDS), answered, Reply(error=TimeoutError("no answer")))
        seconds = 0.005 + 0.1 * dice.random()
        if faults.hit("call_slow", whose):
            seconds += 8 * faults.details("call_slow").random()
        if faults.hit("call_late", whose):
            seconds += faults.details("call_late").choice(LATE_SECONDS)
        if faults.hit("call_very_late", whose):
            seconds += faults.details("call_very_late").choice(VERY_LATE_SECONDS)
        if not faults.hit("call_lost", whose):
            self._travel(seconds, request, answered)
        if request.kind == "keyed" and faults.hit("call_twice", whose):
            again = faults.details("call_twice").choice(AGAIN_SECONDS)
            self._travel(seconds + again, request, answered)

    def _dice(self, whose: object) -> Random:
        """Return what the times of one transaction's calls are drawn from."""
        found = self._streams.get(whose)
        if found is None:
            found = self._streams[whose] = self._world.dice("network", whose)
        return found

    def _travel(self, seconds: float, request: Request, answered: Callable[[Reply], None]) -> None:
        self.in_flight += 1
        if request.context.operation == "action":
            self._effect(request).in_flight += 1
        self._world.agenda.after(seconds, self._arrive, request, answered)

    def _effect(self, request: Request) -> Effect:
        context = request.context
        return self._world.participants.effect(context.transaction_id, context.step_id)

    def _arrive(self, request: Request, answered: Callable[[Reply], None]) -> None:
        world = self._world
        self.in_flight -= 1
        if request.context.operation == "action":
            self._effect(request).in_flight -= 1
        reply = world.participants.ask(request)
        if world.is_traced:
            context = request.context
            world.trace("arrives", context.idempotency_key, context.attempt, context.token, reply)
        whose = world.whose(request.context.transaction_id)
        if not world.faults.hit("call_reply_lost", whose):
            world.agenda.after(0.005 + 0.02 * self._dice(whose).random(), answered, reply)
