"""Log lines for machines.

Owns: how a record of `logging` becomes one JSON object on one line.
Rules:
  1. One record is one line, whatever agents have put into names and errors: control characters,
     direction marks and the like stand escaped (OWASP ASVS 16.4.1).
  2. Only the fields of `FIELDS` are taken from what a record carries besides, so that nothing gets
     into a line by accident.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from aumai_transactions.models import Event

FIELDS = (
    "transaction_id",
    "step_id",
    "attempt",
    "kind",
    "state",
    "outcome",
    "error_type",
    "action",
    "driver_id",
    "resource",
)
"""What the library's own records carry in `extra`, where they are about such a thing."""

_LOUD = {
    "step_in_doubt": logging.WARNING,
    "step_outstanding": logging.WARNING,
    "compensation_failed": logging.WARNING,
    "confirmation_failed": logging.WARNING,
    "approval_requested": logging.INFO,
    "rollback_started": logging.INFO,
    "transaction_committed": logging.INFO,
    "transaction_rolled_back": logging.INFO,
    "transaction_expired": logging.WARNING,
}
"""How loud entries are that are worth more than `DEBUG`."""

journal_log = logging.getLogger("aumai_transactions.journal")


def log_event(event: Event) -> None:
    """Log a journal entry; give it to a manager as `on_event`.

    To the logger `aumai_transactions.journal`, with the fields of `FIELDS`; never with a step's
    data, what it returned, or the text of an error.
    """
    level = _LOUD.get(event.kind, logging.DEBUG)
    if not journal_log.isEnabledFor(level):
        return
    error = event.fields.get("error")
    told = {
        "transaction_id": event.transaction_id,
        "step_id": event.step_id,
        "attempt": event.fields.get("attempt"),
        "kind": event.kind,
        "state": event.state.value,
        "error_type": error.get("type") if isinstance(error, dict) else None,
        "driver_id": event.fields.get("driver_id"),
    }
    step = "" if event.step_id is None else f" step {event.step_id}"
    about = f"transaction {event.transaction_id}{step}"
    journal_log.log(level, "%s: %s", about, event.kind.replace("_", " "), extra=told)


def wanted_log_event() -> Callable[[Event], None] | None:
    """Return `log_event`, or None where nothing of it would be logged anyhow."""
    return log_event if journal_log.isEnabledFor(logging.WARNING) else None


TEXT_CHARACTERS_MAX = 20_000


class JsonLogFormatter(logging.Formatter):
    """Write each record as one JSON object on one line; give it to a handler of `logging`.

    `time` (UTC, RFC 3339), `level`, `logger`, `message`; where there are some: the fields of
    `FIELDS`, `exception` with a traceback, and the `trace_id` and `span_id` of the current span of
    OpenTelemetry.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        told: dict[str, Any] = {
            "time": _instant(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _bounded(_message(record)),
        }
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                told[name] = value if type(value) in (int, bool) else _bounded(str(value))
        told |= _current_span()
        if record.exc_info:
            told["exception"] = _bounded(self.formatException(record.exc_info))
        return "".join(_escaped(one) for one in json.dumps(told, ensure_ascii=False))


def _escaped(character: str) -> str:
    r"""Return a character of JSON text as it is, or, where it does not print, as `\u…`."""
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _bounded(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "…"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 (a record that cannot be written must be seen)
        return f"{record.msg!s} (its arguments do not fit: {type(error).__name__})"


def _instant(created: float) -> str:
    at = datetime.fromtimestamp(created, UTC).isoformat(timespec="microseconds")
    return at.replace("+00:00", "Z")


def _current_span() -> dict[str, str]:
    # Why not imported: where nobody has, there is no current span.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    place = trace.get_current_span().get_span_context()
    if not place.is_valid:
        return {}
    return {"trace_id": f"{place.trace_id:032x}", "span_id": f"{place.span_id:016x}"}
