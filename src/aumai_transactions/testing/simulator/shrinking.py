"""How a failing history is made smaller, so that somebody can read it.

Owns: the search for a smaller case in which something still does not hold.
Rules:
  1. First fewer transactions, then whole classes of faults, then single faults.
  2. What is smaller counts only where the same invariant does not hold.

Source of the idea: Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input (2002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from aumai_transactions.testing.simulator.faults import CLASSES
from aumai_transactions.testing.simulator.running import Case, Report, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

RUNS_MAX = 600
"""How many simulations the search for a smaller case takes at most."""


def shrink(report: Report, *, runs_max: int = RUNS_MAX) -> Report:
    """Return the report on the smallest case that was found to fail in the same way.

    Args:
        report: A report with violations.
        runs_max: How many simulations are run at most.
    """
    return _Search(report, runs_max).smallest()


def rule_of(report: Report) -> str:
    """Return the name of the first rule that does not hold; empty where all do."""
    if not report.violations:
        return ""
    words = report.violations[0].split(": ")
    return next((word for word in words if 1 < len(word) <= 4 and word[0].isupper()), words[0])


class _Search:
    def __init__(self, report: Report, runs_max: int) -> None:
        self._best = report
        self._rule = rule_of(report)
        self._left = runs_max

    def smallest(self) -> Report:
        case = self._best.case
        numbers = case.numbers or tuple(range(case.transactions))
        alone = next((n for n in numbers if self._fails(case._replace(numbers=(n,)))), None)
        if alone is None:
            self._fewest(numbers, lambda kept: self._best.case._replace(numbers=kept))
        for name in CLASSES:
            without = self._best.case.without
            if name not in without and any(f.startswith(f"{name}@") for f in self._best.fired):
                self._fails(self._best.case._replace(without=(*without, name)))
        fired = tuple(self._best.fired)
        if self._fails(self._best.case._replace(faults=fired)):
            self._fewest(fired, lambda kept: self._best.case._replace(faults=kept))
        numbers = self._best.case.numbers or numbers
        self._fewest(numbers, lambda kept: self._best.case._replace(numbers=kept))
        return self._best

    def _fails(self, case: Case) -> bool:
        """Tell whether a case fails in the same way; then it is the best so far."""
        if self._left <= 0:
            return False
        self._left -= 1
        report = run(case)
        if rule_of(report) != self._rule:
            return False
        self._best = report
        return True

    def _fewest(
        self, items: Sequence[T], case_of: Callable[[tuple[T, ...]], Case]
    ) -> tuple[T, ...]:
        """Return as few of the items as still fail (ddmin)."""
        kept, parts = tuple(items), 2
        while len(kept) >= 1:
            size = max(len(kept) // parts, 1)
            for start in range(0, len(kept), size):
                fewer = (*kept[:start], *kept[start + size :])
                if self._fails(case_of(fewer)):
                    kept, parts = fewer, max(parts - 1, 2)
                    break
            else:
                if size == 1:
                    break
                parts = min(parts * 2, len(kept))
            if self._left <= 0:
                break
        return kept
