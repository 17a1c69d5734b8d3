"""What a store must promise.

Owns: the contract between drivers and stores: sixteen methods, and what each one guarantees.
`aumai_transactions.testing.store_contract` is the same contract as a suite of checks.
Rules:
  1. Safety is checked by the store itself, atomically, in `append`; leases are for liveness.
  2. A store calls nothing of the user's.
  3. Every method may be called from any thread. A method may block; async drivers call it in a
     thread unless `is_blocking` is false.
  4. What a store raises is a `StoreError`; third-party exceptions are the cause.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

from aumai_transactions.core.entries import WITHOUT_TOKEN, Claimed, Entry, ReadVersion
from aumai_transactions.core.journal import Journal
from aumai_transactions.core.locking import Fence, Holding, LockTable
from aumai_transactions.core.outcome import Summary
from aumai_transactions.core.witnesses import Head
from aumai_transactions.errors import InternalError
from aumai_transactions.queries import Listed, Page, Query, Tally

__all__ = [
    "HELD_MAX",
    "LEASE_SECONDS",
    "Append",
    "AppendAnswer",
    "Contents",
    "Filled",
    "Keeping",
    "KnownDriver",
    "Listed",
    "Page",
    "Prompt",
    "Query",
    "Snapshot",
    "Store",
    "StoreInfo",
    "Tally",
    "check_append",
]

LEASE_SECONDS = 30
HELD_MAX = 100


class AppendAnswer(StrEnum):
    """Name what became of one append."""

    appended = "appended"
    """The entries are durable."""
    already_ours = "already_ours"
    """The same entry ids already stand at these sequences: a repeat of an append that worked."""
    moved = "moved"
    """Somebody appended news first: re-read, decide again."""
    fenced = "fenced"
    """A higher token is in force: stop, do nothing more."""
    held = "held"
    """A claim was refused, for a living driver holds the transaction."""
    blocked = "blocked"
    """What it would hold is held by another transaction, or what it has read has changed."""


class Append(NamedTuple):
    """Ask for entries to be added to one transaction's journal, all or none.

    Args:
        transaction_id: Whose journal.
        expected_sequence: The last sequence that the writer knows; 0 for a new transaction.
        append_id: A name for this append that is never used for another one. Entry i gets the
            entry id `append_id.i`.
        entries: What to add; at least one.
        summary: What the store keeps beside the journal from then on.
        token: The fencing token of the driver that acts; None for requests. An append that
            holds a `Claimed` entry carries that entry's token: one more than the token in force.
        driver_id: Who claims; given exactly when the entries hold a `Claimed`.
        release: True where the driver lets go of the transaction with this append.
        holdings: What the transaction holds and waits for from then on, all of it; None where
            that does not change.
        reads: The versions of resources that must still be the last ones.
    """

    transaction_id: str
    expected_sequence: int
    append_id: str
    entries: Sequence[Entry]
    summary: Summary
    token: int | None = None
    driver_id: str | None = None
    release: bool = False
    holdings: Sequence[Holding] | None = None
    reads: Sequence[ReadVersion] = ()


def check_append(append: Append) -> None:
    """Refuse an append that nobody may make, whatever the journal says.

    Every store calls it for appends that carry no driver's token: who has no token may write
    requests and pending plans, never acts (invariant I6).

    Raises:
        InternalError: It holds an act without a token, or its claim and its `driver_id` do not
            go together.
    """
    claims = Claimed in [type(entry) for entry in append.entries]
    if claims != (append.driver_id is not None) or (claims and append.token is None):
        message = f"an append to {append.transaction_id} claims without saying for whom, or not."
        raise InternalError(message)
    if append.token is None:
        for entry in append.entries:
            if not isinstance(entry, WITHOUT_TOKEN):
                message = (
                    f"an append to {append.transaction_id} without a token holds the act "
                    f"{type(entry).__name__}."
                )
                raise InternalError(message)


class StoreInfo(NamedTuple):
    """Say what a store is.

    Args:
        url: How to open it again, without passwords.
        store_id: A random name given when it was made; never changes.
        durable: True where an acknowledged append survives kill -9 and power loss.
        schema_version: The version of its tables; 0 where it has none.
        changes: A counter that grows with every change.
        checks: Facts for `doctor`, name and value.
    """

    url: str
    store_id: str
    durable: bool
    schema_version: int
    changes: int
    checks: dict[str, str]


class KnownDriver(NamedTuple):
    """Tell people of a driver.

    Args:
        driver_id: Which.
        is_alive: True where it lives, as far as the store can tell.
        last_sign_at: When it has given its last sign, microseconds since 1970 UTC; None where it
            need not give any.
        host: Its machine, where that is known.
        pid: The id of its process there.
        holds: The transactions that it has, the oldest `HELD_MAX`.
    """

    driver_id: str
    is_alive: bool
    last_sign_at: int | None
    host: str | None
    pid: int | None
    holds: tuple[str, ...]


class Store(Protocol):
    """Keep journals. One handle may serve several managers of one process."""

    @property
    def is_blocking(self) -> bool:
        """True where a call may wait for a disk or a network."""

    @property
    def is_durable(self) -> bool:
        """True where an acknowledged append survives kill -9 and power loss."""

    @property
    def lease_seconds(self) -> float:
        """How long a driver lives after its last sign; it gives three in that time."""

    def join(self) -> str:
        """Return a new driver id, alive from now until `leave`, `close` or the process ends."""

    def leave(self, driver_id: str) -> None:
        """Say that this driver drives nothing any more; what it held can be claimed at once."""

    def renew(self, driver_id: str) -> None:
        """Extend the driver's lease to `lease_seconds` from now."""

    def append(self, appends: Sequence[Append]) -> list[AppendAnswer]:
        """Make each append durable, or say why not; each has its own answer.

        One call is one durable write. Within it, appends to the same transaction stand in
        order, and once one of them was not appended, those behind it answer `moved`, but for those
        that are `already_ours` by the checks below.

        The checks, in this order:
        An act (it has a token and no `driver_id`): another token in force: `fenced`; the same
        entry ids at its sequences: `already_ours`; another last sequence: `moved`.
        A claim (it has a `driver_id`): the same entry ids at its sequences and its token in
        force: `already_ours`; another last sequence or token than it builds on: `moved`; held
        by a living driver other than `driver_id`: `held`.
        A request (no token): the same entry ids at its sequences: `already_ours`; another last
        sequence: `moved`.
        `fenced` comes before `already_ours`, so that a driver whose append had worked, but who
        has been replaced since, does not act on it.

        An append that could be made by these is `blocked`, and changes nothing, where a holding
        with a token that its transaction does not have yet is not the next one of its resource
        (`Fence.token`), or another transaction holds that resource and not both share it
        (`locking.holders_in_the_way`); or where the version of one of its `reads` is not the
        resource's last one (`Fence.version`), but for grants of this transaction itself.
        Otherwise its holdings take the place of those that the store had of the transaction:
        a grant moves `Fence.token`, and `Fence.version` too where it is exclusive; a resource that
        it begins to wait for gets the next ticket of the store, one that it waits for already
        keeps its ticket and its cost. Fences stay for ever. Whose turn it is by this
        (`locking.whose_turn`), and who is nobody's, is due at once, whatever `Summary.due_at`
        says.

        Raises:
            StoreUnavailable: Nobody knows whether it became durable (`outcome_unknown`), or it
                certainly did not. Appending the very same appends again is safe and tells.
        """

    def read(self, transaction_id: str) -> Journal | None:
        """Return the whole journal; None where the store does not hold the transaction."""

    def find(self, query: Query) -> Page:
        """Return one page of transactions in order of arrival.

        Whatever is appended between two pages, going on from `Page.goes_on_after` shows what fits
        once, and leaves out nothing that was there before the first page and still fits.

        A search looks at `Query.looks_max` lines, and then says where to go on, with however few
        it has found, even none; a store that is done sooner so may look at more.
        """

    def count(self, query: Query) -> int:
        """Return how many transactions the query fits.

        Its limit, offset and `looks_max` do not matter.
        """

    def tally(self) -> Tally:
        """Return how many transactions there are of each state, and how many need a person.

        It reads an index and no lines: a line that is damaged counts as what the index says.
        """

    def due(
        self,
        driver_id: str,
        limit: int,
        now: int,
        *,
        agents: Collection[str] | None = None,
        reserve_seconds: float = 0,
    ) -> list[str]:
        """Return ids of runnable transactions whose driver is dead, is nobody, or is this one.

        Those that wait for a time to come (`Summary.due_at`) are left out until then. The oldest
        come first; where there are several tenants, they take turns, and each call begins with the
        tenant behind the one that the last call began with: who takes only the first of each
        call serves all of them.

        Args:
            driver_id: Who asks.
            limit: How many at most.
            now: Microseconds since 1970 UTC.
            agents: Only those whose `Summary.next_agent` is one of these, or is not known; None
                for all.
            reserve_seconds: For so long nobody else who reserves is told of the same ones. That is
                a hint for those who share work: it holds back no claim, and a store of one machine
                may do without.
        """

    def locks(self, resources: Collection[str] | None) -> LockTable:
        """Return who holds and who waits for these resources.

        The locks on every resource that anybody waits for are there as well, so that circles of
        waiting transactions can be seen.

        Args:
            resources: Canonical names, each of which has its fence in the table; None for all
                locks, with the fences of the resources that are locked.
        """

    def wait_for_news(self, seconds: float) -> bool:
        """Block until something was appended that others may wait for, or the time is over.

        News are requests, ends, and transactions that anybody may drive. This is a hint: True may
        come without news, and False in spite of them, so whoever waits looks again afterwards.
        """

    def drivers(self) -> list[KnownDriver]:
        """Return the drivers that live or hold something, as far as the store knows them.

        One that has claimed nothing yet need not be among them.
        """

    def changes(self) -> int:
        """Return the change counter: a number that grows with every append and every purge."""

    def purge(self, before: int, limit: int) -> int:
        """Delete finished transactions with their journals; return how many.

        Those that need a person, and those of which something is still to be driven, stay.

        Args:
            before: Only what changed last before this time, microseconds since 1970 UTC.
            limit: How many at most, in this one durable write.
        """

    def info(self, *, thorough: bool = False) -> StoreInfo:
        """Return what this store is, and facts for `doctor`.

        Args:
            thorough: True where facts are wanted too that take long to find out.
        """

    def close(self) -> None:
        """Let go of everything; every driver that joined through this handle is dead then."""


class Prompt(Protocol):
    """Be a blocking store in which a write may take less than to hand it to a thread."""

    def append_at_once(self, appends: Sequence[Append]) -> list[AppendAnswer] | None:
        """Append while waiting for nobody but the disk, as `Store.append` does.

        Returns:
            None where nothing was appended, for somebody would have had to be waited for.
        """


class Snapshot(Protocol):
    """Show a store as it was at one moment, whatever is written meanwhile."""

    @property
    def store_id(self) -> str:
        """The store's random name."""

    @property
    def changes(self) -> int:
        """Its change counter at that moment."""

    def names(self) -> Iterator[str]:
        """Yield the id of each transaction, in order of arrival."""

    def read(self, transaction_id: str) -> Journal | None:
        """Return the whole journal of a transaction.

        Raises:
            JournalCorrupt: It cannot be read.
        """

    def heads(self) -> Iterator[Head]:
        """Yield where each journal ends, as the heads say, in order of arrival."""

    def fences(self) -> Iterator[tuple[str, Fence]]:
        """Yield what is remembered about each resource, by its name."""

    def waiting(self) -> Iterator[tuple[str, str]]:
        """Yield resource and transaction for each that waits, first come first."""


@runtime_checkable
class Keeping(Protocol):
    """Be a store that lasts: it can be read as it was at one moment, and may be damaged."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Show the store in the block as it is now, whatever is written meanwhile."""

    def problems(self) -> list[str]:
        """Return what is damaged about the store itself and not about one of its journals."""


class Filled(NamedTuple):
    """Hold one transaction that a new store begins with.

    Args:
        journal: Its journal, checked.
        summary: What the store keeps beside it.
        holdings: What it holds and waits for.
    """

    journal: Journal
    summary: Summary
    holdings: Sequence[Holding]


class Contents(Protocol):
    """Say what a new store begins with."""

    @property
    def store_id(self) -> str:
        """Its random name."""

    @property
    def changes(self) -> int:
        """Where its change counter begins."""

    def transactions(self) -> Iterator[Filled]:
        """Yield each transaction, in order of arrival; to be walked through once, first of all.

        Raises:
            StoreError: They cannot be had; then nothing is made.
        """

    def fences(self) -> Mapping[str, Fence]:
        """Return what is remembered about each resource; known behind the transactions."""

    def holdings(self) -> Sequence[tuple[str, Holding]]:
        """Return transaction and holding for each line of the table of locks, first come first."""
