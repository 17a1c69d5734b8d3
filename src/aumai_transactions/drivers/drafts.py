"""A planned transaction that is put together in the journal, by one request after the other.

Owns: how such a draft is begun, and how a step is added to it. Nobody holds it in memory: what
stands in the journal is the draft, so whoever asks may ask any process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.core.decider import next_after
from aumai_transactions.core.entries import PlanRecorded
from aumai_transactions.core.journal import entries, load
from aumai_transactions.core.observations import PlanGiven
from aumai_transactions.core.saga import Saga
from aumai_transactions.core.shapes import check_shape
from aumai_transactions.core.states import PENDING
from aumai_transactions.drivers.desk import Desk, read_journal
from aumai_transactions.drivers.driving import (
    ALREADY_OURS,
    MOVED,
    append_request,
    decide_and_evolve,
)
from aumai_transactions.drivers.freezing import STEPS_MAX, frozen, frozen_step
from aumai_transactions.drivers.operations import Procedure, blocking
from aumai_transactions.drivers.run import Run
from aumai_transactions.drivers.terms import ANY, Request, Terms
from aumai_transactions.errors import DefinitionError, InvalidTransactionState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aumai_transactions.core.definition import Definition
    from aumai_transactions.core.journal import Journal
    from aumai_transactions.models import Transaction, TransactionStep

    MakeSteps = Callable[[Definition], Sequence[TransactionStep]]


class Drafted(NamedTuple):
    """Tell what a request made of a draft.

    Args:
        saga: The draft.
        steps: The ids of the steps that it added.
        is_replayed: True where an earlier request under the same key had made it.
    """

    saga: Saga
    steps: list[str]
    is_replayed: bool


def begin_draft(desk: Desk, transaction: Transaction, terms: Terms = ANY) -> Procedure[Drafted]:
    """Make a new planned transaction durable as it stands; or find what the request has made.

    Args:
        desk: The manager's.
        transaction: The transaction; under a key, its id has to follow from the key.
        terms: Which request it is.

    Raises:
        IdempotencyKeyReused: Another one was begun under the same key.
        DefinitionError: It cannot be.
    """
    name = transaction.transaction_id
    definition = frozen(transaction, desk.registry, desk.before_record)
    added = [step.step_id for step in definition.steps]
    while True:
        if terms.request is not None:
            journal = yield from blocking(lambda: desk.store.read(name))
            if journal is not None:
                if not terms.request.is_in(journal):
                    terms.request.check("", name)
                return Drafted(load(journal), added, is_replayed=True)
        run = Run(name, Saga(name), desk.registry)
        written = decide_and_evolve(desk, run, PlanGiven(definition))
        answer = yield from append_request(desk, run, written, terms.append_id(desk))
        if answer is not MOVED:
            desk.announce(run, written)
            return Drafted(run.saga, added, answer is ALREADY_OURS)


def add_to_draft(
    desk: Desk, transaction_id: str, make: MakeSteps, terms: Terms = ANY
) -> Procedure[Drafted]:
    """Add steps to a planned transaction that is pending yet.

    Args:
        desk: The manager's.
        transaction_id: The transaction.
        make: Given what is planned so far, return the steps to add.
        terms: Which request it is, and on which sequence alone it counts.

    Raises:
        InvalidTransactionState: It is not pending any more, or not planned.
        IdempotencyKeyReused: Something else was added under the same key.
        SequenceMoved: The journal has gone on; nothing was changed.
        DefinitionError: A step cannot be.
    """
    while True:
        journal = yield from read_journal(desk, transaction_id)
        saga = load(journal)
        if terms.request is not None and terms.request.is_in(journal):
            return Drafted(saga, _added_by(journal, terms.request), is_replayed=True)
        terms.check_sequence(saga)
        _require_draft(saga)
        plan = saga.plan
        steps = make(plan)
        run = Run(transaction_id, saga, desk.registry, sequence=saga.sequence)
        if len(plan.steps) + len(steps) > STEPS_MAX:
            raise DefinitionError(f"a transaction has {STEPS_MAX:,} steps at most. Split it.")
        added = [
            # Why the new ones only: the hook has seen the others, and what it made of them.
            frozen_step(step, place, desk.registry, desk.before_record)
            for place, step in enumerate(steps, len(plan.steps))
        ]
        definition = plan._replace(steps=(*plan.steps, *added))
        check_shape(definition, transaction_id, desk.registry.is_idempotent)
        written = decide_and_evolve(desk, run, PlanGiven(definition))
        names = [step.step_id for step in added]
        if not written:
            return Drafted(saga, names, is_replayed=False)
        answer = yield from append_request(desk, run, written, terms.append_id(desk))
        if answer is not MOVED:
            desk.announce(run, written)
            return Drafted(run.saga, names, answer is ALREADY_OURS)


def _added_by(journal: Journal, request: Request) -> list[str]:
    """Return the ids of the steps that an earlier request under the same key has added."""
    known = 0
    for entry_id, entry in entries(journal):
        if isinstance(entry, PlanRecorded):
            steps = entry.definition.steps
            if entry_id.startswith(f"{request.append_id}."):
                return [step.step_id for step in steps[known:]]
            known = len(steps)
    return []


def _require_draft(saga: Saga) -> None:
    if saga.state is PENDING and not saga.is_interactive and not saga.commit_requested:
        return
    state, hint = saga.state.value, next_after(saga.state)
    if saga.state is PENDING and saga.commit_requested:
        state, hint = "submitted", "It is carried out as it is; begin another one."
    raise InvalidTransactionState(saga.transaction_id, state, "add a step to", hint)
