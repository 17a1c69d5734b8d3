"""Every operation of the API: its path, who may ask for it, and what it takes and tells.

Owns: the one table from which both the routes and the OpenAPI document are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.web.api import answers, beginning, bodies, deciding, reading, streaming

if TYPE_CHECKING:
    from pydantic import BaseModel

    from aumai_transactions.web.principals import Scope
    from aumai_transactions.web.routing import Handle

PREFIX = "/api/v1"
_ONE = "/transactions/{transaction_id}"
_STEP = _ONE + "/steps/{step_id}"

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
OF_SEQUENCE, OF_STORE = "sequence", "store"


class Operation(NamedTuple):
    """Say what one operation is.

    Args:
        method: Its HTTP method.
        path: Its path below the prefix.
        name: What it is called in the document.
        handle: What serves it.
        needs: The scope that it needs.
        summary: What it does, in a few words.
        description: What is not obvious about it.
        answers: What it answers, by status; None for what is no model.
        query: What may stand behind the question mark.
        body: What it takes; None where it takes nothing.
        tag: What kind of ETag its answer has; None where it has none.
        media: In which form it answers.
    """

    method: str
    path: str
    name: str
    handle: Handle
    needs: Scope
    summary: str
    description: str
    answers: dict[int, type[BaseModel] | None]
    query: type[bodies.QueryModel] = bodies.NoQuery
    body: type[bodies.Body] | None = None
    tag: str | None = None
    media: str = JSON

    @property
    def is_change(self) -> bool:
        """True where it changes something."""
        return self.method == "POST"


def _shows(  # noqa: PLR0917 (a line of the table)
    path: str,
    name: str,
    handle: Handle,
    model: type[BaseModel] | None,
    summary: str,
    description: str,
    query: type[bodies.QueryModel] = bodies.NoQuery,
    tag: str | None = OF_STORE,
) -> Operation:
    found = {200: model}
    return Operation(
        "GET", path, name, handle, "read", summary, description, found, query, None, tag
    )


def _wish(  # noqa: PLR0917 (a line of the table)
    path: str,
    name: str,
    handle: Handle,
    needs: Scope,
    body: type[bodies.Body],
    summary: str,
    description: str,
) -> Operation:
    found: dict[int, type[BaseModel] | None] = {200: answers.Transaction, 202: answers.Transaction}
    return Operation(
        "POST",
        path,
        name,
        handle,
        needs,
        summary,
        description,
        found,
        bodies.NoQuery,
        body,
        OF_SEQUENCE,
    )


_READS = [
    _shows(
        "/transactions",
        "listTransactions",
        reading.list_transactions,
        answers.Lines,
        "List transactions",
        "Those that fit every filter, page by page. `metadata.KEY=VALUE` filters by what the "
        "metadata say, for any KEY. A search may answer with fewer items than `limit`, even none, "
        "and a `next`: it goes on there.",
        bodies.ListQuery,
    ),
    _shows(
        _ONE,
        "getTransaction",
        reading.get_transaction,
        answers.Transaction,
        "Show a transaction",
        "Its steps, its outcome so far, what it waits for, and what can be asked for now.",
        tag=OF_SEQUENCE,
    ),
    _shows(
        _ONE + "/events",
        "getEvents",
        reading.get_events,
        answers.Entries,
        "Show the journal of a transaction",
        "Entry by entry, each with its hash, which has been checked against the chain.",
        bodies.EventsQuery,
        OF_SEQUENCE,
    ),
    _shows(
        _ONE + "/preview",
        "previewRollback",
        reading.get_preview,
        answers.Preview,
        "Show what a rollback would do",
        "Which undos would be called, in which order, if every one of them worked. Nothing is "
        "called.",
        tag=OF_SEQUENCE,
    ),
    _shows(
        "/attention",
        "listAttention",
        reading.list_attention,
        answers.Needs,
        "List what needs a person",
        "Effects that may still stand, steps in doubt, approvals, and what is stuck; each with "
        "what can be answered.",
        bodies.AttentionQuery,
    ),
    _shows(
        "/actions",
        "listActions",
        reading.list_actions,
        answers.Callables,
        "List the actions that this server can call",
        "They are those of the `--app` and of the `--actions` file that it was started with. A "
        "planned transaction that is submitted may name others, which workers know.",
    ),
    _shows(
        "/locks",
        "listLocks",
        reading.list_locks,
        answers.Locks,
        "List who holds which resource, and who waits",
        "In the order of resources and queues. Not for a token of one tenant.",
        bodies.LocksQuery,
    ),
    _shows(
        "/workers",
        "listWorkers",
        reading.list_workers,
        answers.Workers,
        "List the drivers of transactions",
        "Workers, programs and servers that the store knows: whether each lives, and what it has. "
        "Not for a token of one tenant.",
    ),
    _shows(
        "/health",
        "getHealth",
        reading.get_health,
        answers.Health,
        "Show how the server and its store are",
        "With the number of transactions of each state. Not for a token of one tenant.",
    ),
]

_STREAM = Operation(
    "GET",
    "/events",
    "streamChanges",
    streaming.stream,
    "read",
    "Hear of changes as they come",
    "Server-sent events: `transaction` with what has changed, and `reset` where too much has "
    "changed to be told, so that lists are to be read again. With `Last-Event-ID` it goes on where "
    "a stream was cut off.",
    {200: None},
    bodies.StreamQuery,
    media=EVENT_STREAM,
)

_CHANGES = [
    Operation(
        "POST",
        "/transactions",
        "beginTransaction",
        beginning.begin,
        "act",
        "Begin a transaction",
        "A planned one is durable at once. An interactive one is durable with its first step; "
        "before that there is nothing to undo.",
        {201: answers.Transaction},
        bodies.NoQuery,
        bodies.TransactionBody,
        OF_SEQUENCE,
    ),
    Operation(
        "POST",
        _ONE + "/steps",
        "addStep",
        beginning.add_step,
        "act",
        "Add a step, or carry one out",
        "To a planned transaction the step is added (201). In an interactive one it is carried "
        "out: 200 with its output, 202 where it waits or runs yet; asked for again under the same "
        "`Idempotency-Key` it is the same step. 409 where it failed, is in doubt, or was undone.",
        {200: answers.Executed, 201: answers.Added, 202: answers.Executed},
        bodies.NoQuery,
        bodies.StepBody,
        OF_SEQUENCE,
    ),
    _wish(
        _ONE + "/submit",
        "submit",
        deciding.submit,
        "act",
        bodies.EmptyBody,
        "Leave a planned transaction to workers",
        "Any worker of the store that knows its actions carries it out.",
    ),
    _wish(
        _ONE + "/commit",
        "commit",
        deciding.commit,
        "act",
        bodies.EmptyBody,
        "Commit a transaction",
        "A planned one is carried out by this server; an interactive one is ended. 202 while it "
        "goes on; `Prefer: wait=30` waits for the outcome.",
    ),
    _wish(
        _ONE + "/rollback",
        "rollback",
        deciding.rollback,
        "act",
        bodies.NoteBody,
        "Undo a transaction",
        "With the scope `admin`, anybody's.",
    ),
    Operation(
        "POST",
        _ONE + "/savepoints",
        "makeSavepoint",
        deciding.make_savepoint,
        "act",
        "Make a savepoint",
        "What is carried out from now on belongs to it.",
        {201: answers.Transaction},
        bodies.NoQuery,
        bodies.SavepointBody,
        OF_SEQUENCE,
    ),
    Operation(
        "POST",
        _ONE + "/savepoints/{name}/rollback",
        "rollbackToSavepoint",
        deciding.rollback_savepoint,
        "act",
        "Undo what came after a savepoint",
        "The transaction goes on; it can go back to the savepoint again.",
        {200: answers.Transaction},
        bodies.NoQuery,
        bodies.EmptyBody,
        OF_SEQUENCE,
    ),
    _wish(
        _STEP + "/approve",
        "approve",
        deciding.approve,
        "admin",
        bodies.ApproveBody,
        "Allow a step",
        "With the digest that was shown, nothing else is allowed by it.",
    ),
    _wish(
        _STEP + "/deny",
        "deny",
        deciding.deny,
        "admin",
        bodies.NoteBody,
        "Refuse a step",
        "The transaction goes back.",
    ),
    _wish(
        _STEP + "/retry",
        "retry",
        deciding.retry,
        "admin",
        bodies.NoteBody,
        "Try a step, or its undo, once more now",
        "For one in doubt, one that waits for its next attempt, or an undo that failed.",
    ),
    _wish(
        _STEP + "/resolve",
        "resolve",
        deciding.resolve,
        "admin",
        bodies.ResolveBody,
        "Say what happened to a step, or what was done about it",
        "`happened` and `did_not_happen` of a step in doubt, `undone` and `left_in_place` of an "
        "effect that may stand. The note is required: it stands in the journal.",
    ),
    _wish(
        _ONE + "/trust",
        "trust",
        deciding.trust,
        "admin",
        bodies.NoteBody,
        "Let a transaction go on that came out of a backup",
        "What ran after the backup runs once more, with the same idempotency keys.",
    ),
    Operation(
        "POST",
        "/bulk",
        "bulk",
        deciding.bulk,
        "admin",
        "Ask the same of many transactions",
        "Each has its own outcome, and none stops the others.",
        {200: answers.Bulk},
        bodies.NoQuery,
        bodies.BulkBody,
    ),
]

OPERATIONS: list[Operation] = [*_READS, _STREAM, *_CHANGES]
