"""The store in a PostgreSQL database.

Owns: `PostgresStore`, which is the `Store` contract over a pool of connections.
Rules:
  1. Safety is in the tables: the key (transaction, sequence), and heads that are compared, under a
     lock, with what was decided on. READ COMMITTED is enough for that.
  2. No code of the user's, and no wait without a bound, happens inside of a transaction.
  3. A handle belongs to the process that opened it; a child of fork opens its own.
"""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from uuid import uuid4

from aumai_transactions.clock import LONG_AGO, Clock, Since, SystemClock
from aumai_transactions.core.fairness import Candidate, in_turns
from aumai_transactions.core.journal import Journal
from aumai_transactions.core.locking import LockTable
from aumai_transactions.errors import StoreError
from aumai_transactions.forking import watch
from aumai_transactions.store import (
    Append,
    AppendAnswer,
    KnownDriver,
    Page,
    Query,
    StoreInfo,
    Tally,
)
from aumai_transactions.stores.postgres import drivers, health, labelling, listing, schema
from aumai_transactions.stores.postgres.address import address_of
from aumai_transactions.stores.postgres.appending import Head, prepare
from aumai_transactions.stores.postgres.arrays import texts
from aumai_transactions.stores.postgres.liveness import DriverRow, is_alive, this_process
from aumai_transactions.stores.postgres.locks import table_of
from aumai_transactions.stores.postgres.news import News
from aumai_transactions.stores.postgres.outbox import PostgresOutbox
from aumai_transactions.stores.postgres.pool import Lent, Pool
from aumai_transactions.stores.postgres.snapshots import PostgresSnapshot, journal_of, snapshot
from aumai_transactions.stores.postgres.statements import statement
from aumai_transactions.stores.postgres.writing import Heads, Writing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    Result = TypeVar("Result")

# A claim records the driver anew when so much of its lease is gone.
_LEASE_PART: Final = 1 / 3
ID_BYTES_MAX: Final = 7_000


class PostgresStore(PostgresOutbox):
    """Keep journals in a PostgreSQL database, for processes on any machine.

    Args:
        url: `postgresql://user:password@host:port/database`, with libpq's parameters behind a `?`,
            and ours: `schema`, `pool_size`, `lease_seconds`.
        create: True where a store that does not exist is to be made.
        clock: What tells this machine's time; leases go by the server's.

    Raises:
        StoreNotFound: There is no such store, or no such database.
        StoreFormatError: What stands there is not a store of ours, or is damaged.
        SchemaVersionError: A newer release has changed it so that this one cannot use it.
        StoreUnavailable: It cannot be reached for now.
        StoreError: The URL, the server's version or the user's rights do not do.
    """

    is_blocking = True

    def __init__(self, url: str, *, create: bool = True, clock: Clock | None = None) -> None:
        self._address = address_of(url)
        self._clock = clock or SystemClock()
        self._pid = os.getpid()
        self._here = this_process()
        self._guard = Lock()
        # Our own drivers, and when each was recorded last; None for never.
        self._own: dict[str, Since | None] = {}
        self._is_closed = False
        self._is_tidy = False
        self._last_tenant = ""
        self._heads = Heads()
        self._pool = Pool(self._address)
        self._news = News(self._address)
        try:
            self._row = self._pool.run(partial(schema.opened, address=self._address, create=create))
            with suppress(StoreError):
                # Why it may fail: a search does it as well, and says so.
                self._tell_labels()
        except BaseException:
            self._pool.close()
            raise
        watch(self)
        # Why: a handle that was dropped without close() would keep sessions of the server.
        weakref.finalize(self, _let_go, self._pool, self._news, self._pid)

    @property
    def is_durable(self) -> bool:
        """True where the server keeps what it acknowledges through kill -9 and power loss."""
        return self._pool.promises.are_kept

    @property
    def lease_seconds(self) -> float:
        """How long a driver lives after its last sign."""
        return self._address.lease_seconds

    def join(self) -> str:
        """Return a new driver id, alive from now until `leave`, `close` or the process ends."""
        self._check_usable()
        driver_id = uuid4().hex
        with self._guard:
            self._own[driver_id] = None
        return driver_id

    def leave(self, driver_id: str) -> None:
        """Say that this driver drives nothing any more; what it held can be claimed at once."""
        self._check_usable()
        if self._own.get(driver_id):
            self._forget([driver_id])
        with self._guard:
            self._own.pop(driver_id, None)

    def renew(self, driver_id: str) -> None:
        """Extend the driver's lease, by the server's clock.

        Raises:
            StoreError: The driver has not joined, or has left.
        """
        self._check_usable()
        self._check_joined(driver_id)
        if self._own.get(driver_id):
            self._record(driver_id)
        self._news.drain()

    def append(self, appends: Sequence[Append]) -> list[AppendAnswer]:
        """Make each append durable, or say why not; see `Store.append`."""
        self._check_usable()
        if not appends:
            return []
        groups = prepare(appends)
        claiming = {append.driver_id for append in appends if append.driver_id is not None}
        for driver_id in claiming:
            self._check_joined(driver_id)
        for driver_id in claiming:
            # Order matters: the driver is alive before it holds anything.
            recorded = self._own.get(driver_id) or LONG_AGO
            if recorded.seconds_max >= self._address.lease_seconds * _LEASE_PART:
                self._record(driver_id)
        writing = Writing(self._pool, self._heads, self._is_alive, groups)
        writing.run()
        if writing.told:
            self._tell(writing.told)
        return [writing.answers[place] for place in range(len(appends))]

    def _tell(self, names: list[str]) -> None:
        """Tell those who listen; that is a hint, and its failure nobody's.

        Why behind the commit: PostgreSQL lets one transaction at a time commit that has something
        to tell, so a disk's wait inside of it would be everybody's.
        """
        ids = [name if len(name.encode()) <= ID_BYTES_MAX else "" for name in names]
        values = {"channel": self._address.channel, "ids": texts(ids)}
        try:
            work = partial(Lent.read, query=statement("tell"), values=values)
            self._pool.run(work, is_patient=False)
        except StoreError:
            # Whoever waits looks again after a while.
            return
        self._news.drain()

    def read(self, transaction_id: str) -> Journal | None:
        """Return the whole journal; None where the store does not hold the transaction."""
        self._check_usable()
        rows = self._pool.run(
            lambda lent: lent.read(statement("journal"), {"id": transaction_id}).fetchall()
        )
        if not rows:
            return None
        sequence, digest, token, driver_id, ordinal = rows[0][:5]
        head = Head(ordinal, sequence, digest, token, driver_id, rows[0][8])
        self._heads.put(transaction_id, head)
        return journal_of(transaction_id, rows)

    def find(self, query: Query) -> Page:
        """Return one page of transactions in order of arrival."""
        if query.is_search:
            self._tell_labels()
        return listing.find(self._run, query)

    def count(self, query: Query) -> int:
        """Return how many transactions the query fits; its limit and offset do not matter."""
        if query.is_search:
            self._tell_labels()
        return listing.count(self._run, query)

    def tally(self) -> Tally:
        """Return how many transactions there are of each state, and how many need a person."""
        return self._run(listing.tally)

    def _run(self, work: Callable[[Lent], Result]) -> Result:
        self._check_usable()
        return self._pool.run(work)

    def _tell_labels(self) -> None:
        """Fill in by what those are searched that an older release has begun."""
        while self._run(labelling.is_untold):
            self._run(labelling.tell)

    def due(
        self,
        driver_id: str,
        limit: int,
        now: int,
        *,
        agents: Collection[str] | None = None,
        reserve_seconds: float = 0,
    ) -> list[str]:
        """Return ids of runnable transactions whose driver is dead, is nobody, or is this one."""
        self._check_usable()
        if limit <= 0:
            return []
        values = {
            "driver_id": driver_id,
            "limit": limit,
            "now": now,
            "seconds": reserve_seconds,
            "agents": None if agents is None else sorted(agents),
        }
        self._tidy()
        chosen = self._pool.run(partial(self._due, values))
        if chosen:
            self._last_tenant = chosen[0].tenant
        return [candidate.transaction_id for candidate in chosen]

    def _due(self, values: dict[str, Any], lent: Lent) -> list[Candidate]:
        limit, reserves = values["limit"], values["seconds"] > 0
        holders = [DriverRow(*row) for row in lent.read(statement("holders")).fetchall()]
        dead = [row.driver_id for row in holders if not self._is_alive(row)]
        tenants: list[str] = []
        # Why from the last one on and around: no more need be looked at than have their turn.
        for after in dict.fromkeys((self._last_tenant, "", None)):
            if len(tenants) < limit and after is not None:
                page = {"after": after, "limit": limit}
                tenants += [row[0] for row in lent.read(statement("tenants"), page).fetchall()]
        wanted = ["", *dict.fromkeys(tenants)][: limit + 1]
        values |= {"holders": list({*dead, values["driver_id"]}), "tenants": wanted}
        if reserves:
            lent.read(b"BEGIN")
            lent.read(statement("quickly"))
        rows = lent.read(statement("reservable" if reserves else "due"), values).fetchall()
        chosen = in_turns(
            (Candidate(row[0], row[1], row[2]) for row in rows), limit, self._last_tenant
        )
        if reserves:
            ordinals = {"ordinals": [candidate.position for candidate in chosen]}
            lent.read(statement("reserve"), values | ordinals)
            lent.write(b"COMMIT")
        return chosen

    def locks(self, resources: Collection[str] | None) -> LockTable:
        """Return who holds and who waits for these resources; see `Store.locks`."""
        self._check_usable()
        return self._pool.run(lambda lent: table_of(lent, resources))

    def drivers(self) -> list[KnownDriver]:
        """Return the drivers that live or hold something, as far as the store knows them."""
        return self._run(lambda lent: drivers.known(lent, self._is_alive, self.lease_seconds))

    def changes(self) -> int:
        """Return the change counter."""
        row = self._run(lambda lent: lent.read(statement("changes")).fetchone())
        return int(row[0]) if row else 0

    def purge(self, before: int, limit: int) -> int:
        """Delete what has ended, needs nobody, and changed last before a time."""
        self._check_usable()
        if limit <= 0:
            return 0
        values = {"before": before, "limit": limit}

        def work(lent: Lent) -> int:
            row = lent.write(statement("purge"), values).fetchone()
            return int(row[0]) if row else 0

        return self._pool.run(work)

    def wait_for_news(self, seconds: float) -> bool:
        """Wait until something may have been appended, or the time is over."""
        self._check_usable()
        return self._news.wait(seconds)

    def info(self, *, thorough: bool = False) -> StoreInfo:  # noqa: ARG002 (nothing takes long)
        """Return what this store is, and facts for `doctor`."""
        self._check_usable()

        def work(lent: Lent) -> StoreInfo:
            checks = health.checks(lent, self._row, schema.SCHEMA_VERSION, self._clock)
            rows = [DriverRow(*row) for row in lent.read(statement("drivers")).fetchall()]
            alive = sum(self._is_alive(row) for row in rows)
            checks["drivers"] = f"{alive} alive, {len(rows) - alive} dead"
            changes = lent.read(statement("changes")).fetchone()
            return StoreInfo(
                self._address.url,
                self._row.store_id,
                durable=self.is_durable,
                schema_version=self._row.schema_version,
                changes=int(changes[0]) if changes else 0,
                checks=checks,
            )

        return self._pool.run(work)

    def problems(self) -> list[str]:
        """Return what is damaged about the store itself, one sentence each."""
        self._check_usable()
        row = self._pool.run(_orphans)
        if not row or not row[0]:
            return []
        problem = (
            f"{self._address.place}: {row[0]:,} entries of {row[1]:,} transactions belong to none "
            "that is there: they were removed without their journals. Restore a backup."
        )
        return [problem]

    @contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        """Show the store in the block as it is now, whatever is written meanwhile."""
        self._check_usable()
        with snapshot(self._address, self._row.store_id) as found:
            yield found

    def close(self) -> None:
        """Let go of everything; every driver that joined through this handle is dead then."""
        if os.getpid() != self._pid or self._is_closed:
            return
        with self._guard:
            recorded = [driver_id for driver_id, at in self._own.items() if at]
            self._own.clear()
        try:
            if recorded:
                self._forget(recorded, is_patient=False)
        except StoreError:
            # Why no error: their leases run out, and whoever closes has no use for it.
            self._is_tidy = False
        self._is_closed = True
        self._news.close()
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, driver_id: str) -> None:
        """Write a driver's row, its lease as long as it can be from now."""
        seconds = self._address.lease_seconds
        asked = Since.now()
        values = {
            "driver_id": driver_id,
            "seconds": seconds,
            "schema_version": schema.SCHEMA_VERSION,
            "host": self._here.host,
            "pid": self._here.pid,
            "boot_id": self._here.boot_id,
            "pid_namespace": self._here.pid_namespace,
            "process_started": self._here.started,
        }
        # Why before it is: a COMMIT that raised may have recorded it too.
        self._note(driver_id, LONG_AGO)
        self._pool.run(lambda lent: lent.write(statement("record_driver"), values))
        self._note(driver_id, asked)

    def _note(self, driver_id: str, at: Since) -> None:
        """Remember when a driver was recorded, unless it has left meanwhile."""
        with self._guard:
            if driver_id in self._own:
                self._own[driver_id] = max(self._own[driver_id] or LONG_AGO, at)

    def _forget(self, driver_ids: Sequence[str], *, is_patient: bool = True) -> None:
        values = {"driver_ids": list(driver_ids)}
        work = partial(Lent.write, query=statement("forget_drivers"), values=values)
        self._pool.run(work, is_patient=is_patient)

    def _is_alive(self, row: DriverRow) -> bool:
        return row.driver_id in self._own or is_alive(row, self._here)

    def _tidy(self) -> None:
        """Forget drivers that have long been dead, once for each handle."""
        if self._is_tidy:
            return
        self._is_tidy = True
        try:
            self._pool.run(lambda lent: lent.write(statement("tidy_drivers")))
        except StoreError:
            # Why no error: whoever came here wanted something else, and it can wait.
            self._is_tidy = False

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(
                f"{self._address.place} was opened by process {self._pid}, of which this one is a "
                "child. Open a new store in the child."
            )
        if self._is_closed:
            raise StoreError(f"{self._address.place} is closed. Open it again.")

    def _check_joined(self, driver_id: str) -> None:
        if driver_id not in self._own:
            raise StoreError(
                f"driver {driver_id!r} has not joined {self._address.place} through this handle, "
                "or has left it. Call join()."
            )

    def after_fork_in_child(self) -> None:
        """Close our copies of the sockets, so that a session ends when the parent does."""
        if not self._is_closed:
            self._pool.forget()
            self._news.forget()


def _orphans(lent: Lent) -> tuple[int, int] | None:
    """Count the entries, and the transactions of them, that have no head."""
    lent.read(b"BEGIN")
    # Why: it reads everything once, which takes as long as it takes.
    lent.read(b"SET LOCAL statement_timeout = 0")
    lent.read(b"SET LOCAL enable_seqscan = on")
    row = lent.read(statement("orphans")).fetchone()
    lent.read(b"COMMIT")
    return None if row is None else (int(row[0]), int(row[1]))


def _let_go(pool: Pool, news: News, pid: int) -> None:
    if os.getpid() == pid:
        news.close()
        pool.close()
