"""A transaction that crosses processes, one of which is killed, arrives as one connected trace.

The receiver is a real HTTP server that reads what OpenTelemetry's own exporter sends.
"""
# mypy: disable-error-code="union-attr, var-annotated"

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from aumai_transactions import TransactionManager

pytestmark = pytest.mark.crash

PROGRAM = Path(__file__).with_name("trace_program.py")
GUARD_SECONDS = 100
ERROR = 2


class Span:
    """One span as it has arrived."""

    def __init__(self, span, service):
        self.name, self.service = span.name, service
        self.trace, self.id, self.parent = span.trace_id, span.span_id, span.parent_span_id
        self.links = [link.span_id for link in span.links]
        self.status = span.status.code
        self.begins, self.ends = span.start_time_unix_nano, span.end_time_unix_nano
        self.attributes = {
            one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes
        }


class Receiver:
    """Take spans in over OTLP/HTTP."""

    def __init__(self):
        arrived = self.spans = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                assert self.path == "/v1/traces"
                told = ExportTraceServiceRequest()
                told.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in told.resource_spans:
                    service = next(
                        one.value.string_value
                        for one in resource.resource.attributes
                        if one.key == "service.name"
                    )
                    for scope in resource.scope_spans:
                        arrived.extend(Span(span, service) for span in scope.spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def named(self, name):
        return [span for span in self.spans if span.name == name]

    def one(self, name):
        (found,) = self.named(name)
        return found


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def start(receiver, tmp_path):
    """Start a process with a role; what still runs at the end is killed."""
    environment = {key: text for key, text in os.environ.items() if "OTEL" not in key}
    environment |= {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.url, "NO_PROXY": "127.0.0.1"}
    started = []

    def make(role, stops_in="nowhere"):
        words = [sys.executable, str(PROGRAM), role, str(tmp_path / "t.db"), str(tmp_path)]
        process = subprocess.Popen(
            [*words, stops_in], env=environment, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield make
    for process in started:
        process.kill()
        process.communicate()


def finished(process):
    told, _ = process.communicate(timeout=GUARD_SECONDS)
    assert process.returncode == 0
    return told.strip()


def killed_in_the_midst(start, folder):
    """Begin in one process; kill a second one in the handler of the third step."""
    name = finished(start("begin"))
    worker = start("work", "pay")
    pause = threading.Event()
    for _ in range(GUARD_SECONDS * 50):
        if (folder / "stands").exists() or worker.poll() is not None:
            break
        pause.wait(0.02)
    assert (folder / "stands").exists()
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    return name


def test_three_processes_and_a_kill_are_one_connected_trace(receiver, start, tmp_path):
    name = killed_in_the_midst(start, tmp_path)
    assert finished(start("recover")) == "rolled back"

    spans = receiver.spans
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans)
    assert {span.trace for span in spans} == {receiver.one("request").trace}
    assert [span.name for span in spans if not span.parent] == ["request"]

    # One root of its own, below the caller's; and one summary, made by the process that ended it.
    begin, whole = receiver.one("transaction.begin"), receiver.one("transaction trip")
    assert begin.parent == receiver.one("request").id
    assert (begin.service, whole.service, whole.parent) == ("begin", "recover", begin.id)
    assert whole.attributes["aumai.transaction.id"] == name
    assert whole.attributes["aumai.transaction.outcome"] == "rolled_back"
    assert whole.status != ERROR

    # Each attempt stands once, by the process that made it; the one that died, by who found out.
    attempts = {span.name: span for span in spans if span.name.startswith("execute_tool")}
    assert {one: span.service for one, span in attempts.items()} == {
        "execute_tool book": "work",
        "execute_tool stay": "work",
        "execute_tool pay": "recover",
    }
    lost = attempts["execute_tool pay"]
    assert lost.attributes["aumai.transaction.lost"] is True
    assert lost.attributes["error.type"] == "crash"
    assert lost.status == ERROR
    (died,) = lost.links

    # Every parent has arrived; only what was done in the attempt that died hangs on its own span,
    # which its stand-in names.
    ours = [span for span in spans if span.name.split(" ")[0] not in ("request", "http")]
    assert {span.parent for span in ours if span is not begin} == {begin.id}
    orphans = {span.name: span.parent for span in spans if span.parent and span.parent not in by_id}
    assert orphans == {"http pay": died}
    assert receiver.one("http stay").parent == attempts["execute_tool stay"].id

    # What undoes a step, in another process, is linked to it.
    links = {span.name: span.links for span in spans if span.name.startswith("compensate")}
    assert links == {
        "compensate refund": [died],
        "compensate leave": [attempts["execute_tool stay"].id],
        "compensate unbook": [attempts["execute_tool book"].id],
    }
    assert receiver.one("http leave").parent == receiver.one("compensate leave").id
    for undo, forward in (("leave", "stay"), ("unbook", "book")):
        undone = receiver.one(f"compensate {undo}")
        assert (
            undone.attributes["aumai.transaction.compensates"]
            == (attempts[f"execute_tool {forward}"].attributes["aumai.transaction.step"])
        )
    assert all(whole.begins <= span.begins and span.ends <= whole.ends for span in ours[1:])


def test_who_dies_behind_the_end_leaves_no_summary_and_nobody_makes_a_second_one(
    receiver, start, tmp_path
):
    name = killed_in_the_midst(start, tmp_path)
    last = start("recover", "at-the-end")
    last.communicate(timeout=GUARD_SECONDS)
    assert last.returncode == -signal.SIGKILL
    assert finished(start("recover")) == ""

    with TransactionManager(store=tmp_path / "t.db") as manager:
        assert manager.get_result(name).state == "rolled_back"
    assert receiver.named("transaction trip") == []
    assert len(receiver.named("compensate unbook")) == 1
    assert len({span.trace for span in receiver.spans}) == 1
