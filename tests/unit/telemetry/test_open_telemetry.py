"""Spans say what the journal says, and no outcome depends on them."""
# mypy: disable-error-code="arg-type, union-attr"

import asyncio
import subprocess
import sys
import textwrap
import threading

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from aumai_transactions import (
    Action,
    AsyncTransactionManager,
    Done,
    OutcomeUnknown,
    RetryPolicy,
    StepContext,
    TransactionManager,
)
from aumai_transactions.core.tracing import parsed_traceparent
from aumai_transactions.errors import DefinitionError

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def nothing(action, data):
    pass


def refuse(action, data):
    raise ValueError("sold out: card 4111111111111111")


def trip(manager, *, fails=True, **options):
    """Two steps, of which the second one fails, or does not."""
    tx = manager.begin(name="trip", **options)
    manager.add_step(tx, "flights", "book", {"secret": "s3cr3t"}, "unbook")
    manager.add_step(tx, "hotels", "stay" if fails else "book", {}, "unbook")
    return manager.commit(tx)


@pytest.fixture
def manager(seen):
    actions = {"book": nothing, "unbook": nothing, "stay": refuse}
    with TransactionManager(actions, telemetry=seen.telemetry) as made:
        yield made


def at(span):
    return span.context.span_id


def parent(span):
    return None if span.parent is None else span.parent.span_id


# ------------------------------------------------------------------------------- names and shape


def test_a_transaction_is_one_trace_of_short_spans_and_one_as_long_as_the_whole(manager, seen):
    result = trip(manager)
    assert result.state == "rolled_back"
    assert seen.names == [
        "transaction.begin",
        "execute_tool book",
        "execute_tool stay",
        "compensate unbook",
        "transaction trip",
    ]
    spans = seen.spans
    assert len({span.context.trace_id for span in spans}) == 1
    begin, *below = spans
    assert parent(begin) is None
    assert {parent(span) for span in below} == {at(begin)}
    whole = spans[-1]
    assert whole.start_time <= min(span.start_time for span in below)
    assert whole.end_time == max(span.end_time for span in spans)


def test_an_attempt_says_which_call_of_whom_it_is(manager, seen):
    result = trip(manager)
    name = result.transaction_id
    step = manager.get_transaction(name).steps[0].step_id
    assert dict(seen.span("execute_tool book").attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "book",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": f"{name}/{step}",
        "gen_ai.agent.name": "flights",
        "aumai.transaction.id": name,
        "aumai.transaction.name": "trip",
        "aumai.transaction.step": step,
        "aumai.transaction.operation": "action",
        "aumai.transaction.attempt": 1,
        "aumai.transaction.idempotency_key": f"{name}/{step}/action",
    }
    failed = seen.span("execute_tool stay")
    assert failed.attributes["error.type"] == "ValueError"
    assert failed.status.status_code is StatusCode.ERROR


def test_a_compensation_is_linked_to_what_it_undoes(manager, seen):
    trip(manager)
    undo, forward = seen.span("compensate unbook"), seen.span("execute_tool book")
    assert (
        undo.attributes["aumai.transaction.compensates"]
        == forward.attributes["aumai.transaction.step"]
    )
    (link,) = undo.links
    assert (link.context.trace_id, link.context.span_id) == (
        forward.context.trace_id,
        at(forward),
    )


def test_the_whole_is_an_error_only_where_somebody_has_to_look(manager, seen):
    assert trip(manager).state == "rolled_back"
    whole = seen.span("transaction trip")
    assert whole.status.status_code is StatusCode.UNSET
    assert whole.attributes["aumai.transaction.outcome"] == "rolled_back"
    assert whole.attributes["gen_ai.workflow.name"] == "trip"
    seen.exporter.clear()
    manager.actions.add(Action("unbook", refuse))
    assert trip(manager).outstanding
    whole = seen.span("transaction trip")
    assert whole.status.status_code is StatusCode.ERROR
    assert whole.attributes["error.type"] == "outstanding"
    assert whole.attributes["aumai.transaction.outstanding"] == 1


def test_a_transaction_that_expired_is_an_error(seen, clock):
    with TransactionManager(telemetry=seen.telemetry, clock=clock) as manager:
        tx = manager.begin(timeout_seconds=1)
        clock.advance(2)
        assert manager.commit(tx).state == "failed"
    whole = seen.span("transaction")
    assert whole.status.status_code is StatusCode.ERROR
    assert whole.end_time - whole.start_time == 2_000_000_000


def test_nothing_of_data_outputs_or_errors_is_in_a_span(manager, seen):
    trip(manager)
    told = " ".join(span.to_json() for span in seen.spans)
    assert "s3cr3t" not in told
    assert "4111111111111111" not in told


def test_every_attempt_has_a_span_and_a_probe_its_own(seen):
    tries = []

    def flaky(action, data):
        tries.append(1)
        raise OutcomeUnknown("lost") if len(tries) == 1 else TypeError("no")

    policy = RetryPolicy(attempts_max=2, first_delay_seconds=0.001)
    flaky_action = Action("pay", flaky, probe=lambda data: Done({"id": 1}), retry=policy)
    with TransactionManager(actions=[flaky_action], telemetry=seen.telemetry) as manager:
        tx = manager.begin()
        manager.add_step(tx, "a", "pay", {})
        assert manager.commit(tx).state == "committed"
    assert seen.names == ["transaction.begin", "execute_tool pay", "probe pay", "transaction"]
    doubt = seen.span("execute_tool pay")
    assert doubt.attributes["error.type"] == "OutcomeUnknown"
    assert doubt.attributes["aumai.transaction.in_doubt"] is True
    probe = seen.span("probe pay")
    assert probe.attributes["aumai.transaction.answer"] == "done"
    assert [link.context.span_id for link in probe.links] == [at(doubt)]


def test_a_simulated_step_says_so(seen):
    with TransactionManager(telemetry=seen.telemetry) as manager:
        trip(manager, fails=False)
    simulated = [span for span in seen.spans if span.name == "execute_tool book"]
    assert [span.attributes["aumai.transaction.simulated"] for span in simulated] == [True, True]


def test_a_block_has_the_same_spans(manager, seen):
    with manager.transaction(name="chat") as tx:
        tx.execute("a", "book", {}, "unbook")
    assert seen.names == ["transaction.begin", "execute_tool book", "transaction chat"]
    assert parent(seen.span("execute_tool book")) == at(seen.span("transaction.begin"))


# --------------------------------------------------------------------------- the caller's context


def test_a_transaction_stands_below_the_span_in_which_it_was_begun(manager, seen):
    with seen.tracer.start_as_current_span("request") as request:
        tx = manager.begin(name="trip")
        manager.add_step(tx, "flights", "book", {}, "unbook")
    with seen.tracer.start_as_current_span("another"):
        manager.commit(tx)
    begin = seen.span("transaction.begin")
    assert parent(begin) == request.get_span_context().span_id
    assert begin.context.trace_id == request.get_span_context().trace_id
    assert seen.span("transaction trip").context.trace_id == begin.context.trace_id
    assert seen.span("another").context.trace_id != begin.context.trace_id


def test_what_a_caller_hands_over_in_the_metadata_counts(manager, seen):
    noted = {"traceparent": CALLER, "tracestate": "vendor=1", "tenant": "acme"}
    tx = manager.begin(metadata=noted)
    begin = seen.span("transaction.begin")
    assert f"{begin.context.trace_id:032x}" == CALLER.split("-")[1]
    assert f"{parent(begin):016x}" == CALLER.split("-")[2]
    assert tx.metadata["tenant"] == "acme"
    assert tx.metadata["tracestate"] == "vendor=1"
    assert parsed_traceparent(tx.metadata["traceparent"]).span_id == at(begin)


def test_where_no_span_is_current_the_carrier_counts(make_seen):
    seen = make_seen(carrier={"traceparent": CALLER})
    with TransactionManager(telemetry=seen.telemetry) as manager:
        manager.begin()
        with seen.tracer.start_as_current_span("request"):
            manager.begin()
    first, second = [span for span in seen.spans if span.name == "transaction.begin"]
    assert f"{first.parent.span_id:016x}" == CALLER.split("-")[2]
    assert second.parent.span_id == at(seen.span("request"))


@pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])
@pytest.mark.parametrize("limit", [None, 30.0], ids=["unlimited", "timed"])
@pytest.mark.parametrize("driver", ["sync", "aio"])
def test_what_a_handler_does_stands_below_its_attempt(make_seen, is_async, limit, driver):
    seen = make_seen()

    def work(action, data, context: StepContext):
        with seen.tracer.start_as_current_span("http"):
            data["told"] = context.traceparent
        return {"told": context.traceparent}

    async def awaited(action, data, context: StepContext):
        await asyncio.sleep(0)
        return work(action, data, context)

    action = Action("call", awaited if is_async else work, timeout_seconds=limit)

    def check(result_output):
        attempt = seen.span("execute_tool call")
        assert parent(seen.span("http")) == at(attempt)
        assert parsed_traceparent(result_output["told"]).span_id == at(attempt)

    async def aio():
        async with AsyncTransactionManager(actions=[action], telemetry=seen.telemetry) as manager:
            async with manager.transaction() as tx:
                output = await tx.execute("a", "call", {})
            assert not trace.get_current_span().get_span_context().is_valid
            return output

    if driver == "aio":
        check(asyncio.run(aio()))
        return
    with TransactionManager(actions=[action], telemetry=seen.telemetry) as manager:
        with manager.transaction() as tx:
            output = tx.execute("a", "call", {})
        assert not trace.get_current_span().get_span_context().is_valid
    check(output)


def test_the_journal_names_the_trace_and_the_span_of_each_attempt(manager, seen):
    result = trip(manager)
    begin = seen.span("transaction.begin")
    events = manager.get_events(result.transaction_id)
    plan = events[0].fields["definition"]
    assert parsed_traceparent(plan["metadata"]["traceparent"]).span_id == at(begin)
    started = [event for event in events if event.kind == "step_started"]
    assert [parsed_traceparent(event.fields["traceparent"]).span_id for event in started] == [
        at(seen.span("execute_tool book")),
        at(seen.span("execute_tool stay")),
    ]


# -------------------------------------------------------------------------- several processes


def test_one_that_was_begun_without_telemetry_is_still_one_trace(make_seen, tmp_path):
    path = tmp_path / "t.db"
    with TransactionManager({"book": nothing}, store=path) as plain:
        tx = plain.begin(name="trip")
        plain.add_step(tx, "a", "book", {})
        plain.add_step(tx, "a", "book", {})
        plain.submit(tx)
    seen = make_seen()
    with TransactionManager({"book": nothing}, store=path, telemetry=seen.telemetry) as other:
        other.recover()
    assert sorted(seen.names) == ["execute_tool book", "execute_tool book", "transaction trip"]
    assert len({(span.context.trace_id, parent(span)) for span in seen.spans}) == 1


def test_the_same_key_finds_what_was_begun_in_another_trace(manager, seen):
    first = manager.begin(idempotency_key="order-1")
    with seen.tracer.start_as_current_span("again"):
        second = manager.begin(idempotency_key="order-1")
    assert second.transaction_id == first.transaction_id
    assert second.metadata == first.metadata
    assert seen.names.count("transaction.begin") == 1


def test_the_same_key_is_found_without_telemetry(seen, tmp_path):
    path = tmp_path / "t.db"
    with TransactionManager(store=path, telemetry=seen.telemetry) as watched:
        first = watched.begin(idempotency_key="order-1").transaction_id
    with TransactionManager(store=path) as plain:
        assert plain.begin(idempotency_key="order-1").transaction_id == first


# ------------------------------------------------------------------------------ hostile journals


HOSTILE = [
    "",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n",
    "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    "00-\uff10af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "x\r\nEvil: 1",
    "9" * 10_000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_traceparent_in_a_journal_is_no_traceparent(seen, tmp_path, text):
    path = tmp_path / "t.db"
    told = []

    def book(action, data, context: StepContext):
        told.append((context.traceparent, context.tracestate))

    with TransactionManager({"book": book}, store=path) as plain:
        tx = plain.begin(metadata={"traceparent": text[:1_000], "tracestate": "a=1\r\nEvil: 1"})
        plain.add_step(tx, "a", "book", {})
        plain.submit(tx)
    with TransactionManager({"book": book}, store=path, telemetry=seen.telemetry) as other:
        (report,) = other.recover()
    assert report.result.state == "committed"
    ((traceparent, tracestate),) = told
    place = parsed_traceparent(traceparent)
    assert place.span_id == at(seen.span("execute_tool book"))
    assert f"{place.trace_id:032x}" != "0af7651916cd43dd8448eb211c80319c"
    assert tracestate is None


def test_hostile_names_become_harmless_and_short_in_spans(seen):
    name = "a\x1b]0;\u202e\nb" + "x" * 900
    with TransactionManager({name: nothing}, telemetry=seen.telemetry) as manager:
        tx = manager.begin(name=name)
        manager.add_step(tx, name, name, {})
        manager.commit(tx)
    for span in seen.spans:
        assert span.name.isprintable()
        assert len(span.name) < 350
        assert all(str(value).isprintable() for value in span.attributes.values())


# ----------------------------------------------------------------------- nothing depends on it


class Raising:
    """Be a telemetry of which everything raises."""

    def __getattr__(self, name):
        def fail(*_arguments):
            raise RuntimeError(name)

        return fail


def test_telemetry_that_raises_changes_nothing_and_is_logged_once(caplog):
    actions = {"book": nothing, "unbook": nothing, "stay": refuse}
    with TransactionManager(actions, telemetry=Raising()) as manager:
        result = trip(manager)
        trip(manager)
    assert result.state == "rolled_back"
    assert result.warnings == []
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(set(said)) > 3


def test_an_exporter_that_raises_changes_nothing(make_seen):
    seen = make_seen()

    def fail(_spans):
        raise RuntimeError("no route")

    seen.exporter.export = fail
    with TransactionManager({"book": nothing}, telemetry=seen.telemetry) as manager:
        assert trip(manager, fails=False).state == "committed"


def test_an_exporter_that_hangs_holds_nothing_up(make_seen, monkeypatch):
    seen, gate = make_seen(), threading.Event()
    export = seen.exporter.export

    def hang(spans):
        gate.wait()
        return export(spans)

    seen.exporter.export = hang
    monkeypatch.setattr("aumai_transactions.drivers.telemetry.FLUSH_SECONDS_MAX", 0.01)
    manager = TransactionManager({"book": nothing}, telemetry=seen.telemetry)
    assert trip(manager, fails=False).state == "committed"
    manager.close()
    assert seen.exporter.get_finished_spans() == ()
    gate.set()
    assert "transaction trip" in seen.names


def test_without_the_package_there_is_a_clear_error():
    program = """
        import sys
        sys.modules["opentelemetry"] = None
        from aumai_transactions import TransactionManager
        from aumai_transactions.errors import DefinitionError
        from aumai_transactions.telemetry import OpenTelemetry
        try:
            OpenTelemetry()
        except DefinitionError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True
    )
    assert "pip install 'aumai-transactions[otel]'" in done.stdout


def test_whoever_does_not_ask_for_it_imports_nothing_of_it():
    program = """
        import sys
        import aumai_transactions, aumai_transactions.telemetry
        from aumai_transactions import TransactionManager
        with TransactionManager({"a": lambda action, data: None}) as manager:
            tx = manager.begin()
            manager.add_step(tx, "x", "a", {})
            manager.commit(tx)
        print([name for name in sys.modules if name.split(".")[0] == "opentelemetry"])
        print("aumai_transactions.telemetry" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[0] == "[]"


def test_without_telemetry_nothing_of_it_is_ever_called():
    called = set()

    def look(frame, kind, _argument):
        if kind == "call":
            called.add(frame.f_code.co_filename.rpartition("aumai_transactions/")[2])

    with TransactionManager({"book": nothing, "unbook": nothing, "stay": refuse}) as manager:
        sys.setprofile(look)
        try:
            trip(manager)
            with manager.transaction() as tx:
                tx.execute("a", "book", {})
        finally:
            sys.setprofile(None)
    assert "drivers/driving.py" in called
    of_it = {"drivers/telemetry.py", "drivers/hooks.py", "core/tracing.py"}
    assert {name for name in called if name in of_it or name.startswith("telemetry/")} == set()


def test_what_is_no_telemetry_is_refused():
    with pytest.raises(DefinitionError, match=r"telemetry must be an OpenTelemetry\(\)"):
        TransactionManager(telemetry=True)


def test_without_an_sdk_the_callers_trace_goes_through(make_seen):
    from opentelemetry.trace import NoOpTracerProvider

    from aumai_transactions.telemetry import OpenTelemetry

    told = []

    def book(action, data, context: StepContext):
        told.append(context.traceparent)

    telemetry = OpenTelemetry(tracer_provider=NoOpTracerProvider())
    with TransactionManager({"book": book}, telemetry=telemetry) as manager:
        for metadata in ({"traceparent": CALLER}, {}):
            tx = manager.begin(metadata=metadata)
            manager.add_step(tx, "a", "book", {})
            manager.commit(tx)
    assert told == [CALLER, None]


def test_how_long_it_takes_is_measured_from_the_journal(seen, clock):

    def slow(action, data):
        clock.advance(3)

    with TransactionManager({"book": slow}, telemetry=seen.telemetry, clock=clock) as manager:
        tx = manager.begin()
        manager.add_step(tx, "a", "book", {})
        manager.commit(tx)
    span = seen.span("execute_tool book")
    assert span.end_time - span.start_time == 3_000_000_000
