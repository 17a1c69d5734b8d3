"""Whoever is called is told below which span: by headers, or by environment variables."""
# mypy: disable-error-code="attr-defined, union-attr, var-annotated"

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry import baggage
from opentelemetry import context as contexts
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aumai_transactions import TransactionManager
from aumai_transactions.core.tracing import parsed_traceparent
from aumai_transactions.participants.http import http_action
from aumai_transactions.plans import actions_for
from aumai_transactions.telemetry import OpenTelemetry

CALLER = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1",
}
OTHERS = "00-11111111111111111111111111111111-2222222222222222-01"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def telemetry(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OpenTelemetry(tracer_provider=provider)


@pytest.fixture
def service():
    """A service that keeps the headers of each request, as pairs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.told.append((self.path, self.headers.items()))
            self.send_response(400 if self.path == "/refuse" else 204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.told = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(manager, *steps, **options):
    tx = manager.begin(**options)
    for action, undo in steps:
        manager.add_step(tx, "a", action, {}, undo)
    return manager.commit(tx)


def named(pairs, name):
    return [text for key, text in pairs if key.lower() == name]


def span_ids(exporter, telemetry):
    telemetry.flush(30)
    return {span.name: span.context.span_id for span in exporter.get_finished_spans()}


def test_a_service_is_told_the_span_of_each_call(service, telemetry, exporter):
    url = f"http://127.0.0.1:{service.server_port}"
    actions = [http_action(name, url=f"{url}/{name}") for name in ("book", "refuse", "unbook")]
    token = contexts.attach(baggage.set_baggage("secret", "s3cr3t"))
    with TransactionManager(actions=actions, telemetry=telemetry) as manager:
        result = run(manager, ("book", "unbook"), ("refuse", None), metadata=CALLER)
    contexts.detach(token)
    assert result.state == "rolled_back"
    ids = span_ids(exporter, telemetry)
    found = {path: named(pairs, "traceparent") for path, pairs in service.told}
    places = {path: parsed_traceparent(texts[0]) for path, texts in found.items()}
    assert {path: len(texts) for path, texts in found.items()} == dict.fromkeys(found, 1)
    assert {path: place.span_id for path, place in places.items()} == {
        "/book": ids["execute_tool book"],
        "/refuse": ids["execute_tool refuse"],
        "/unbook": ids["compensate unbook"],
    }
    assert {f"{place.trace_id:032x}" for place in places.values()} == {
        CALLER["traceparent"].split("-")[1]
    }
    for _, pairs in service.told:
        assert named(pairs, "tracestate") == ["vendor=1"]
        assert named(pairs, "baggage") == []


def test_without_telemetry_a_service_is_told_nothing_of_it(service):
    url = f"http://127.0.0.1:{service.server_port}/book"
    with TransactionManager(actions=[http_action("book", url=url)]) as manager:
        run(manager, ("book", None), metadata=CALLER)
    ((_, pairs),) = service.told
    assert named(pairs, "traceparent") == named(pairs, "tracestate") == []


def test_a_header_of_the_author_is_sent_once_and_as_it_is(service, telemetry):
    url = f"http://127.0.0.1:{service.server_port}/book"
    action = http_action("book", url=url, headers={"TraceParent": OTHERS})
    with TransactionManager(actions=[action], telemetry=telemetry) as manager:
        run(manager, ("book", None))
    ((_, pairs),) = service.told
    assert named(pairs, "traceparent") == [OTHERS]


PRINT = (
    "import json, os; print(json.dumps([os.environ.get(n) for n in ('TRACEPARENT', 'TRACESTATE')]))"
)


def command(manager_options, **keys):
    definition = {"kind": "command", "argv": [sys.executable, "-c", PRINT], **keys}
    with (
        TransactionManager(actions=actions_for({"ask": definition}), **manager_options) as manager,
        manager.transaction() as tx,
    ):
        return tx.execute("a", "ask", {})


def test_a_program_is_told_its_span_and_nothing_of_the_one_of_this_process(
    telemetry, exporter, monkeypatch
):
    monkeypatch.setenv("TRACEPARENT", OTHERS)
    monkeypatch.setenv("TRACESTATE", "others=1")
    traceparent, tracestate = command({"telemetry": telemetry})
    place = parsed_traceparent(traceparent)
    assert place.span_id == span_ids(exporter, telemetry)["execute_tool ask"]
    assert tracestate == ""


def test_a_variable_of_the_author_is_set_as_it_is(telemetry):
    assert command({"telemetry": telemetry}, env={"TRACEPARENT": "mine"})[0] == "mine"


def test_without_telemetry_a_program_inherits_as_ever(monkeypatch):
    monkeypatch.setenv("TRACEPARENT", OTHERS)
    monkeypatch.delenv("TRACESTATE", raising=False)
    assert json.dumps(command({})) == json.dumps([OTHERS, None])


def test_a_gateways_server_is_told_the_span_in_its_meta(telemetry, exporter):
    from mcp.shared._otel import inject_trace_context

    told = []

    def call(action, data):
        meta = {}
        inject_trace_context(meta)  # As the SDK does with every request that it sends.
        told.append(meta["traceparent"])

    with TransactionManager({"call": call}, telemetry=telemetry) as manager:
        run(manager, ("call", None))
    assert parsed_traceparent(told[0]).span_id == span_ids(exporter, telemetry)["execute_tool call"]
