"""Spans and metrics by OpenTelemetry.

Owns: the way from what a manager tells to `opentelemetry-api`, which is all that is needed here;
who wants anything to arrive somewhere sets up a provider, as for any other library.
Rules:
  1. No span is open for the life of a transaction. One is made when it begins, one for each
     attempt, and one at its end that is as long as the whole.
  2. A span ends with a durable entry. An attempt whose outcome this process could not record has
     none from here: whoever records the doubt about it makes one.
  3. Nobody who drives a transaction waits for an exporter (`outlet.py`).
  4. What a journal says about traces is hostile: see `core/tracing.py`.
"""

from __future__ import annotations

import hashlib
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.entries import StepInDoubt, StepStarted
from aumai_transactions.core.tracing import (
    TRACEPARENT,
    TRACESTATE,
    Trace,
    TraceParent,
    parsed_traceparent,
    parsed_tracestate,
    trace_in,
)
from aumai_transactions.drivers.telemetry import CallTrace
from aumai_transactions.errors import DefinitionError
from aumai_transactions.telemetry import spans
from aumai_transactions.telemetry.metrics import Meters
from aumai_transactions.telemetry.outlet import Outlet

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Link, Span, SpanContext, TracerProvider

    from aumai_transactions.core.definition import Operation
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.saga import SagaStep
    from aumai_transactions.drivers.run import Run
    from aumai_transactions.models import Transaction

SCOPE = "aumai_transactions"
SAMPLED = 1


@dataclass(slots=True)
class _Watched:
    """Hold what is remembered about one transaction while it is driven here.

    Args:
        parent: The context that its spans stand in.
        is_noted: True where its journal says so.
        tracestate: What goes with its trace, as the header has it.
        open: The attempts that are under way, by step and operation, and when they began.
    """

    parent: Context
    is_noted: bool
    tracestate: str | None
    open: dict[tuple[str, Operation], tuple[Span, int]] = field(default_factory=dict)


class OpenTelemetry:
    """Watch managers, and tell OpenTelemetry: `TransactionManager(telemetry=OpenTelemetry())`.

    One may watch several managers. It needs the extra `otel`.

    Args:
        tracer_provider: Where spans go; None for the global one.
        meter_provider: Where metrics go; None for the global one.
        names: The only names of transactions and actions that metrics tell apart; None for the
            first hundred of each. All others count as `_OTHER`.
        carrier: Where `traceparent` and `tracestate` of a caller stand, for transactions that are
            begun while no span is current.

    Raises:
        DefinitionError: The package `opentelemetry-api` is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        names: Collection[str] | None = None,
        carrier: Mapping[str, str] | None = None,
    ) -> None:
        try:
            from opentelemetry import context, metrics, trace
        except ModuleNotFoundError as error:
            message = "OpenTelemetry() needs a package: pip install 'aumai-transactions[otel]'"
            raise DefinitionError(message) from error
        from aumai_transactions import __version__

        self._trace: Any = trace
        self._context: Any = context
        self._tracer = trace.get_tracer(SCOPE, __version__, tracer_provider)
        self._carrier = trace_in(carrier)
        self._outlet = Outlet()
        self._running: list[weakref.ref[Callable[[], int]]] = []
        meter = metrics.get_meter(SCOPE, __version__, meter_provider)
        self._meters = Meters(meter, names, self._driven)

    # --------------------------------------------------------------------------- the contract

    def began(self, transaction: Transaction) -> Mapping[str, str]:
        """Make the span `transaction.begin`; return its place for the metadata."""
        asked = trace_in(transaction.metadata)
        if asked is None and not self._trace.get_current_span().get_span_context().is_valid:
            asked = self._carrier
        about = spans.transaction_attributes(transaction.transaction_id, transaction.name)
        around = None if asked is None else self._context_of(asked)
        span = self._tracer.start_span("transaction.begin", context=around, attributes=about)
        self._outlet.put(partial(span.end, time.time_ns()))
        place = span.get_span_context()
        if not place.is_valid:
            return {}
        noted = {TRACEPARENT: _traceparent(place)}
        state = place.trace_state.to_header()
        return noted | {TRACESTATE: state} if parsed_tracestate(state) else noted

    def opens(self, run: Run, entries: Sequence[Entry]) -> Mapping[int, str]:
        """Begin the span of each attempt that is announced."""
        noted = {}
        for position, entry in enumerate(entries):
            operation = spans.STARTS.get(type(entry))
            if operation is None:
                continue
            announced: Any = entry
            step = run.saga.step(announced.step_id)
            span = self._started(run, step, operation, entry.at)
            if isinstance(entry, StepStarted) and span.is_recording():
                noted[position] = _traceparent(span.get_span_context())
        return noted

    def called(self, run: Run, step: SagaStep, operation: Operation) -> CallTrace | None:
        """Return the span of the attempt that is about to be made."""
        watched = self._watched(run)
        found = watched.open.get((step.step_id, operation))
        if found is None:
            if operation != "reread":
                return None
            # Why here: it is the one call that no entry announces.
            span = self._started(run, step, operation, time.time_ns() // 1_000)
        else:
            span = found[0]
        place = span.get_span_context()
        is_told = place.is_valid and (span.is_recording() or watched.is_noted)
        if not is_told:
            return None
        return CallTrace(
            lambda: self._context.attach(self._trace.set_span_in_context(span)),
            self._context.detach,
            _traceparent(place),
            watched.tracestate,
        )

    def recorded(self, run: Run, entries: Sequence[Entry]) -> None:
        """End the spans of attempts that have ended, and of the whole where it has."""
        for entry in entries:
            operation = spans.ENDS.get(type(entry))
            if operation is not None:
                self._ended(run, entry, operation)
            elif isinstance(entry, spans.FINAL):
                self._whole(run, entry.at)
            self._meters.count(run, entry, self._outlet.put)

    def appended(self, seconds: float) -> None:
        """Count how long an append took."""
        self._outlet.put(partial(self._meters.append.record, seconds))

    def serves(self, running: Callable[[], int]) -> None:
        """Ask a manager, from now on, how many transactions it drives."""
        self._running.append(weakref.WeakMethod(running))

    def flush(self, seconds: float) -> None:
        """Wait, but only so long, until everything is handed to the providers."""
        self._outlet.flush(seconds)

    # ---------------------------------------------------------------------------------- spans

    def _driven(self) -> int:
        alive = [found for found in (one() for one in list(self._running)) if found is not None]
        return sum(running() for running in alive)

    def _watched(self, run: Run) -> _Watched:
        if run.trace is None:
            noted = trace_in(run.saga.plan.metadata)
            trace = noted or Trace(_derived(run.transaction_id), None)
            run.trace = _Watched(self._context_of(trace), noted is not None, trace.state)
        watched: _Watched = run.trace
        return watched

    def _context_of(self, trace: Trace) -> Context:
        span = self._trace.NonRecordingSpan(self._place_of(trace.parent, trace.state))
        # Why an empty one: what the thread that happens to drive it carries is none of its own.
        found: Context = self._trace.set_span_in_context(span, self._context.Context())
        return found

    def _place_of(self, parent: TraceParent, state: str | None = None) -> SpanContext:
        api = self._trace
        place: SpanContext = api.SpanContext(
            parent.trace_id,
            parent.span_id,
            is_remote=True,
            trace_flags=api.TraceFlags(parent.flags),
            trace_state=api.TraceState(list(parsed_tracestate(state))),
        )
        return place

    def _started(self, run: Run, step: SagaStep, operation: Operation, at: int) -> Span:
        watched = self._watched(run)
        span: Span = self._tracer.start_span(
            spans.span_name(step, operation),
            context=watched.parent,
            attributes=spans.call_attributes(run.saga, step, operation),
            links=[] if operation == "action" else list(self._links(step)),
            start_time=at * 1_000,
        )
        watched.open[step.step_id, operation] = (span, at)
        return span

    def _links(self, step: SagaStep) -> Iterator[Link]:
        """Yield a link to the last attempt of a step's action, if anybody watched it."""
        forward = parsed_traceparent(step.traceparent)
        if forward is not None:
            yield self._trace.Link(self._place_of(forward))

    def _ended(self, run: Run, entry: Any, operation: Operation) -> None:
        step = run.saga.step(entry.step_id)
        found = self._watched(run).open.pop((entry.step_id, operation), None)
        end = spans.end_of(entry)
        if found is None and isinstance(entry, StepInDoubt) and entry.cause == "crash":
            found = self._lost(run, step, entry)
        if found is None:
            return
        span, begun_at = found
        at = max(entry.at, begun_at)
        self._outlet.put(partial(self._told, span, end, at))
        seconds = (at - begun_at) / 1_000_000
        self._meters.call(run, step, operation, end.outcome, seconds, self._outlet.put)

    def _lost(self, run: Run, step: SagaStep, entry: StepInDoubt) -> tuple[Span, int]:
        """Make the span of an attempt whose process has died, and with it the span that it had."""
        began_at = step.attempt_at if step.traceparent else entry.at
        attributes = spans.call_attributes(run.saga, step, "action")
        span: Span = self._tracer.start_span(
            spans.span_name(step, "action"),
            context=self._watched(run).parent,
            attributes=attributes | {"aumai.transaction.lost": True},
            links=list(self._links(step)),
            start_time=began_at * 1_000,
        )
        return span, began_at

    def _told(self, span: Span, end: spans.End, at: int) -> None:
        if span.is_recording():
            for name, value in end.attributes.items():
                span.set_attribute(name, value)
            if end.error_type is not None:
                span.set_attribute("error.type", end.error_type)
                span.set_status(self._trace.StatusCode.ERROR)
        span.end(at * 1_000)

    def _whole(self, run: Run, at: int) -> None:
        """Make the one span that is as long as the whole transaction."""
        saga, parent = run.saga, self._watched(run).parent
        end, begun_at = spans.outcome_of(saga), saga.plan.created_at
        self._meters.whole(saga, end.outcome, (at - begun_at) / 1_000_000, self._outlet.put)
        name = spans.whole_name(saga)

        def make() -> None:
            span = self._tracer.start_span(name, context=parent, start_time=begun_at * 1_000)
            self._told(span, end, max(at, begun_at))

        self._outlet.put(make)


def _traceparent(place: SpanContext) -> str:
    return str(TraceParent(place.trace_id, place.span_id, int(place.trace_flags)))


def _derived(transaction_id: str) -> TraceParent:
    """Return a place in a trace for a transaction whose journal names none.

    Every process derives the same, so that all its spans stand in one trace, below a span that
    nobody makes.
    """
    digest = hashlib.sha256(b"aumai-transactions/" + transaction_id.encode()).digest()
    trace_id = int.from_bytes(digest[:16], "big") or 1
    return TraceParent(trace_id, int.from_bytes(digest[16:24], "big") or 1, SAMPLED)
