"""Everything this package raises on purpose, split by who can act on it.

    TransactionError                    everything raised on purpose
      InvalidTransactionState           the call does not fit the state; names both
        TransactionNotActive            it has ended or is ending; nothing was done
        CommitPointPassed               it can only go forward; nothing was changed
      NoActiveTransaction               a step that needs a transaction was called outside one
      StepInDoubt                       nobody knows whether a step happened; see .undone
      StepUndone                        a step was undone while its caller waited for it
      ApprovalPending                   a person has not allowed a step yet; ask again later
      UndoRefused                       something in force depends on what was to be undone
      DefinitionError                   the plan is wrong; raised before anything of it runs
        UnknownAction                   no handler has this name, and a dry run is not allowed here
        DuplicateStep                   two steps share one step id
        UnknownStep                     a step names another step that does not exist
        DependencyCycle                 steps wait for each other in a circle
        IrreversibleBeforeCompensatable what cannot be undone stands before what may be
        PlanFileError                   a plan file cannot be used; names file, table and key
        IdempotencyKeyReused            a key was used again for another plan
      InvalidData                       a value cannot be written to the journal; names the key
      TransactionRolledBack             wanted a commit, got a rollback: see .result
        TransactionExpired              the deadline had passed before anything ran (state `failed`)
        ReadConflict                    what was read has changed before the commit point
      TransactionNotFinal               wanted an outcome, something is still waiting: .result
      StoreError                        the journal could not do what was asked
        StoreUnavailable                transient: trying again is safe
        JournalConflict                 someone else drives this transaction: stop, do nothing more
        TransactionNotFound             the store does not hold this transaction
        StoreNotFound                   there is no store at this place
        StoreFormatError                what is at this place is not a store of ours
        SchemaVersionError              the store was written by a newer release
        JournalCorrupt                  an entry was edited, removed or reordered
        JournalTooNew                   an entry was written by a newer release
      InternalError                     our bug; asks for a report, carries the journal's tail

Raised *by* a handler to steer the core: `StepRejected`, `NotDelivered`, `RetryLater`,
`OutcomeUnknown`.

Rules:
  1. Attributes first, message second: whoever catches an error need not parse its text.
  2. A message says what happened, to which transaction, and what to do next.
  3. Nothing third-party crosses our boundary bare; it is the `__cause__`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.models import TransactionResult


class _Portable(Exception):
    """Let an error cross a process boundary as it is, whatever its constructor takes."""

    def __reduce__(self) -> tuple[object, ...]:
        """Say how a copy is made: without calling the constructor again on the message."""
        return _copied, (type(self), self.args, self.__dict__)


def _copied(
    kind: type[BaseException], args: tuple[object, ...], attributes: dict[str, object]
) -> BaseException:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class TransactionError(_Portable):
    """Stand at the root of everything that this package raises on purpose."""


class InvalidTransactionState(TransactionError):
    """Say that a call does not fit the state of its transaction.

    Args:
        transaction_id: The transaction that the call was about.
        state: The state that it is in.
        call: What was asked for, such as `commit`.
        hint: What to do next; a full sentence.
    """

    def __init__(self, transaction_id: str, state: str, call: str, hint: str = "") -> None:
        self.transaction_id = transaction_id
        self.state = state
        self.call = call
        self.hint = hint
        message = f"cannot {call} transaction {transaction_id}: it is {state}."
        super().__init__(f"{message} {hint}".rstrip())


class TransactionNotActive(InvalidTransactionState):
    """Say that a transaction has ended, or is ending, so that nothing was done in it."""


class CommitPointPassed(InvalidTransactionState):
    """Say that the commit was decided, so that the transaction only goes forward."""

    def __init__(self, transaction_id: str, state: str, call: str, hint: str = "") -> None:
        told = hint or "Its commit point is passed, and nothing was changed; it goes on forward."
        super().__init__(transaction_id, state, call, told)


class NoActiveTransaction(TransactionError):
    """Say that a step that must run in a transaction was called outside one; nothing was done.

    Args:
        what: The step, or what else needs a transaction.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} must run inside a transaction, and there is none here. Call it inside "
            "`with transaction():`; in a thread of your own, pass it through tx.bind(function)."
        )


class StepInDoubt(TransactionError):
    """Say that nobody knows whether a step happened.

    Args:
        transaction_id: The transaction; it goes on.
        step_id: The step.
        undone: True where the step was undone, so that it does not matter any more; False where a
            person must say what happened before the transaction can commit.
        detail: What the call raised.
    """

    def __init__(self, transaction_id: str, step_id: str, detail: str, *, undone: bool) -> None:
        self.transaction_id = transaction_id
        self.step_id = step_id
        self.detail = detail
        self.undone = undone
        then = (
            "It was undone; try something else, or the same again."
            if undone
            else "A person must find out before the transaction can commit: "
            f"aumai-transactions resolve {transaction_id} {step_id} --happened | --did-not-happen"
        )
        super().__init__(
            f"nobody knows whether step {step_id} of transaction {transaction_id} happened "
            f"({detail}). {then}"
        )


class StepUndone(TransactionError):
    """Say that a step was undone, or left out, while its caller waited for it.

    Args:
        transaction_id: The transaction; it goes on.
        step_id: The step.
        why: What undid it.
    """

    def __init__(self, transaction_id: str, step_id: str, why: str) -> None:
        self.transaction_id = transaction_id
        self.step_id = step_id
        self.why = why
        super().__init__(f"step {step_id} of transaction {transaction_id} is {why}.")


class ApprovalPending(TransactionError):
    """Say that a person has not allowed a step yet; the transaction goes on without it.

    Args:
        transaction_id: The transaction.
        step_id: The step.
        digest: Of what is to be allowed.
    """

    def __init__(self, transaction_id: str, step_id: str, digest: str) -> None:
        self.transaction_id = transaction_id
        self.step_id = step_id
        self.digest = digest
        super().__init__(
            f"step {step_id} of transaction {transaction_id} waits for an approval: "
            f"aumai-transactions approve {transaction_id} {step_id}. Then ask for the same step "
            "again."
        )


class UndoRefused(TransactionError):
    """Say that something cannot be undone alone, for what depends on it is still in force.

    Args:
        transaction_id: The transaction; nothing was changed.
        what: What was to be undone.
        dependants: The steps that depend on it.
    """

    def __init__(self, transaction_id: str, what: str, dependants: Sequence[str]) -> None:
        self.transaction_id = transaction_id
        self.what = what
        self.dependants = tuple(dependants)
        super().__init__(
            f"{what} of transaction {transaction_id} cannot be undone alone: "
            f"{', '.join(self.dependants)} would be left without it. Undo that first, or undo it "
            "together with what depends on it. Nothing was changed."
        )


class DefinitionError(TransactionError, ValueError):
    """Say that a plan, an action or an option is wrong, before anything of it runs."""


class UnknownAction(DefinitionError):
    """Say that an action has no handler where a dry run is not allowed.

    Args:
        actions: The names without a handler.
        transaction_id: The transaction that names them.
        hint: What to do next.
    """

    def __init__(self, actions: Sequence[str], transaction_id: str, hint: str) -> None:
        self.actions = tuple(actions)
        self.transaction_id = transaction_id
        named = ", ".join(repr(action) for action in self.actions)
        super().__init__(f"no handler for {named} in transaction {transaction_id}. {hint}")


class DuplicateStep(DefinitionError):
    """Say that two steps of one transaction share a step id."""

    def __init__(self, step_id: str, transaction_id: str) -> None:
        self.step_id = step_id
        self.transaction_id = transaction_id
        super().__init__(
            f"step id {step_id!r} stands twice in transaction {transaction_id}. "
            "Give each step an id of its own."
        )


class UnknownStep(DefinitionError):
    """Say that a step refers to a step that its transaction does not hold."""

    def __init__(self, step_id: str, named_by: str, transaction_id: str) -> None:
        self.step_id = step_id
        self.named_by = named_by
        self.transaction_id = transaction_id
        super().__init__(
            f"{named_by} of transaction {transaction_id} names step {step_id!r}, which does not "
            "exist. Name a step of the same transaction."
        )


class DependencyCycle(DefinitionError):
    """Say that steps wait for each other in a circle."""

    def __init__(self, cycle: Sequence[str], transaction_id: str) -> None:
        self.cycle = tuple(cycle)
        self.transaction_id = transaction_id
        path = " → ".join([*self.cycle, self.cycle[0]])
        super().__init__(
            f"the steps of transaction {transaction_id} wait for each other: {path}. "
            "Remove one of these dependencies."
        )


class IrreversibleBeforeCompensatable(DefinitionError):
    """Say that a step that nothing can undo stands before one that may have to be undone.

    Args:
        transaction_id: The transaction; nothing was run.
        irreversible: The step that cannot be undone.
        compensatable: The step behind it that may fail or be undone.
    """

    def __init__(self, transaction_id: str, irreversible: str, compensatable: str) -> None:
        self.transaction_id = transaction_id
        self.irreversible = irreversible
        self.compensatable = compensatable
        super().__init__(
            f"step {irreversible!r} of transaction {transaction_id} cannot be undone, and stands "
            f"before {compensatable!r}: if that fails, the first one stays. Put it last, hold it "
            "until the commit (on_commit=True), or insist with allow_irreversible_first=True."
        )


class PlanFileError(DefinitionError):
    """Say what is wrong in a plan file, and where.

    Args:
        file: The plan file as the user named it.
        where: Table and key, such as `steps[2].agent`; empty for the file as a whole.
        problem: What is wrong and what to write instead.
    """

    def __init__(self, file: str, where: str, problem: str) -> None:
        self.file = file
        self.where = where
        self.problem = problem
        place = f"{file}: {where}" if where else file
        super().__init__(f"{place}: {problem}")


class IdempotencyKeyReused(DefinitionError):
    """Say that an idempotency key was used again for something else; nothing was run.

    Args:
        key: The key.
        transaction_id: The transaction that has it.
        detail: What is different.
    """

    def __init__(self, key: str, transaction_id: str, detail: str) -> None:
        self.key = key
        self.transaction_id = transaction_id
        self.detail = detail
        super().__init__(
            f"the idempotency key {key!r} belongs to transaction {transaction_id}, and {detail}. "
            "Repeat the same plan, or use another key."
        )


class InvalidData(TransactionError, ValueError):
    """Say that a value cannot be written to the journal.

    Args:
        path: Where it stands, such as `$.user.born`.
        problem: What it is and what to write instead.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class TransactionRolledBack(TransactionError):
    """Say that a commit was wanted and a rollback came out.

    The exception that the failing step raised, where this process saw it, is the `__cause__`.

    Args:
        result: The whole outcome.
    """

    def __init__(self, result: TransactionResult) -> None:
        self.result = result
        parts = [f"transaction {result.transaction_id} is {result.state.value}"]
        if result.failed_step:
            parts.append(f"step {result.failed_step} failed")
        if result.error:
            parts.append(result.error)
        message = ": ".join(parts) + "."
        if result.outstanding:
            names = ", ".join(item.step_id for item in result.outstanding)
            message += f" Not undone, needs a person: {names} (see result.outstanding)."
        super().__init__(message)


class TransactionExpired(TransactionRolledBack):
    """Say that the deadline had passed before `commit()` began; nothing ran."""


class ReadConflict(TransactionRolledBack):
    """Say that what a step had read changed before the commit point, so that all was undone."""


class TransactionNotFinal(TransactionError):
    """Say that an outcome was asked for while the transaction still waits for something.

    Args:
        result: What is known so far; `result.waiting` says what it waits for.
    """

    def __init__(self, result: TransactionResult) -> None:
        self.result = result
        waiting = result.waiting.detail if result.waiting else "it is still running"
        super().__init__(
            f"transaction {result.transaction_id} is {result.state.value}, not final: {waiting}"
        )


class StoreError(TransactionError):
    """Say that the journal could not do what was asked of it."""


class StoreUnavailable(StoreError):
    """Say that the store could not be reached or written for now; trying again is safe.

    Args:
        message: What happened and what to do next.
        outcome_unknown: True where the write may or may not have become durable.
    """

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        self.outcome_unknown = outcome_unknown
        super().__init__(message)


class JournalConflict(StoreError):
    """Say that somebody else drives or has changed this transaction; whoever gets this stops.

    Args:
        transaction_id: The transaction.
        detail: What somebody else did, as far as it is known.
    """

    def __init__(self, transaction_id: str, detail: str) -> None:
        self.transaction_id = transaction_id
        super().__init__(
            f"transaction {transaction_id}: {detail}. Nothing more was done here; read it again "
            f"with get_transaction(), or: aumai-transactions show {transaction_id}"
        )


class TransactionNotFound(StoreError, KeyError):
    """Say that no transaction has this id here."""

    def __init__(self, transaction_id: str, place: str, hint: str = "") -> None:
        self.transaction_id = transaction_id
        self.place = place
        message = f"no transaction {transaction_id!r} in {place}."
        self.message = f"{message} {hint}".rstrip()
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the sentence itself; `KeyError` would put it in quotes."""
        return self.message


class StoreNotFound(StoreError):
    """Say that there is no store at a place where one was expected."""


class StoreFormatError(StoreError):
    """Say that what stands at this place is not a store of ours, or is damaged."""


class SchemaVersionError(StoreError):
    """Say that a newer release wrote this store.

    Args:
        place: The store.
        found: Its schema version.
        known: The newest schema version that this release reads.
    """

    def __init__(self, place: str, found: int, known: int) -> None:
        self.place = place
        self.found = found
        self.known = known
        super().__init__(
            f"{place} has schema version {found}; this release knows versions up to {known}. "
            "Install a newer aumai-transactions. Nothing was changed."
        )


class JournalCorrupt(StoreError):
    """Say that the journal of one transaction is not what was written.

    Args:
        transaction_id: The transaction; it is not executed any further, others are.
        sequence: The first entry that does not fit; 0 where no single one can be named.
        problem: What does not fit.
    """

    def __init__(self, transaction_id: str, sequence: int, problem: str) -> None:
        self.transaction_id = transaction_id
        self.sequence = sequence
        self.problem = problem
        super().__init__(
            f"the journal of transaction {transaction_id} is damaged at entry {sequence}: "
            f"{problem}. It is left as it is; compare it with a backup, and see: "
            f"aumai-transactions verify {transaction_id}"
        )


class JournalTooNew(StoreError):
    """Say that an entry was written by a newer release and cannot be read by this one.

    Args:
        transaction_id: The transaction; it is not executed any further, others are.
        sequence: The entry.
        found: What it is: a format version or an entry kind.
    """

    def __init__(self, transaction_id: str, sequence: int, found: str) -> None:
        self.transaction_id = transaction_id
        self.sequence = sequence
        self.found = found
        super().__init__(
            f"entry {sequence} of transaction {transaction_id} was written by a newer release "
            f"({found}). Install that release to go on with it; nothing was changed."
        )


class InternalError(TransactionError):
    """Say that this package broke a promise to itself; please report it.

    Args:
        message: Which invariant does not hold.
        journal_tail: The last entries of the transaction, as text.
    """

    def __init__(self, message: str, journal_tail: Sequence[str] = ()) -> None:
        self.journal_tail = tuple(journal_tail)
        tail = "".join(f"\n  {line}" for line in self.journal_tail)
        super().__init__(
            f"bug in aumai-transactions: {message} Please report it with this text.{tail}"
        )


class StepRejected(Exception):
    """Raise it in a handler to say: definitely not done, and trying again is pointless."""


class NotDelivered(Exception):
    """Raise it in a handler to say: not done, for nothing of this call ever left.

    It says nothing about an earlier attempt whose outcome is unknown, and trying again may help.
    """


class OutcomeUnknown(_Portable):
    """Raise it in a handler to say: it may or may not have happened (in doubt).

    Args:
        message: What is known.
        after_seconds: How long to wait at least before asking or calling again.
    """

    def __init__(self, message: str = "", after_seconds: float | None = None) -> None:
        self.after_seconds = after_seconds
        super().__init__(message)


class RetryLater(_Portable):
    """Raise it in a handler to say: not done, but worth another try later.

    Args:
        after_seconds: How long to wait at least.
    """

    def __init__(self, after_seconds: float, message: str = "") -> None:
        self.after_seconds = after_seconds
        super().__init__(message or f"try again in {after_seconds} s")
