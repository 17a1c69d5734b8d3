"""A transaction that a program carries out step by step, from many threads and tasks.

Owns: who may change it when, and who makes which of its calls.
Rules:
  1. Everything that is decided about it is decided in a turn, under one lock, by the core; a turn
     ends when it is durable. No handler is called in a turn, so it is as short as a write.
  2. Whoever takes a turn makes the calls that it waits for; other calls are left to those who wait
     for them, and who are woken.
  3. Once a turn could not be recorded, or a call was lost, nothing more is done here: what became
     of it is settled from the journal, as after a crash.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from aumai_transactions.core.intents import occurrences
from aumai_transactions.core.observations import (
    DriverArrived,
    Observation,
    PlanGiven,
    StepAsked,
    UndoAsked,
)
from aumai_transactions.core.saga import Saga
from aumai_transactions.core.scopes import is_in_force
from aumai_transactions.core.states import COMMITTING, COMPENSATING
from aumai_transactions.drivers.ambient import CALLING
from aumai_transactions.drivers.desk import Desk, read_saga
from aumai_transactions.drivers.driving import stop, take_turn
from aumai_transactions.drivers.interests import Interest, StepInterest, goes_back, worth_making
from aumai_transactions.drivers.looks import Asked, Look, stands_in_line
from aumai_transactions.drivers.noticing import Noticed
from aumai_transactions.drivers.pauses import seconds_left
from aumai_transactions.drivers.run import Run
from aumai_transactions.drivers.terms import ANY, Terms
from aumai_transactions.errors import (
    CommitPointPassed,
    StoreError,
    StoreUnavailable,
    TransactionError,
    TransactionNotActive,
)

if TYPE_CHECKING:
    from aumai_transactions.core.commands import Call
    from aumai_transactions.core.definition import Definition
    from aumai_transactions.drivers.groups import Group
    from aumai_transactions.drivers.operations import Attendant, Inbox, Procedure
    from aumai_transactions.models import Event

T = TypeVar("T")


class _Turn:
    """Be a turn under the lock.

    Why beside the lock, and not in one: an interrupt right after the lock was taken would leave it
    taken for ever.
    """

    __slots__ = ("_shared",)

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, *_raised: object) -> None:
        """End."""
        if kind is not None and not issubclass(kind, Exception):
            self._shared.interrupted()


class Shared:
    """Hold one transaction that several may take part in.

    Args:
        run: It.
        definition: What it is defined as, while it is new; None where the journal says it.
        driver: What is seen when this process takes it.
    """

    def __init__(self, run: Run, definition: Definition | None, driver: DriverArrived) -> None:
        self.run = run
        run.shared = self
        self.lock = threading.Lock()
        self.broken: TransactionError | None = None
        self.has_let_go = self._was_decided = False
        self.closed: TransactionNotActive | None = None
        self.replayed: dict[str, int] = {}
        self.recorded: dict[str, list[str]] = {}
        self.noticed = Noticed(self)
        self.unfinished: dict[object, str] = {}
        self._definition, self._driver = definition, driver
        self._is_claimed = self._has_news = False
        self._todo: list[Call] = []
        self._inboxes: list[Inbox] = []
        self._in_hand: dict[int, list[Call]] = {}
        self._numbers = count(1)
        self._unclaimed: list[str] = []
        self._unannounced: deque[Event] = deque()
        self._announcing = threading.RLock()

    def free_scope_id(self, letter: str) -> str:
        """Return a name for a new group that no group of the transaction has.

        Args:
            letter: What it begins with.
        """
        while (name := f"{letter}{next(self._numbers)}") in self.saga.scopes:
            pass
        return name

    @property
    def saga(self) -> Saga:
        """What the journal says; to be looked at under the lock, but for its state."""
        return self.run.saga

    @property
    def is_begun(self) -> bool:
        """True once its first entries are durable."""
        return self._is_claimed

    @property
    def on_crash(self) -> str | None:
        """What is to become of it once its program has gone."""
        return (self._definition or self.saga.plan).on_crash

    # Why without the lock, here and in the next two: a turn may write for a while, and a task that
    # comes or goes must not hold its loop up for that. Each is one step on one list or dict.

    def join(self, inbox: Inbox) -> None:
        """Let somebody be woken whenever something happens."""
        self._inboxes.append(inbox)

    def part(self, inbox: Inbox | None, who: Attendant) -> None:
        """Let somebody go; what they had in hand is lost."""
        if inbox is not None:
            with contextlib.suppress(ValueError):
                self._inboxes.remove(inbox)
        if self._in_hand.pop(id(who), None):
            lost = "a call was interrupted before its outcome could be recorded."
            self._break(StoreUnavailable(lost))
            self._wake()

    def hear(self) -> None:
        """Let everybody look what somebody else has appended."""
        self._has_news = True
        self._wake()

    def turn(
        self,
        desk: Desk,
        who: Attendant,
        seen: list[Observation],
        interest: Interest,
        *,
        ended: Call | None = None,
        polls: bool = False,
    ) -> Procedure[Look]:
        """Decide on what was seen, make it durable, and tell how things stand; under the lock.

        Args:
            desk: The manager's.
            who: Who takes the turn.
            seen: What was seen.
            interest: What they wait for.
            ended: The call whose end was seen.
            polls: True to look as well whether somebody else has appended something.
        """
        with _Turn(self):
            yield from self._take(desk, who, seen, polls=polls)
            # Order matters: until its outcome is recorded, a call that is lost is known as such.
            if ended is not None:
                self._let_fall(who, ended)
            return self._look(desk, who, interest)

    def interrupted(self) -> None:
        """Take note that an interrupt came in a turn: nobody knows how things stand then."""
        self._break(StoreUnavailable("an interrupt came while it was being recorded."))
        self._wake()

    def _let_fall(self, who: Attendant, call: Call) -> None:
        in_hand = self._in_hand[id(who)]
        in_hand.remove(call)
        if not in_hand:
            del self._in_hand[id(who)]

    def undo(self, desk: Desk, who: Attendant, seen: UndoAsked) -> Procedure[tuple[str, ...]]:
        """Let a part be undone; return the steps that this is about; under the lock.

        Raises:
            UndoRefused: Something in force depends on it.
            InvalidTransactionState: Nothing can be undone in part any more.
        """
        with _Turn(self):
            before = [step.step_id for step in self.saga.steps if is_in_force(step)]
            yield from self._take(desk, who, [seen], polls=False)
            by_id = self.saga.by_id
            return tuple(name for name in before if not is_in_force(by_id[name]))

    def ask(
        self,
        desk: Desk,
        who: Attendant,
        seen: StepAsked,
        group: Group | None,
        *,
        once: bool,
        again: bool,
        terms: Terms = ANY,
    ) -> Procedure[Asked]:
        """Add a step, or find the one that was recorded for the same intent; under the lock.

        Args:
            desk: The manager's.
            who: Who asks.
            seen: The step.
            group: The group that it stands in.
            once: True where an equal one, asked for before, is the answer.
            again: True where it is not, whatever it was resumed with.
            terms: Which request it is, and on which sequence alone it counts.

        Raises:
            DefinitionError: The step cannot be.
            InvalidTransactionState: None can be added any more.
            SequenceMoved: The journal has gone on; nothing was changed.
        """
        with _Turn(self):
            found = None
            if terms is not ANY:
                if self._is_claimed and self.broken is None:
                    yield from self._reread(desk)
                found = terms.step_in(self.saga)
            if group is not None:
                self._refuse_over(group)
                self._place(group, seen.step.agent_id)
                step = seen.step._replace(scope_id=group.scope_id)
                seen = seen._replace(step=step, scopes=group.definitions())
            known = found if again or found else self._known(seen, once=once)
            if known is not None:
                return Asked(known, True, self._look(desk, who, StepInterest(known)))  # noqa: FBT003
            fork = self._fork(seen)
            seen = seen if fork is None else seen._replace(fork=fork)
            self.run.terms = terms
            try:
                yield from self._take(desk, who, [seen], polls=False)
            finally:
                self.run.terms = ANY
            step_id = self.saga.steps[-1].step_id
            return Asked(step_id, False, self._look(desk, who, StepInterest(step_id)))  # noqa: FBT003

    def _refuse_over(self, group: Group) -> None:
        for one in group.chain():
            if one.is_over:
                raise TransactionNotActive(
                    f"{self.run.transaction_id}.{one.scope_id}",
                    "rolled_back",
                    "execute a step in",
                    "Nothing was done; begin another one inside its parent.",
                )

    def _place(self, group: Group, agent_id: str | None) -> None:
        """Let a group, and all around it, be a recorded one where a resumed program means it."""
        for one in reversed(list(group.chain())):
            if one.is_placed:
                continue
            parent = None if one.parent is None else one.parent.scope_id
            wanted = (one.definition.kind, one.definition.name, parent)
            found = None
            for name in self._unclaimed:
                scope = self.saga.scopes[name]
                definition = scope.definition
                if (definition.kind, definition.name, definition.parent) == wanted and any(
                    is_in_force(step) and agent_id in (None, step.definition.agent_id)
                    for step in (self.saga.steps[index] for index in scope.all_steps())
                ):
                    found = name
                    break
            if found is not None:
                self._unclaimed.remove(found)
            one.place(found or one.scope_id)

    def place(self, group: Group) -> None:
        """Let a group be a recorded one where a resumed program means it."""
        with self.lock:
            self._place(group, None)

    def _known(self, seen: StepAsked, *, once: bool) -> str | None:
        intent = seen.step.intent or ""
        recorded = self.recorded.get(intent, [])
        number = self.replayed.get(intent, 0)
        while number < len(recorded):
            step = self.saga.by_id[recorded[number]]
            number += 1
            self.replayed[intent] = number
            here = step.definition.scope_id == seen.step.scope_id
            if here and is_in_force(step):
                return step.step_id
        found = None
        for step in occurrences(self.saga, intent):
            # Why also without `once`: it is still asked, of a person, what becomes of that one.
            if once or step.index in self.saga.approvals or step.index in self.saga.doubtful:
                found = step.step_id
        return found

    def _fork(self, seen: StepAsked) -> str | None:
        """Return the recorded step in whose place a new one comes, after a program was resumed."""
        if not self.recorded:
            return None
        for step in self.saga.steps:
            intent = step.definition.intent or ""
            names = self.recorded.get(intent, [])
            same_place = (
                step.definition.agent_id == seen.step.agent_id
                and step.definition.scope_id == seen.step.scope_id
            )
            if same_place and step.step_id in names[self.replayed.get(intent, 0) :]:
                return step.step_id
        return None

    def remember_recorded(self) -> None:
        """Let a program that is resumed find what it had done before."""
        self._unclaimed = list(self.saga.scopes)
        for step in self.saga.steps:
            intent = step.definition.intent
            if intent is not None and is_in_force(step):
                self.recorded.setdefault(intent, []).append(step.step_id)

    def forget_recorded(self) -> None:
        """Let nothing be taken for what was done before: who asks now has not died with it."""
        self.recorded.clear()
        self._unclaimed.clear()

    def let_go(self, desk: Desk, who: Attendant, *, takeover: bool = False) -> Procedure[bool]:
        """Let others have it, but where a call is in hand here; tell whether; under the lock."""
        if self.broken is None and (self._in_hand or self._todo):
            return False  # Whoever had it next would make that call beside the living one.
        if self.broken is None and not self.saga.state.is_final and self._is_claimed:
            seen: list[Observation] = [DriverArrived(desk.driver_id, takeover)]
            yield from self._guarded(desk, who, stop(desk, self.run, seen, claims=True))
        state = self.saga.state.value
        hint = "This program has let go of it; look at it with show."
        name = self.run.transaction_id
        self._break(TransactionNotActive(name, state, "go on with", hint))
        self.has_let_go = True
        return True

    def close(self) -> None:
        """Do nothing more with it here, for its manager is closed; recovery settles it.

        Why not under the lock: a signal handler that closes the manager may have hit a turn.
        """
        hint = (
            "Its manager is closed, and nothing more is done here: recover() of another manager "
            "settles it, and what was under way."
        )
        state = self.saga.state.value
        self.closed = TransactionNotActive(self.run.transaction_id, state, "go on with", hint)
        self._break(self.closed)
        self._wake()

    def lose(self, error: StoreError) -> None:
        """Do nothing more with it here, for how things stand cannot be looked up."""
        self._break(error)
        self._wake()

    def give_up(self) -> None:
        """Do nothing more with it here; it is settled from the journal, as after a crash."""
        self._break(StoreUnavailable("it was interrupted before its end could be recorded."))
        self._wake()

    def announce(self, desk: Desk) -> None:
        """Tell the user's hook what has become durable; not under the lock, for it may ask."""
        if not self._unannounced:
            return
        # Why as in a handler: a hook may ask for a step, but would wait for itself where it wants
        # something undone or ended.
        calling = CALLING.set((*CALLING.get(), self.run.transaction_id))
        try:
            with self._announcing:
                while self._unannounced:
                    desk.tell(self.run, self._unannounced.popleft())
        finally:
            CALLING.reset(calling)

    def _take(
        self, desk: Desk, who: Attendant, seen: list[Observation], *, polls: bool
    ) -> Procedure[None]:
        if self.broken is not None:
            if self._was_decided:
                raise CommitPointPassed(self.run.transaction_id, COMMITTING.value, "change")
            raise self.broken
        claims = not self._is_claimed
        if claims:
            if not seen and self._definition is not None:
                return  # Nothing of it is durable yet, and nothing is to be.
            first: list[Observation] = [self._driver]
            if self._definition is not None:
                first.insert(0, PlanGiven(self._definition))
            seen = [*first, *seen]
        elif polls or self._has_news:
            self._has_news = False
            yield from self._reread(desk)
        before = self.saga.sequence
        procedure = take_turn(desk, self.run, seen, claims=claims, stays=True)
        self._todo += yield from self._guarded(desk, who, procedure)
        self._is_claimed = True
        self._unannounced.extend(self.run.unannounced)
        self.run.unannounced.clear()
        if self.saga.sequence != before:
            self._wake()

    def _guarded(self, desk: Desk, who: Attendant, work: Procedure[T]) -> Procedure[T]:
        """Do something that decides and records; where that fails, know how things stand."""
        saga, sequence = self.run.saga, self.run.saga.sequence
        # Why now: what cannot be recorded is decided in memory only, and nobody knows of it.
        self._was_decided = saga.decided_at is not None
        try:
            value = yield from work
        except StoreError as error:
            self._break(error)
            raise
        except Exception:
            # Nothing was recorded; what was decided in memory is not so.
            if not self._is_claimed:
                self.run.saga = Saga(self.run.transaction_id) if self._definition else saga
                if self._definition is None:
                    self.run.saga = yield from read_saga(desk, self.run.transaction_id)
            elif self.run.saga is not saga or saga.sequence != sequence:
                self.run.saga = yield from read_saga(desk, self.run.transaction_id)
            raise
        except BaseException:
            self._break(StoreUnavailable("an interrupt came while it was being recorded."))
            raise
        self._was_decided = self.run.saga.decided_at is not None
        if self.run.interrupt is not None:
            # It arrived while this thread wrote, and is whose turn it was.
            who.interrupt = who.interrupt or self.run.interrupt
            self.run.interrupt = None
        return value

    def _reread(self, desk: Desk) -> Procedure[None]:
        saga = yield from read_saga(desk, self.run.transaction_id)
        if saga.token == self.run.token and saga.sequence != self.saga.sequence:
            saga.touched.extend(range(len(saga.steps)))
            self.run.saga = saga
            self.run.holdings = None
            self.run.sequence = saga.sequence

    def _break(self, error: TransactionError) -> None:
        self.broken = self.broken or error

    def _wake(self) -> None:
        for inbox in tuple(self._inboxes):
            inbox.put(None)

    def _look(self, desk: Desk, who: Attendant, interest: Interest) -> Look:
        saga = self.saga
        going_back = saga.state is COMPENSATING
        mine = worth_making(saga, self._todo, interest, self.run.planned_at)
        if mine:
            # Order matters: an interrupt in between must not lose them.
            self._in_hand.setdefault(id(who), []).extend(mine)
            self._todo = [call for call in self._todo if call not in mine]
            return Look(
                mine,
                is_settled=False,
                seconds=None,
                is_busy=True,
                is_going_back=going_back,
                is_unwanted=goes_back(saga, self.run.planned_at),
            )
        mine_too = id(who) in self._in_hand
        step = saga.by_id[interest.step_id] if isinstance(interest, StepInterest) else None
        # Why not the time now: a deadline that nobody has planned for since has no effect yet, and
        # who gave up waiting for it would find the transaction still active.
        is_settled = interest.is_settled(saga, self.run.planned_at)
        return Look(
            [],
            is_settled,
            # Why: who waits for nothing any more is not told how long.
            None if is_settled and not mine_too else seconds_left(desk, self.run),
            is_busy=len(self._in_hand) > mine_too,
            is_going_back=going_back,
            is_in_line=step is not None and stands_in_line(saga, step),
            outcome=interest.outcome(saga) if isinstance(interest, StepInterest) else None,
        )

    def is_quiet(self) -> bool:
        """True where no call is under way here."""
        return not self._in_hand
