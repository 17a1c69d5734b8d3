"""Whether a command tells OpenTelemetry what it does.

Owns: that a command does so where its environment is set up for it, and loads nothing otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from aumai_transactions.errors import DefinitionError
from aumai_transactions.telemetry.open_telemetry import OpenTelemetry

_PREFIX = "OTEL_"
_DISABLED = "OTEL_SDK_DISABLED"


def telemetry_here(environment: Mapping[str, str]) -> OpenTelemetry | None:
    """Return what watches a command's managers; None where nobody has asked for it.

    Somebody has where a variable `OTEL_…` is set, or a provider is set up in this process, as by
    `opentelemetry-instrument` or the module that `--app` names; unless `OTEL_SDK_DISABLED` is true,
    or the extra `otel` is not installed. `TRACEPARENT` and `TRACESTATE` name the caller.

    Args:
        environment: The environment variables.
    """
    if environment.get(_DISABLED, "").strip().lower() == "true":
        return None
    is_asked_for = any(name.startswith(_PREFIX) for name in environment)
    if not is_asked_for and not _has_provider():
        return None
    carrier = {name.lower(): environment.get(name, "") for name in ("TRACEPARENT", "TRACESTATE")}
    try:
        return OpenTelemetry(carrier=carrier)
    except DefinitionError:
        return None


def _has_provider() -> bool:
    # Why not imported: where nobody has, no provider is set up.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return False
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
