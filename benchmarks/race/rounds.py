"""Let entrants take turns, and sum up what each of them did.

Owns: the processes of entrants, the order of turns, and the arithmetic of ratios.
Rules:
  1. All entrants of a group are there, connected and warm before the first round; each of them
     waits while it is another one's turn. A round gives one slice to each.
  2. Who begins is another one in each round, and every second round goes backwards. A ratio is
     taken within a round, so that a machine that becomes slower meanwhile does so for both sides.
  3. A figure is the median over the rounds, with the lowest and the highest.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from race.meters import Reading, Server, descendants, read

FOLDER = Path(__file__).resolve().parents[1]
SECONDS_MAX = 180.0


class Aim(NamedTuple):
    """Compare with another entrant of the same group.

    Args:
        quality: `rate` (the higher the better), or what is to be low: `time` for each transaction,
            `p99`, `cpu`: processor time, or `step`: microseconds of that for each step, over the
            other's.
        reference: Title of the other one.
        target: What the ratio should be; None where it is for information.
    """

    quality: str
    reference: str
    target: float | None = None


class Entrant(NamedTuple):
    """Say who takes part.

    Args:
        title: For people; one in its group.
        module: Which program it is.
        arguments: With `{folder}` and `{url}`, which is a PostgreSQL database of its own.
        steps: How many steps a transaction of it has.
        aims: What it is compared with.
        python: Its interpreter; ours where none is named.
        environment: Variables that it needs.
        is_peer: True where it may be missing.
    """

    title: str
    module: str
    arguments: tuple[str, ...] = ()
    steps: int = 3
    aims: tuple[Aim, ...] = ()
    python: str = sys.executable
    environment: tuple[tuple[str, str], ...] = ()
    is_peer: bool = False


class Group(NamedTuple):
    """Hold entrants that are compared.

    Args:
        name: For the command line.
        title: For people.
        entrants: Who takes part.
        slices: A slice lasts so many times what was asked for.
    """

    name: str
    title: str
    entrants: tuple[Entrant, ...]
    slices: float = 1.0


class Round(NamedTuple):
    """Hold what one slice was like, for one transaction; None where nobody counts."""

    rate: float
    p50_us: float | None
    p99_us: float | None
    cpu_us: float
    commits: float | None
    written: float | None
    rss_mib: float | None


class Result(NamedTuple):
    """Hold what one entrant did."""

    entrant: Entrant
    about: str
    rounds: list[Round]
    kept: float | None
    failure: str = ""


class Middle(NamedTuple):
    """Hold a median, the lowest and the highest."""

    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Hold how one entrant compares with another, over the rounds."""

    aim: Aim
    ratio: Middle

    @property
    def is_met(self) -> bool | None:
        """Whether it is as it should be; None where nothing was asked for."""
        if self.aim.target is None:
            return None
        if self.aim.quality == "rate":
            return self.ratio.value >= self.aim.target
        return self.ratio.value <= self.aim.target


def middle(values: Sequence[float]) -> Middle:
    """Return the median, the lowest and the highest."""
    return Middle(median(values), min(values), max(values))


def average(result: Result, quality: str) -> float | None:
    """Return the median of what was counted; None where it was not."""
    found = [getattr(one, quality) for one in result.rounds]
    return None if None in found or not found else median(found)


def comparisons(result: Result, group: Sequence[Result]) -> list[Comparison]:
    """Compare an entrant with those that it aims at, as far as they took part."""
    others = {other.entrant.title: other for other in group if other.rounds}
    found = []
    for aim in result.entrant.aims if result.rounds else ():
        other = others.get(aim.reference)
        if other is not None:
            pairs = zip(result.rounds, other.rounds, strict=True)
            ratios = [ratio(aim.quality, a, b, result.entrant.steps) for a, b in pairs]
            found.append(Comparison(aim, middle(ratios)))
    return found


def ratio(quality: str, ours: Round, other: Round, steps: int) -> float:
    """Compare two slices of one round."""
    match quality:
        case "rate":
            return ours.rate / other.rate
        case "time":
            return other.rate / ours.rate
        case "p99":
            return (ours.p99_us or 0.0) / (other.p99_us or 1.0)
        case "cpu":
            return ours.cpu_us / other.cpu_us
        case _:
            return (ours.cpu_us - other.cpu_us) / steps


class EntrantFailed(Exception):
    """Say that an entrant did not run."""


class Running:
    """Hold the process of an entrant.

    Args:
        entrant: Who.
        folder: Where its files go.
        server: The PostgreSQL; None where it uses none.
        url: Of its database there.
    """

    def __init__(self, entrant: Entrant, folder: Path, server: Server | None, url: str) -> None:
        self.entrant, self._folder, self._server = entrant, folder, server
        self._database = url.partition("?")[0].rpartition("/")[2]
        values = {"folder": str(folder), "url": url}
        arguments = [argument.format(**values) for argument in entrant.arguments]
        paths = [str(FOLDER), os.environ.get("PYTHONPATH", "")]
        self._errors = (folder / "errors.txt").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [entrant.python, "-m", entrant.module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=folder,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
            | dict(entrant.environment),
        )
        self.about = ""
        self.rounds: list[Round] = []
        self.failure = ""
        self._transactions = 0
        self._first: Reading | None = None
        self._last: Reading | None = None

    def hear(self) -> Any:
        """Return the next thing that it says.

        Raises:
            EntrantFailed: It has ended, or says nothing for minutes.
        """
        stream = self._process.stdout
        if stream is not None and select.select([stream], [], [], SECONDS_MAX)[0]:
            line = stream.readline()
            if line:
                return json.loads(line)
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines() or ["it says nothing"]
        raise EntrantFailed(said[-1])

    def be_ready(self) -> None:
        """Wait until it is."""
        self.about = self.hear()["ready"]

    def ask(self, seconds: float) -> dict[str, float]:
        """Let it carry out transactions for so long."""
        if self._process.stdin is None:
            raise EntrantFailed("it does not listen")
        self._process.stdin.write(f"{seconds}\n".encode())
        self._process.stdin.flush()
        found: dict[str, float] = self.hear()
        return found

    def read(self) -> Reading:
        """Read its counters."""
        database = self._database if self._server is not None else None
        return read(self._process.pid, self._folder, self._server, database)

    def take_turn(self, seconds: float) -> None:
        """Carry out one slice, and keep what it was like."""
        before = self.read()
        found = self.ask(seconds)
        after = self.read()
        count = found["transactions"]
        self._transactions += int(count)
        self._first, self._last = self._first or before, after
        others = (after.cpu_seconds or 0.0) - (before.cpu_seconds or 0.0)
        one = Round(
            count / found["seconds"],
            found.get("p50_us"),
            found.get("p99_us"),
            (found["cpu_seconds"] + others) / count * 1e6,
            difference(after.commits, before.commits, count),
            difference(after.written, before.written, count),
            found.get("rss_mib"),
        )
        self.rounds.append(one)

    def result(self) -> Result:
        """Sum up."""
        if self._first is None or self._last is None or self.failure:
            return Result(self.entrant, self.about, [], None, self.failure)
        kept = difference(self._last.kept, self._first.kept, self._transactions)
        return Result(self.entrant, self.about, self.rounds, kept)

    def end(self) -> None:
        """End it, and what it has started: in order, if that is quick."""
        others = descendants(self._process.pid)
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            for process in others:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


def difference(after: int | None, before: int | None, count: float) -> float | None:
    """Return by how much a counter has grown for each transaction."""
    return None if after is None or before is None else (after - before) / count


@contextmanager
def started(group: Group, folder: Path, server: Server | None) -> Iterator[list[Running]]:
    """Start all entrants of a group, and end them."""
    with ExitStack() as stack:
        running = []
        for number, entrant in enumerate(group.entrants):
            place = folder / f"{group.name}-{number}"
            place.mkdir()
            is_there = server is not None and any("{url}" in word for word in entrant.arguments)
            url = ""
            if is_there and server is not None:
                url = stack.enter_context(server.database(f"race_{os.getpid()}_{number}"))
            one = Running(entrant, place, server if is_there else None, url)
            stack.callback(one.end)
            running.append(one)
        yield running


def race(
    group: Group, folder: Path, server: Server | None, rounds: int, seconds: float
) -> list[Result]:
    """Let the entrants of a group take turns.

    Args:
        group: Who takes part.
        folder: Where files go.
        server: The PostgreSQL; None where no entrant needs one.
        rounds: How many.
        seconds: How long a slice lasts.
    """
    seconds *= group.slices
    with started(group, folder, server) as running:
        for one in running:
            attempt(one, one.be_ready)
        for one in running:
            attempt(one, partial(one.ask, seconds / 2))
        if server is not None:
            server.checkpoint()
        for number in range(rounds):
            turn = number % len(running)
            order = running[turn:] + running[:turn]
            for one in order if number % 2 == 0 else reversed(order):
                attempt(one, partial(one.take_turn, seconds))
        return [one.result() for one in running]


def attempt(one: Running, work: Callable[[], object]) -> None:
    """Do something with an entrant that has not failed; note if it does."""
    if one.failure:
        return
    try:
        work()
    except (EntrantFailed, OSError, ValueError, KeyError) as error:
        one.failure = str(error) or type(error).__name__


def clock() -> str:
    """Return the time of day, for a report."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
