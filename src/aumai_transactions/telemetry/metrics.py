"""What is counted by OpenTelemetry's metrics.

Owns: the names of the instruments, and their attributes: `outcome`, `name`, `tool`, `operation`,
`reason`; never an id, and only so many names (`names.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from aumai_transactions.calls import name_called
from aumai_transactions.core import entries as kinds
from aumai_transactions.core.doubts import needs_person
from aumai_transactions.telemetry.names import OTHER, Counted

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

    from aumai_transactions.core.definition import Operation
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.saga import Saga, SagaStep
    from aumai_transactions.drivers.run import Run
    from aumai_transactions.telemetry.outlet import Note

Put = Callable[["Note"], None]

APPEND_BOUNDS = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]
CALL_BOUNDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]
WHOLE_BOUNDS = [0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 86_400.0]


class Meters:
    """Hold the instruments.

    Args:
        meter: What makes them.
        names: The only names that are told apart; None for the first hundred of each.
        running: How many transactions are driven in this process.
    """

    def __init__(
        self, meter: Meter, names: Collection[str] | None, running: Callable[[], int]
    ) -> None:
        from opentelemetry.metrics import Observation

        def observed(_options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(running())]

        self._names, self._tools = Counted(names), Counted(names)
        self._duration = meter.create_histogram(
            "aumai.transaction.duration",
            "s",
            "From the begin of a transaction to its end.",
            explicit_bucket_boundaries_advisory=WHOLE_BOUNDS,
        )
        self._step = meter.create_histogram(
            "aumai.transaction.step.duration",
            "s",
            "One attempt, from its intent in the journal to its outcome.",
            explicit_bucket_boundaries_advisory=CALL_BOUNDS,
        )
        self.append = meter.create_histogram(
            "aumai.transaction.journal.append.duration",
            "s",
            "Until entries were durable.",
            explicit_bucket_boundaries_advisory=APPEND_BOUNDS,
        )
        self._attention = meter.create_counter(
            "aumai.transaction.attention", "{step}", "Steps that came to need a person."
        )
        self._failures = meter.create_counter(
            "aumai.transaction.compensation.failures", "{failure}", "Compensations that raised."
        )
        self._active = meter.create_observable_up_down_counter(
            "aumai.transaction.active",
            [observed],
            "{transaction}",
            "Transactions that this process drives now.",
        )

    def whole(self, saga: Saga, outcome: str, seconds: float, put: Put) -> None:
        """Count a transaction that has ended."""
        told = {"outcome": outcome, "name": self._names.of(saga.plan.name)}
        put(partial(self._duration.record, max(0.0, seconds), told))

    def call(  # noqa: PLR0917 (what, of what, and how it ended)
        self,
        run: Run,
        step: SagaStep,
        operation: Operation,
        outcome: str,
        seconds: float,
        put: Put,
    ) -> None:
        """Count an attempt that has ended."""
        told = {"operation": operation, "outcome": outcome, **self._about(run, step, operation)}
        put(partial(self._step.record, max(0.0, seconds), told))

    def count(self, run: Run, entry: Entry, put: Put) -> None:
        """Count what an entry says besides."""
        reason = _reason(run.saga, entry)
        if reason is not None:
            told: dict[str, Any] = {"reason": reason, "name": self._names.of(run.saga.plan.name)}
            put(partial(self._attention.add, 1, told))
        if isinstance(entry, kinds.CompensationFailed):
            step = run.saga.step(entry.step_id)
            put(partial(self._failures.add, 1, self._about(run, step, "compensation")))

    def _about(self, run: Run, step: SagaStep, operation: Operation) -> dict[str, str]:
        # Why only what is here: an action that nobody has is a name that somebody made up.
        is_known = run.registry.find(operation, step.definition) is not None
        tool = self._tools.of(name_called(step.definition, operation)) if is_known else OTHER
        return {"tool": tool, "name": self._names.of(run.saga.plan.name)}


def _reason(saga: Saga, entry: Entry) -> str | None:
    """Return why a step needs a person from this entry on; None where it does not."""
    match entry:
        case kinds.StepOutstanding():
            return "outstanding"
        case kinds.CompensationFailed():
            return None if entry.will_retry else "outstanding"
        case kinds.ApprovalRequested():
            return "approval"
        case kinds.StepInDoubt() | kinds.ProbeAnswered():
            step = saga.step(entry.step_id)
            return "in_doubt" if step.index in saga.doubtful and needs_person(step) else None
        case kinds.ConfirmationFailed():
            return None if entry.will_retry else "commit"
        case _:
            return None
