"""What a receiver is told.

Owns: the body of a delivery, made of the journal.
Rules:
  1. It says how things stood behind the entry that it is about, however much has followed: every
     attempt sends the same bytes.
  2. What agents have sent and got stands in it only where the webhook asks for it, and what looks
     like a secret in that is painted over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core.codec import describe
from aumai_transactions.core.entries import ApprovalRequested, StepOutstanding
from aumai_transactions.core.journal import replay
from aumai_transactions.core.masking import masked
from aumai_transactions.core.outcome import attention_of
from aumai_transactions.core.saga import Saga
from aumai_transactions.core.times import instant
from aumai_transactions.core.values import canonical_json

if TYPE_CHECKING:
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.happenings import EventName
    from aumai_transactions.core.journal import Journal
    from aumai_transactions.outbox import Delivery

TYPES: dict[EventName, str] = {
    "finished": "transaction.finished",
    "attention": "transaction.attention",
    "approval": "step.approval",
    "outstanding": "step.outstanding",
    "entries": "transaction.entries",
}


def body_of(journal: Journal, delivery: Delivery, *, include_data: bool) -> bytes:
    """Return what is sent.

    Args:
        journal: Of the transaction.
        delivery: What it is about.
        include_data: True to send the data of entries as well.

    Raises:
        JournalCorrupt: The journal cannot be read.
        JournalTooNew: A newer release wrote it.
    """
    saga = Saga(journal.transaction_id)
    about: list[tuple[int, Entry]] = []
    at = 0
    for sequence, entry in enumerate(replay(journal, saga), 1):
        if sequence >= delivery.first:
            about.append((sequence, entry))
        if sequence == delivery.last:
            at = entry.at
            break
    definition = saga.plan
    metadata = definition.metadata or {}
    data: dict[str, Any] = {
        "transaction_id": journal.transaction_id,
        "name": definition.name,
        "tenant": metadata.get("tenant"),
        "state": saga.state.value,
        "reason": None if saga.reason is None else str(saga.reason),
        "attention": attention_of(saga),
        "sequence": delivery.last,
    }
    if delivery.event == "entries":
        data["entries"] = [
            _entry(sequence, entry, include_data=include_data) for sequence, entry in about
        ]
    elif about and isinstance(about[-1][1], ApprovalRequested | StepOutstanding):
        data |= _step(saga, about[-1][1], include_data=include_data)
    body = {"type": TYPES[delivery.event], "timestamp": _time(at), "data": data}
    return canonical_json(body)


def _step(
    saga: Saga, entry: ApprovalRequested | StepOutstanding, *, include_data: bool
) -> dict[str, Any]:
    step = saga.by_id[entry.step_id]
    found: dict[str, Any] = {
        "step_id": entry.step_id,
        "agent_id": step.definition.agent_id,
        "action": step.definition.action,
        "compensating_action": step.definition.compensating_action,
    }
    if isinstance(entry, StepOutstanding):
        return found | {"outstanding": entry.reason}
    found |= {"digest": entry.digest, "until": None if entry.until is None else _time(entry.until)}
    return found | ({"data": masked(step.resolved_data)} if include_data else {})


def _entry(sequence: int, entry: Entry, *, include_data: bool) -> dict[str, Any]:
    kind, fields = describe(entry)
    found: dict[str, Any] = {"sequence": sequence, "kind": kind, "at": _time(entry.at)}
    if include_data:
        found["data"] = masked({name: value for name, value in fields.items() if name != "at"})
    elif isinstance(step_id := fields.get("step_id"), str):
        found["step_id"] = step_id
    return found


def _time(microseconds: int) -> str:
    return instant(microseconds).isoformat(timespec="microseconds").replace("+00:00", "Z")
