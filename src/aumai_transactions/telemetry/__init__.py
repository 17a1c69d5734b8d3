"""What is to be seen from outside of running transactions: traces, metrics and log lines.

Owns: the public names for it. Nothing else of the package imports it but the faces, and it loads
OpenTelemetry only where somebody makes an `OpenTelemetry`.
"""

from aumai_transactions.telemetry.logs import JsonLogFormatter, log_event
from aumai_transactions.telemetry.open_telemetry import OpenTelemetry
from aumai_transactions.telemetry.prometheus import prometheus_text

__all__ = ["JsonLogFormatter", "OpenTelemetry", "log_event", "prometheus_text"]
