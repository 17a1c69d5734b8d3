"""The story of four trips, told with the services' own databases as the evidence.

Owns: what `aumai-transactions demo` does and prints.
Rules:
  1. The product is run as a person would run it: its command line, in processes of its own.
  2. What stands in the world is read from the services' databases, never from the product.
  3. The last word is `partial_trips`: if a trip is not whole, the exit code is 1.
  4. Whatever was started is stopped and the folder is removed, however the story ends.
  5. Every line fits into 80 columns and is ASCII, but for what the product itself prints.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, Protocol

from aumai_transactions.clock import Clock, SystemClock
from aumai_transactions.demo.evidence import (
    SERVICES,
    Event,
    Holding,
    events,
    holdings,
    partial_trips,
)
from aumai_transactions.demo.product import (
    EXIT_ANSWERED,
    EXIT_COMMITTED,
    EXIT_ROLLED_BACK,
    PROGRAM,
    Ended,
    Product,
    Running,
    shown,
)
from aumai_transactions.demo.trip import CARD, DECLINED_CARD, DemoFailed, TripServices, plan_text

STORE: Final = "trips.db"
EFFECT_SECONDS_MAX = 20
_SLOW_ANSWER_SECONDS = 55
_POLL_SECONDS = 0.02
_COLUMNS = (10, 13, 16, 16, 16)

Echo = Callable[[str], object]


class Style(Protocol):
    """Dress a text up; `click.style` does."""

    def __call__(
        self, text: str, *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None
    ) -> str:
        """Return the text with its colours."""


def plain(
    text: str,
    *,
    fg: str | None = None,  # noqa: ARG001 (the shape of click.style)
    bold: bool | None = None,  # noqa: ARG001
    dim: bool | None = None,  # noqa: ARG001
) -> str:
    """Return the text as it is."""
    return text


@dataclass
class Trip:
    """Follow one traveller's trip.

    Args:
        traveller: Who travels; names the plan file.
        expected: The state in which it has to end.
        card: The card that is charged.
        is_hotel_idempotent: Whether the plan lets the hotel be asked again under the same key.
        hotel_answers_after_seconds: How slow the hotel is to answer.
        transaction_id: Its transaction, once the services have heard of it.
        killed_at: When the process that ran it was killed.
    """

    traveller: str
    expected: str
    card: str = CARD
    is_hotel_idempotent: bool = True
    hotel_answers_after_seconds: int = 0
    transaction_id: str = ""
    killed_at: int | None = None

    @property
    def plan(self) -> str:
        """The name of its plan file."""
        return f"{self.traveller.lower()}.toml"


@dataclass
class Stage:
    """Hold everything that the scenes share."""

    echo: Echo
    style: Style
    product: Product
    services: TripServices
    folder: Path
    clock: Clock
    trips: list[Trip] = field(default_factory=list)

    # -------------------------------------------------------------------------------- printing

    def say(self, *lines: str) -> None:
        """Print some lines."""
        for line in lines:
            self.echo(line)

    def heading(self, text: str) -> None:
        """Print a heading."""
        self.say("", self.style(text, bold=True), self.style("-" * 78, dim=True))

    def command(self, *arguments: str) -> None:
        """Print a command as a person would type it."""
        self.say("", f"  {self.style('$', dim=True)} {self.style(shown(arguments), fg='cyan')}")

    def outcome(self, ended: Ended) -> None:
        """Print what a command wrote to standard output."""
        lines = ended.output.strip("\n").splitlines()
        self.say(*(f"    {line}".rstrip() for line in lines), "")

    def table(self, states: Mapping[str, str], trips: Sequence[Trip]) -> None:
        """Print what stands in the services' databases, a line for each trip."""
        found = holdings(self.services.database_paths)
        self.say(self.style(_row("trip", "journal says", *SERVICES), dim=True))
        for trip in trips:
            state = states[trip.transaction_id]
            cells = [_cell(found[service], trip.transaction_id) for service in SERVICES]
            is_partial = bool(partial_trips({trip.transaction_id: state}, _of(trip, found)))
            colour = "red" if is_partial else "green" if state == "committed" else "yellow"
            self.say(self.style(_row(trip.traveller, state, *cells), fg=colour))

    def timeline(self, trip: Trip) -> None:
        """Print what the services wrote down about a trip, and when its runner was killed."""
        noted = [
            event
            for event in events(self.services.database_paths)
            if event.transaction_id == trip.transaction_id
        ]
        start = noted[0].at if noted else 0
        lines = [(event.at, _noted(event, start)) for event in noted]
        if trip.killed_at is not None:
            text = f"  {_since(trip.killed_at, start)}  -- the runner is killed with SIGKILL --"
            lines.append((trip.killed_at, self.style(text, fg="red")))
        # By time alone: two lines of the same moment stay as they are.
        self.say(*(line for _, line in sorted(lines, key=lambda pair: pair[0])))

    # ----------------------------------------------------------------------------------- acting

    def write_plan(self, trip: Trip) -> None:
        """Write a trip's plan file."""
        text = plan_text(
            self.services.urls,
            trip.traveller,
            card=trip.card,
            is_hotel_idempotent=trip.is_hotel_idempotent,
            hotel_answers_after_seconds=trip.hotel_answers_after_seconds,
        )
        (self.folder / trip.plan).write_text(text, "utf-8")
        self.trips.append(trip)

    def find(self, trip: Trip) -> None:
        """Learn from the flights' database which transaction a traveller's trip is."""
        for event in events({"flights": self.services.database_paths["flights"]}):
            if event.what.endswith(f" for {trip.traveller}"):
                trip.transaction_id = event.transaction_id
                return
        raise DemoFailed(f"no flight was ever reserved for {trip.traveller}.")

    def state_of(self, trip: Trip) -> str:
        """Ask the product for the state of a trip's transaction."""
        ended = self.product.run("status", "--tx-id", trip.transaction_id, "--store", STORE)
        try:
            return str(json.loads(ended.output)["state"])
        except (ValueError, TypeError, KeyError):
            raise DemoFailed(f"`status` did not print the state: {ended.output!r:.200}") from None

    def states_of(self, trips: Sequence[Trip]) -> dict[str, str]:
        """Ask for the states of several transactions."""
        return {trip.transaction_id: self.state_of(trip) for trip in trips}

    def wait_until(self, happened: Callable[[], bool], runners: Sequence[Running]) -> None:
        """Wait until a service's database shows something, while the runners run."""
        deadline = self.clock.now() + EFFECT_SECONDS_MAX * 1_000_000
        while not happened():
            for runner in runners:
                if runner.process.poll() is not None:
                    ended = runner.ended()
                    raise DemoFailed(
                        f"a run ended too early, with code {ended.code}: {ended.excerpt}"
                    )
            if self.clock.now() > deadline:
                raise DemoFailed(f"no effect was seen within {EFFECT_SECONDS_MAX} s.")
            self.clock.sleep(_POLL_SECONDS)


def run_demo(
    echo: Echo,
    style: Style = plain,
    *,
    program: Sequence[str] = PROGRAM,
    clock: Clock | None = None,
) -> int:
    """Show four trips, two of them killed half-way, and judge what is left of them.

    Args:
        echo: Prints one line; `click.echo` does.
        style: Colours a text; `click.style` does, and `plain` does nothing.
        program: The product's command line; another one in tests.
        clock: What time it is, and how to wait.

    Returns:
        0 where every trip is whole and ended as expected, else 1.

    Raises:
        DemoFailed: The demonstration itself could not be given.
    """
    with ExitStack() as stack:
        stack.enter_context(_signals_unwind())
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="aumai-demo-", ignore_cleanup_errors=True)
            )
        )
        services = stack.enter_context(TripServices(folder))
        product = Product(folder, program)
        stage = Stage(echo, style, product, services, folder, clock or SystemClock())
        _introduce(stage)
        _everything_works(stage)
        _a_card_is_declined(stage)
        _two_runners_are_killed(stage)
        return _judge(stage)


def _introduce(stage: Stage) -> None:
    stage.say(
        stage.style("A business trip takes three agents: a flight, a hotel, a charge.", bold=True),
        "Each agent calls a service of its own: a process with a database of its own.",
        "",
        *(f"  {name:<9} {url}" for name, url in stage.services.urls.items()),
    )


def _everything_works(stage: Stage) -> None:
    trip = Trip("Alice", "committed")
    stage.write_plan(trip)
    stage.heading("(a) Alice: everything works")
    _run(stage, trip, EXIT_COMMITTED)
    stage.say("  What stands in the services' own databases:")
    stage.table(stage.states_of([trip]), [trip])


def _a_card_is_declined(stage: Stage) -> None:
    trip = Trip("Bob", "rolled_back", card=DECLINED_CARD)
    stage.write_plan(trip)
    stage.heading("(b) Bob: his card is declined, after the flight and the hotel are booked")
    _run(stage, trip, EXIT_ROLLED_BACK)
    stage.say("  Bob in the services' books, in the order of time:")
    stage.timeline(trip)
    stage.say("", "  What stands in the services' own databases:")
    stage.table(stage.states_of([trip]), [trip])


def _run(stage: Stage, trip: Trip, code: int) -> None:
    arguments = ("run", trip.plan, "--store", STORE)
    stage.command(*arguments)
    # Why all of these codes: what they mean for a trip is for the judge to say.
    ended = stage.product.run(*arguments, codes=EXIT_ANSWERED)
    stage.outcome(ended)
    if ended.code != code:
        stage.say(stage.style(f"  exit code {ended.code}, expected {code}", fg="red"))
    stage.find(trip)


def _two_runners_are_killed(stage: Stage) -> None:
    slow = _SLOW_ANSWER_SECONDS
    carol = Trip("Carol", "committed", hotel_answers_after_seconds=slow)
    dave = Trip("Dave", "rolled_back", is_hotel_idempotent=False, hotel_answers_after_seconds=slow)
    pair = (carol, dave)
    for trip in pair:
        stage.write_plan(trip)
    stage.heading("(c) Carol and Dave: kill -9 while a step runs")
    stage.say(
        "The hotel books their rooms, but is slow to answer. Before it does, the two",
        "processes that run their transactions are killed. Their plans differ in one",
        "line: may the same call be sent to the hotel again, under the same key?",
        "",
        f"  carol.toml  {stage.style('idempotent = true ', bold=True)}  yes",
        f"  dave.toml   {stage.style('idempotent = false', bold=True)}  no, nobody promises that",
    )
    _kill_both(stage, pair)
    stage.say("", "  Half a trip each, and nobody left who knows about it:")
    stage.table(stage.states_of(pair), pair)
    stage.command("recover", "--store", STORE)
    stage.outcome(stage.product.run("recover", "--store", STORE, codes=EXIT_ANSWERED))
    for trip, text in (
        (carol, "  Carol in the services' books; her hotel may be asked again, same key:"),
        (dave, "  Dave in the services' books; his may only be asked to undo what it did:"),
    ):
        stage.say(text)
        stage.timeline(trip)
        if trip is carol:
            stage.say("")


def _kill_both(stage: Stage, trips: Sequence[Trip]) -> None:
    with ExitStack() as stack:
        runners = []
        for trip in trips:
            arguments = ("run", trip.plan, "--store", STORE)
            stage.command(*arguments)
            runners.append(stack.enter_context(stage.product.start(*arguments)))
        hotels = {"hotels": stage.services.database_paths["hotels"]}
        travellers = {trip.traveller for trip in trips}
        stage.wait_until(
            lambda: travellers <= {row.what.split()[-1] for row in holdings(hotels)["hotels"]},
            runners,
        )
        stage.say("", "  Both rooms are booked, and neither runner knows it.")
        for trip, runner in zip(trips, runners, strict=True):
            runner.process.kill()
            code = runner.process.wait()
            trip.killed_at = stage.clock.now()
            stage.find(trip)
            killed = f"SIGKILL to process {runner.process.pid} ({trip.traveller}'s)"
            stage.say(f"  {stage.style(killed, fg='red')}: dead, exit code {code}")
            if os.name == "posix" and code != -signal.SIGKILL:
                raise DemoFailed(f"the runner ended by itself, with code {code}.")


def _judge(stage: Stage) -> int:
    stage.heading("What is left in each service")
    states = stage.states_of(stage.trips)
    stage.table(states, stage.trips)
    wrong = partial_trips(states, holdings(stage.services.database_paths))
    wrong += [
        f"{trip.traveller}'s trip is {states[trip.transaction_id]}, expected {trip.expected}"
        for trip in stage.trips
        if states[trip.transaction_id] != trip.expected
    ]
    stage.say("")
    if wrong:
        stage.say(stage.style("NOT whole:", fg="red", bold=True), *(f"  {line}" for line in wrong))
        return 1
    stage.say(
        stage.style("Four trips, two of them killed half-way, and no half trip.", bold=True),
        "The services are stopped and their databases removed.",
    )
    return 0


# ------------------------------------------------------------------------------- small print


def _row(*cells: str) -> str:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, _COLUMNS, strict=True))
    return f"  {' '.join(padded)}".rstrip()


def _cell(rows: Sequence[Holding], transaction_id: str) -> str:
    held = [row.what for row in rows if row.transaction_id == transaction_id]
    # Without the name, which stands at the beginning of the line.
    short = [what.partition(" for ")[0].partition(" on card")[0] for what in held]
    return " + ".join(short) or "-"


def _of(trip: Trip, found: Mapping[str, Sequence[Holding]]) -> dict[str, list[Holding]]:
    return {
        service: [row for row in rows if row.transaction_id == trip.transaction_id]
        for service, rows in found.items()
    }


def _noted(event: Event, start: int) -> str:
    return f"  {_since(event.at, start)}  {event.service:<9} {event.event:<16} {event.what}"


def _since(at: int, start: int) -> str:
    return f"{(at - start) / 1_000_000:+8.3f} s"


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Let a polite request to end, or a closed terminal, stop what was started, as Ctrl-C does."""
    names = ("SIGTERM", "SIGHUP")
    previous = {}
    # Only the main thread may set handlers; in any other one nobody sends us signals.
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        previous = {number: signal.signal(number, _leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
