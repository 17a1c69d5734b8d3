"""What a manager does for whoever keeps its store, with threads.

Owns: looking, checking, backups and a person's word about what was restored; and how this thread
waits for a procedure.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from aumai_transactions.core.observations import (
    ApprovalAnswered,
    ResolutionAnswered,
    RetryAsked,
    TrustAnswered,
)
from aumai_transactions.drivers import asking
from aumai_transactions.drivers.asking import WAIT_SECONDS_MAX
from aumai_transactions.drivers.desk import Desk, id_of
from aumai_transactions.drivers.locks import read_locks
from aumai_transactions.drivers.manager import ManagerBase
from aumai_transactions.drivers.operations import Procedure
from aumai_transactions.drivers.options import checked_before, checked_query, checked_wait
from aumai_transactions.models import (
    BackupReport,
    ResourceLock,
    Transaction,
    TransactionResult,
    Verification,
    WitnessReport,
)

if TYPE_CHECKING:
    from aumai_transactions.store import Page, Query, StoreInfo, Tally

T = TypeVar("T")

Wish = RetryAsked | ResolutionAnswered | ApprovalAnswered | TrustAnswered


class SyncKeeping(ManagerBase):
    """Hold the part of `TransactionManager` that is for whoever keeps its store."""

    def trust(
        self,
        tx: Transaction | str,
        *,
        by: str,
        note: str = "",
        wait_max_seconds: float = WAIT_SECONDS_MAX,
    ) -> TransactionResult:
        """Let a transaction go on that came out of a backup, and see to it that it does.

        It goes on from where its journal stands: what ran after the backup runs once more, with the
        same idempotency keys.

        Args:
            tx: The transaction, or its id.
            by: Who has looked; stands in the journal.
            note: How that is known.
            wait_max_seconds: How long to wait for what follows.

        Raises:
            InvalidTransactionState: It does not wait for that.
        """
        return self._ask(tx, TrustAnswered(by, note), wait_max_seconds)

    def find(self, query: Query | None = None) -> Page:
        """Return one page of summaries, without reading journals.

        Args:
            query: Which; the first hundred where nothing is said. Going on with
                `query._replace(after=page.goes_on_after)` gives the next page.

        Raises:
            DefinitionError: It asks for something that cannot be asked.
        """
        return self._desk().store.find(checked_query(query))

    def tally(self) -> Tally:
        """Return how many transactions there are of each state, and how many need a person."""
        return self._desk().store.tally()

    def locks(self, resource: str | None = None) -> list[ResourceLock]:
        """Return who holds which resource and who waits for it.

        Args:
            resource: Only this one, whatever alias of its name; None for all.
        """
        return self._run(read_locks(self._desk(), resource))

    def verify(
        self,
        tx: Transaction | str | None = None,
        *,
        witness: str | os.PathLike[str] | None = None,
        purged_before: datetime | None = None,
    ) -> Verification:
        """Check the hash chain and every entry of one journal, or of all, and the store itself.

        Args:
            tx: The transaction, or its id; None for all and the store.
            witness: A file that `write_witness` has written: what stood in the store then must
                still stand there.
            purged_before: What had ended before this time may be missing.

        Raises:
            BackupError: The witness cannot be read.
        """
        from aumai_transactions.drivers.verifying import verify
        from aumai_transactions.drivers.witnesses import read_witness

        seen = None if witness is None else read_witness(witness)
        name = None if tx is None else id_of(tx)
        before = checked_before(purged_before)
        return self._run(verify(self._desk(), name, witness=seen, purged_before=before))

    def write_witness(self, path: str | os.PathLike[str]) -> WitnessReport:
        """Append to a head witness where the journals end now; see `verify`.

        Args:
            path: The file; made where it does not exist. Keep it on another disk or machine.

        Raises:
            BackupError: The store contradicts what the file says, or it cannot be written.
        """
        from aumai_transactions.drivers.witnesses import write_witness

        return write_witness(self._desk().store, path, clock=self._clock)

    def back_up(self, path: str | os.PathLike[str]) -> BackupReport:
        """Write the whole store, as it is now, into a new file; others go on meanwhile.

        `restore` makes a store of it.

        Args:
            path: The file; must not exist.

        Raises:
            BackupError: The store is in memory, or the file is there or cannot be written.
        """
        from aumai_transactions.drivers.backups import back_up

        return back_up(self._desk().store, path, clock=self._clock)

    def get_store_info(self) -> StoreInfo:
        """Return what the store is."""
        return self._desk().store.info()

    def _ask(self, tx: Transaction | str, wish: Wish, wait_max_seconds: float) -> TransactionResult:
        seconds = checked_wait(wait_max_seconds)
        return self._run(asking.ask(self._desk(), id_of(tx), wish, wait_max_seconds=seconds))

    def _desk(self) -> Desk:
        return self._opened or self._open(create=self._given_store is None)

    def _run(self, procedure: Procedure[T]) -> T:
        """Carry out what a procedure asks for until it returns."""
        return self._threads.run(procedure)
