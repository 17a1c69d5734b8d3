"""How a simulation is run, and what it reports.

Owns: `simulate`, and the exact case that a report is about: whoever is given it gets the very same
history, on every supported Python and under every hash seed.
Rules:
  1. A run changes nothing outside of itself: it draws from its own streams, reads no clock but its
     own, and leaves the garbage collector and the log as it found them.
"""

from __future__ import annotations

import gc
import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.testing.simulator.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRANSACTIONS = 20
"""How many transactions a seed begins, where nobody says otherwise."""

log = logging.getLogger("aumai_transactions")


class Case(NamedTuple):
    """Name one simulated history exactly.

    Args:
        seed: What everything is drawn from.
        transactions: How many transactions the seed begins.
        numbers: Only these of them; None for all.
        without: Classes of faults that never happen.
        faults: Only these faults happen, such as `crash@p0.1#12`; None for all that are drawn.
    """

    seed: int
    transactions: int = TRANSACTIONS
    numbers: tuple[int, ...] | None = None
    without: tuple[str, ...] = ()
    faults: tuple[str, ...] | None = None

    def command(self) -> str:
        """Return the command that shows this history again."""
        words = [f"python -m aumai_transactions.testing.simulator --seed {self.seed}"]
        words.append(f"--transactions {self.transactions}")
        if self.numbers is not None:
            words.append(f"--only {','.join(map(str, self.numbers))}")
        if self.without:
            words.append(f"--without {','.join(self.without)}")
        if self.faults is not None:
            words.append(f"--faults {','.join(self.faults) or 'none'}")
        return " ".join([*words, "--trace"])


class Report(NamedTuple):
    """Tell how a simulation went.

    Args:
        case: What was simulated.
        violations: What did not hold; none means sound.
        counts: How often rare things happened.
        fired: The faults that happened, in order.
        digest: What tells this history from every other one.
        seconds: How long it took, in its own time.
        happened: How many things happened.
    """

    case: Case
    violations: list[str]
    counts: Counter[str]
    fired: list[str]
    digest: str
    seconds: float
    happened: int

    def raise_for_violations(self) -> None:
        """Raise where something did not hold.

        Raises:
            SimulationFailed: It says what, and how to see it again.
        """
        if self.violations:
            raise SimulationFailed(self)


class SimulationFailed(AssertionError):
    """Say that an invariant does not hold in a simulated history.

    Args:
        report: How it went.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        text = "\n".join(report.violations[:5])
        super().__init__(f"{text}\n\nSee it again: {report.case.command()}")


def simulate(
    seed: int,
    transactions: int = TRANSACTIONS,
    *,
    on_line: Callable[[str], None] | None = None,
) -> Report:
    """Simulate one seed, and report how it went; nothing is raised for what does not hold.

    Args:
        seed: What everything is drawn from.
        transactions: How many transactions are begun.
        on_line: Given each line of the trace.
    """
    return run(Case(seed, transactions), on_line=on_line)


def run(case: Case, *, on_line: Callable[[str], None] | None = None) -> Report:
    """Simulate exactly this, and report how it went.

    Args:
        case: What to simulate.
        on_line: Given each line of the trace.
    """
    numbers = range(case.transactions) if case.numbers is None else case.numbers
    with _undisturbed():
        world = World(
            case.seed,
            case.transactions,
            numbers,
            without=case.without,
            only=case.faults,
            on_line=on_line,
        )
        world.run()
    counts = world.counts + Counter({f"fault_{k}": n for k, n in world.faults.counts.items()})
    return Report(
        case,
        world.watch.problems,
        counts,
        world.faults.fired,
        world.digest(),
        world.agenda.seconds(),
        world.agenda.happened,
    )


_runs = 0
COLLECT_EVERY = 20
"""After how many simulations the garbage is collected; a history must not depend on when."""


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let neither the garbage collector nor the log take part."""
    global _runs  # noqa: PLW0603 (the collector is the process's own, too)
    was_enabled, level = gc.isenabled(), log.level
    gc.disable()
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
        _runs += 1
        if _runs % COLLECT_EVERY == 0:
            gc.collect()
        if was_enabled:
            gc.enable()
