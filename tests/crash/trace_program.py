"""One process of a transaction that crosses several, with OpenTelemetry's own SDK and exporter.

Its arguments: what to do (`begin`, `work`, `recover`), the store, the folder for signs, and in
which handler to stand still for ever, or `at-the-end` to die where the last span is to be sent.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from aumai_transactions import TransactionManager, Worker
from aumai_transactions.telemetry import OpenTelemetry

ROLE, STORE, FOLDER, STOPS_IN = sys.argv[1:5]


class Exporter(OTLPSpanExporter):
    """Send spans, or die at the last one."""

    def export(self, spans):
        if STOPS_IN == "at-the-end" and any(one.name.startswith("transaction ") for one in spans):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().export(spans)


provider = TracerProvider(resource=Resource.create({"service.name": ROLE}))
provider.add_span_processor(SimpleSpanProcessor(Exporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("program")
telemetry = OpenTelemetry()


def act(action, data):
    with tracer.start_as_current_span(f"http {action}"):
        pass
    if action == STOPS_IN:
        # What has happened so far has arrived; what happens now never will.
        telemetry.flush(30)
        (Path(FOLDER) / "stands").touch()
        threading.Event().wait()


names = ["book", "stay", "pay", "unbook", "leave", "refund"]
manager = TransactionManager(dict.fromkeys(names, act), store=STORE, telemetry=telemetry)
with manager:
    if ROLE == "begin":
        with tracer.start_as_current_span("request"):
            tx = manager.begin(timeout_seconds=600, name="trip", on_crash="roll_back")
            for action, undo in zip(names[:3], names[3:], strict=True):
                manager.add_step(tx, f"{action}_agent", action, {}, undo)
            manager.submit(tx)
        print(tx.transaction_id)
    elif ROLE == "work":
        Worker(manager, concurrency=1).run(until_idle=True)
    else:
        for report in manager.recover():
            print(report.detail)
