"""Where spans and metrics of a test arrive."""
# mypy: disable-error-code="union-attr"

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aumai_transactions.telemetry import OpenTelemetry


class Seen:
    """Keep what telemetry has told."""

    def __init__(self, **options):
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.telemetry = OpenTelemetry(
            tracer_provider=self.tracers, meter_provider=self.meters, **options
        )
        self.tracer = self.tracers.get_tracer("test")

    @property
    def spans(self):
        assert self.telemetry._outlet.flush(30)
        return list(self.exporter.get_finished_spans())

    @property
    def names(self):
        return [span.name for span in self.spans]

    def span(self, name):
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, (name, self.names)
        return found[0]

    def points(self, name):
        """Return the points of a metric, by their attributes."""
        assert self.telemetry._outlet.flush(30)
        data = self.reader.get_metrics_data()
        found = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            found[tuple(sorted(point.attributes.items()))] = point
        return found


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def make_seen():
    return Seen
