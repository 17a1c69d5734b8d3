"""What a release makes of a journal, told in words that are not its own inner ones.

Owns: `reading_of`, which is what golden journals are compared by. What goes in is public or stored:
the models that `get_transaction` and `get_result` return, the summary that stores keep, and the
commands of `plan`. Fields are picked by name, so that a later release may add some.
"""
# mypy: disable-error-code="arg-type, dict-item, union-attr, var-annotated"

import hashlib
from typing import Any, NamedTuple

from aumai_transactions.core.codec import describe, encode
from aumai_transactions.core.commands import Call, Look, Record
from aumai_transactions.core.decider import advance
from aumai_transactions.core.journal import NO_HASH, Journal, StoredEntry, chain_hash, load
from aumai_transactions.core.observations import DriverArrived
from aumai_transactions.core.outcome import result_of, summary_of, transaction_of
from aumai_transactions.core.planning import plan
from aumai_transactions.core.values import canonical_json
from aumai_transactions.errors import TransactionError

HEIR = "heir"
SECOND = 1_000_000
LATER = 400 * 24 * 3_600 * SECOND

STEP = ("step_id", "agent_id", "action", "data", "compensating_action", "state", "scope_id")
RESULT = (
    *("state", "completed_steps", "failed_step", "error", "reason", "outputs"),
    *("compensated_steps", "uncompensated", "outstanding", "unverified", "simulated_steps"),
    *("warnings", "is_final", "clean", "started_at", "finished_at"),
)
WAITING = ("reason", "step_ids", "until")
SUMMARY = (
    *("state", "created_at", "updated_at", "timeout_seconds", "steps", "completed", "agents"),
    *("attention", "runnable", "due_at"),
)


class Reading(NamedTuple):
    """What one prefix of a journal means.

    Args:
        state: The transaction's state and its steps', for people.
        digest: Of all of `STEP`, `RESULT`, `WAITING` and `SUMMARY`.
        next: What is planned a second later.
        later: What is planned when all times are over; empty where that is the same.
        heir: What a driver appends, and then calls, that takes it over from a dead one.
    """

    state: str
    digest: str
    next: str
    later: str
    heir: str


def journal_of(transaction_id, bodies, token=0, driver_id=None):
    """Chain bodies as a store keeps them."""
    before, entries = NO_HASH, []
    for sequence, body in enumerate(bodies, 1):
        before = chain_hash(transaction_id, sequence, before, body)
        entries.append(StoredEntry(sequence, body, before))
    return Journal(transaction_id, tuple(entries), len(entries), before, token, driver_id)


def reading_of(journal: Journal) -> Reading:
    saga = load(journal)
    now = saga.updated_at + SECOND
    soon = commands_in(plan(saga, now))
    late = commands_in(plan(saga, saga.updated_at + LATER))
    return Reading(
        " ".join([saga.state.value, *(f"{s.step_id}={s.state.value}" for s in saga.steps)]),
        digest_of(saga),
        soon,
        "" if late == soon else late,
        inherited(load(journal), now),
    )


def digest_of(saga) -> str:
    transaction = transaction_of(saga).model_dump(mode="json")
    result = result_of(saga, durable=True).model_dump(mode="json")
    summary = summary_of(saga)
    waiting = result["waiting"]
    held: dict[str, Any] = {
        "steps": [{name: step[name] for name in STEP} for step in transaction["steps"]],
        "result": {name: result[name] for name in RESULT},
        "waiting": None if waiting is None else {name: waiting[name] for name in WAITING},
        "summary": {name: plain(getattr(summary, name)) for name in SUMMARY},
    }
    return hashlib.sha256(canonical_json(held)).hexdigest()[:16]


def plain(value):
    return list(value) if isinstance(value, tuple) else getattr(value, "value", value)


def commands_in(commands) -> str:
    return "; ".join(command_in(command) for command in commands)


def command_in(command) -> str:
    match command:
        case Record(entry):
            return f"record {entry_in(entry)}"
        case Call(operation, step, intent):
            attempt = "" if intent is None else f" {intent.attempt}"
            return f"call {operation} {step.step_id}{attempt}"
        case Look(names):
            return f"look at {' '.join(names)}"
        case _:
            raise TypeError(command)


def entry_in(entry) -> str:
    """Tell an entry by its kind, and what it is about; texts and times are left out."""
    kind, fields = describe(entry)
    told = [str(fields[name]) for name in ("step_id", "scope_id", "reason") if name in fields]
    return " ".join([kind, *told])


def inherited(saga, now) -> str:
    try:
        entries, calls = advance(saga, [DriverArrived(HEIR, takeover=True)], now)
    except TransactionError as error:
        return type(error).__name__
    return "; ".join([*map(entry_in, entries), *map(command_in, calls)])


def bodies_of(entries):
    """The bodies of entries, each with the id that it was appended under."""
    return [encode(entry, entry_id) for entry_id, entry in entries]
