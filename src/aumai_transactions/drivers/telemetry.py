"""What a manager tells whoever watches what it does.

Owns: the contract for telemetry, and that nothing of it changes an outcome.
Rules:
  1. The journal is the truth. Whoever watches is told of entries before they are written only so
     that a span has a name by then, and of what happened once that is durable.
  2. What a watcher raises is logged once for each of its methods, and changes nothing.
  3. Without a watcher, one comparison with None is all that any of it costs.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Protocol, TypeVar

from aumai_transactions.core.entries import StepStarted
from aumai_transactions.core.tracing import TRACE_KEYS, note_attempt
from aumai_transactions.drivers.freezing import METADATA_MAX

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aumai_transactions.actions import Handler
    from aumai_transactions.core.definition import Operation
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.saga import SagaStep
    from aumai_transactions.drivers.operations import DoCall
    from aumai_transactions.drivers.run import Run
    from aumai_transactions.models import Transaction

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("aumai_transactions.telemetry")

FLUSH_SECONDS_MAX = 5.0
"""How long the end of a manager waits at most for what is still to be told."""


class CallTrace(NamedTuple):
    """Hold the span that a handler is called in.

    Args:
        attach: Makes it the current one of this context; returns what `detach` is given.
        detach: Makes the one before it current again.
        traceparent: Its place in its trace, as a header; None where nobody is to be told.
        tracestate: What goes with it.
    """

    attach: Callable[[], Any]
    detach: Callable[[Any], None]
    traceparent: str | None = None
    tracestate: str | None = None


class Telemetry(Protocol):
    """Watch what managers do. Every method returns at once, from whichever thread it is called."""

    def began(self, transaction: Transaction) -> Mapping[str, str]:
        """Take note of a new transaction; return what its metadata are to say of its trace."""

    def opens(self, run: Run, entries: Sequence[Entry]) -> Mapping[int, str]:
        """Begin what entries announce that are about to be written.

        Returns:
            The `traceparent` of each attempt that begins, by the position of its entry.
        """

    def called(self, run: Run, step: SagaStep, operation: Operation) -> CallTrace | None:
        """Return the span that a handler is about to be called in; None for none."""

    def recorded(self, run: Run, entries: Sequence[Entry]) -> None:
        """Take note of entries that have become durable; the run's saga has said them."""

    def appended(self, seconds: float) -> None:
        """Take note of how long it took to make entries durable."""

    def serves(self, running: Callable[[], int]) -> None:
        """Ask, from now on, a manager how many transactions it drives; hold it weakly."""

    def flush(self, seconds: float) -> None:
        """Wait, but only so long, until what was told is passed on."""


class Watcher:
    """Stand between a manager and its telemetry, which may raise what it likes.

    Args:
        telemetry: What is told.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self._said: set[str] = set()

    def begin(self, transaction: Transaction) -> None:
        """Let the metadata of a new transaction say in which trace it was begun."""
        noted = self._safe("began", self.telemetry.began, transaction) or {}
        kept = {key: text for key, text in noted.items() if key in TRACE_KEYS}
        others = {k: text for k, text in transaction.metadata.items() if k not in TRACE_KEYS}
        # Why not always: what its author notes goes before, and there is a limit.
        if kept and len(others) + len(kept) <= METADATA_MAX:
            transaction.metadata = {**others, **kept}

    def begin_spans(self, run: Run, entries: list[Entry]) -> list[Entry]:
        """Return entries that are about to be written, with the spans that they announce."""
        noted = self._safe("opens", self.telemetry.opens, run, entries) or {}
        for position, traceparent in noted.items():
            entry = entries[position]
            if isinstance(entry, StepStarted):
                entry = entry._replace(traceparent=traceparent)
                entries[position] = entry
                note_attempt(run.saga.step(entry.step_id), entry)
        return entries

    def inside(self, run: Run, call: DoCall) -> DoCall:
        """Return a call whose handler runs inside its span, and is told of it."""
        trace = self._safe("called", self.telemetry.called, run, call.step, call.operation)
        if trace is None:
            return call
        positional, named = call.arguments
        if trace.traceparent is not None:
            place: dict[str, Any] = {"traceparent": trace.traceparent}
            place["tracestate"] = trace.tracestate
            named = {name: replace(context, **place) for name, context in named.items()}
        handler = self._inside(call.callee.handler, trace)
        callee = call.callee._replace(handler=handler)
        return call._replace(callee=callee, arguments=(positional, named))

    def _inside(self, handler: Handler, trace: CallTrace) -> Handler:
        def called(*arguments: Any, **named: Any) -> Any:
            token = self._safe("attach", trace.attach)
            try:
                value = handler(*arguments, **named)
            finally:
                self._safe("detach", trace.detach, token)
            if value is not None and inspect.isawaitable(value):
                # Why again: it runs where it is awaited, which may be another thread.
                return self._awaited_inside(value, trace)
            return value

        return called

    async def _awaited_inside(self, awaitable: Awaitable[Any], trace: CallTrace) -> Any:
        token = self._safe("attach", trace.attach)
        try:
            return await awaitable
        finally:
            self._safe("detach", trace.detach, token)

    def record(self, run: Run, entries: Sequence[Entry]) -> None:
        """Tell of entries that have become durable."""
        self._safe("recorded", self.telemetry.recorded, run, entries)

    def time(self, begun: float) -> None:
        """Tell how long an append took that was begun then, by `perf_counter`."""
        self._safe("appended", self.telemetry.appended, perf_counter() - begun)

    def serve(self, running: Callable[[], int]) -> None:
        """Let it ask how many transactions are driven."""
        self._safe("serves", self.telemetry.serves, running)

    def flush(self) -> None:
        """Wait a moment until what was told is passed on."""
        self._safe("flush", self.telemetry.flush, FLUSH_SECONDS_MAX)

    def _safe(
        self, name: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        try:
            return function(*args, **kwargs)
        except Exception:
            # Why once: it would be said for every step, and what is wrong is the same.
            if name not in self._said:
                self._said.add(name)
                log.exception("telemetry has raised in %s; no outcome depends on it", name)
            return None
