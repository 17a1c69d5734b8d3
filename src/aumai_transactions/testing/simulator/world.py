"""One simulated world, from its first instant to its last.

Owns: what it is made of, and its course: a time of faults, a time without, and what is checked
when nothing moves any more.
"""

from __future__ import annotations

import hashlib
import random
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.core.outcome import result_of
from aumai_transactions.errors import InternalError, JournalCorrupt, TransactionError
from aumai_transactions.testing.simulator import people
from aumai_transactions.testing.simulator.actions import registry
from aumai_transactions.testing.simulator.agenda import SECOND, T0, Agenda, ProcessClock
from aumai_transactions.testing.simulator.barriers import BarrierParticipants
from aumai_transactions.testing.simulator.faults import Faults
from aumai_transactions.testing.simulator.interrupts import Interrupted
from aumai_transactions.testing.simulator.network import DAY, Network
from aumai_transactions.testing.simulator.participants import Participants
from aumai_transactions.testing.simulator.plans import Planner
from aumai_transactions.testing.simulator.processes import Process
from aumai_transactions.testing.simulator.store import SimulatedStore
from aumai_transactions.testing.simulator.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aumai_transactions.core.saga import Saga
    from aumai_transactions.models import TransactionResult
    from aumai_transactions.store import Append

_REGISTRY = registry()

CALM_SECONDS = 2_000.0
"""How long nothing may move before a world counts as settled."""

BARRIERS = 0.5
"""In which part of all worlds the participants stand behind the barrier that we ship."""

ROUNDS_MAX = 12
EVENTS_MAX = 200_000


class Settings(NamedTuple):
    """Hold what a seed decides about its world, besides plans and faults."""

    processes: int
    concurrency: tuple[int, ...]
    parallel_max: int
    lease_seconds: float
    poll_seconds: float
    span_seconds: float
    heal_seconds: float
    visits: int


def settings_of(seed: int, transactions: int) -> Settings:
    """Return what a seed decides about its world."""
    dice = random.Random(f"{seed}/settings")  # noqa: S311 (a simulation)
    processes = dice.randint(1, 4)
    return Settings(
        processes=processes,
        concurrency=tuple(dice.choice((0, 1, 2, 8)) if n else 4 for n in range(processes)),
        parallel_max=dice.choice((1, 2, 4)),
        lease_seconds=dice.choice((2.0, 10.0, 30.0)),
        poll_seconds=dice.choice((3.0, 15.0)),
        span_seconds=dice.choice((2.0, 15.0, 60.0)),
        heal_seconds=dice.choice((40.0, 90.0, 180.0)),
        visits=dice.choice((0, transactions // 2, transactions)),
    )


class World:
    """Be a simulated world.

    Args:
        seed: The seed.
        transactions: How many transactions the seed begins.
        numbers: Which of them are begun.
        without: Classes of faults that never happen.
        only: The faults that may happen; None for all.
        on_line: Given each line of the trace; None for no trace.
    """

    def __init__(
        self,
        seed: int,
        transactions: int,
        numbers: Collection[int],
        *,
        without: Collection[str] = (),
        only: Collection[str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.agenda = Agenda()
        self.faults = Faults(seed, without, only)
        self.settings = settings_of(seed, transactions)
        self.counts: Counter[str] = Counter()
        self.is_traced = on_line is not None
        self.is_working = True
        self.asleep: list[Callable[[], None]] = []
        self.arriving = 0
        self.registry = _REGISTRY
        self._numbers = sorted(numbers)
        self._on_line = on_line
        self._digest = hashlib.sha256()
        self.beginning = 0
        self.watch = Watch(self)
        self.store = SimulatedStore(
            self.agenda, self.settings.lease_seconds, self.watch.appended, self.watch.answered
        )
        given = (
            self.faults,
            self.watch.took_effect,
            self.watch.is_current,
            self.whose,
            self.count,
        )
        # Why not always: each has faults that the other cannot have.
        if self.dice("barrier").random() < BARRIERS:
            self.participants: Participants = BarrierParticipants(
                ProcessClock(self.agenda, 0), *given
            )
            self.count("real_barrier")
        else:
            self.participants = Participants(*given)
        self.network = Network(self)
        self.owners: dict[str, Process] = {}
        self.planner = Planner(seed, self.settings.span_seconds)
        self._made: Counter[str] = Counter()
        self.processes = [self._process(f"p{n}", n) for n in range(self.settings.processes)]

    def _process(self, name: str, number: int) -> Process:
        self._made[name] += 1
        incarnation = f"{name}.{self._made[name]}"
        return Process(self, incarnation, self.settings.concurrency[number])

    # --------------------------------------------------------------------- what its parts ask for

    def dice(self, *names: object) -> random.Random:
        """Return a stream of draws of its own."""
        return random.Random(f"{self.seed}/{'/'.join(map(str, names))}")  # noqa: S311

    def new_id(self) -> str:
        """Return the id of the transaction that is being begun."""
        return f"t{self.beginning}-{self.seed:x}"

    def whose(self, transaction_id: str) -> object:
        """Return what the faults of a transaction are drawn for: its number."""
        plan = self.watch.plans.get(transaction_id)
        return transaction_id if plan is None else plan.number

    def count(self, name: str) -> None:
        """Take note that something rare has happened."""
        self.counts[name] += 1

    def trace(self, *said: object) -> None:
        """Write a line of the trace, where somebody reads it."""
        if self._on_line is not None:
            self._on_line(f"{self.agenda.seconds():14.6f} {' '.join(map(str, said))}")

    def traced_append(self, append: Append) -> None:
        """Let an append be a part of what tells two histories apart."""
        kinds = " ".join(type(entry).__name__ for entry in append.entries)
        line = (
            f"{self.agenda.now} {append.transaction_id} {append.expected_sequence} "
            f"{append.token} {append.append_id} {kinds}"
        )
        self._digest.update(line.encode())
        if self.is_traced:
            self.trace("append", append.transaction_id, append.expected_sequence, append.token)
            for entry in append.entries:
                self.trace("      ", entry)

    def some_process(self, number: int) -> Process | None:
        """Return a living process."""
        living = [process for process in self.processes if process.is_alive]
        return living[number % len(living)] if living else None

    def restart(self, dead: Process) -> None:
        """Let a new process take the place of a dead one."""
        number = self.processes.index(dead)
        self.processes[number] = self._process(f"p{number}", number)
        self.trace("restart", self.processes[number].name)

    def ended(self, what: str) -> Callable[[Any, BaseException | None], None]:
        """Return what is told the end of a procedure of which nothing but its end matters."""

        def on_end(_value: Any, error: BaseException | None) -> None:
            if error is not None:
                self.refuse(error, what)

        return on_end

    def refuse(
        self,
        error: BaseException,
        what: str,
        *,
        expected: tuple[type[BaseException], ...] = (TransactionError, Interrupted),
        tools: bool = False,
    ) -> None:
        """Take note of an exception that no caller should meet.

        Args:
            error: The exception.
            what: Who met it.
            expected: What may be.
            tools: True where what a tool raises may be as well.
        """
        self.counts[f"raised_{type(error).__name__}"] += 1
        is_bug = isinstance(error, (InternalError, JournalCorrupt))
        may_be = isinstance(error, expected) or (tools and isinstance(error, _OF_TOOLS))
        if is_bug or not may_be:
            trace = "".join(traceback.format_exception(error))
            self.watch.wrong(f"I12: {what} met {type(error).__name__}: {error}\n{trace}")

    def result_of(self, saga: Saga) -> TransactionResult:
        """Return the outcome of a transaction as the journal has it."""
        return result_of(saga, durable=True)

    def digest(self) -> str:
        """Return what tells this history from others."""
        return self._digest.hexdigest()

    # --------------------------------------------------------------------- its course

    def run(self) -> None:
        """Let it go on until nothing moves any more, or something is wrong."""
        self.arriving = len(self._numbers) + self.settings.visits
        for number in self._numbers:
            plan = self.planner.plan(number)
            self.agenda.after(plan.at, people.begin, self, plan)
        dice = self.dice("visits")
        for number in range(self.settings.visits):
            at = dice.random() * (self.settings.heal_seconds + 30)
            self.agenda.after(at, people.visit, self, number)
        self._go_on_until(T0 + int(self.settings.heal_seconds * SECOND))
        self.faults.is_healed = True
        self.trace("healed")
        self._settle()
        if not self.watch.problems:
            self.watch.at_the_end()
        self.participants.close()

    def _go_on_until(self, until: int) -> None:
        problems, agenda = self.watch.problems, self.agenda
        limit = agenda.happened + EVENTS_MAX
        while not problems and agenda.next(until):
            if agenda.happened > limit:
                self.watch.wrong(f"L1: {agenda.happened} things have happened, and no end is near")

    def _settle(self) -> None:
        """Go on until nothing is to be done, and nothing is under way."""
        for _ in range(ROUNDS_MAX):
            self._wake()
            self._work_until_idle()
            if self.watch.problems:
                return
            # What is under way for days arrives now; nobody has to poll for that long.
            self.is_working = False
            before = self.store.info().changes
            had_calls = self.network.in_flight
            while self.network.in_flight and not self.watch.problems:
                if not self.agenda.next(self.agenda.now + int(8 * DAY * SECOND)):
                    break
            if not had_calls and before == self.store.info().changes:
                return

    def _wake(self) -> None:
        """Let processes look for work again."""
        self.is_working = True
        asleep, self.asleep = self.asleep, []
        for wake in asleep:
            wake()

    def _work_until_idle(self) -> None:
        agenda = self.agenda
        changes, calm_since = -1, agenda.now
        limit = agenda.happened + EVENTS_MAX
        while not self.watch.problems:
            self._go_on_until(agenda.now + int(30 * SECOND))
            if self._is_idle():
                return
            if changes != self.store.info().changes:
                changes, calm_since = self.store.info().changes, agenda.now
            if agenda.happened > limit:
                self.watch.wrong(f"L1: {agenda.happened} things have happened, and no end is near")
            if agenda.now - calm_since > CALM_SECONDS * SECOND:
                return

    def _is_idle(self) -> bool:
        if self.arriving or not all(process.is_alive for process in self.processes):
            return False
        if any(process.is_busy() for process in self.processes):
            return False
        return not any(listed.summary.runnable for listed in self.store.listed())


_OF_TOOLS = (ValueError, OSError, Exception)
