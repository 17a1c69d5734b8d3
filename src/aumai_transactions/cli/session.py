"""One command's hold on a store.

Owns: which store is meant, opening and closing it, and what has to be done after a change.
Rules:
  1. Only `create`, `run`, `submit` and `serve --allow-actions` make a store; everything else says
     which path does not exist.
  2. After a change the default store's snapshot is written anew; that it could not be is said,
     and changes no outcome.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aumai_transactions.actions import Action
from aumai_transactions.cli import importing, snapshot
from aumai_transactions.cli.apps import App, load_app
from aumai_transactions.cli.exits import Code, Refused
from aumai_transactions.cli.settings import Settings, default_store, is_default_store
from aumai_transactions.core.outcome import Summary
from aumai_transactions.drivers.overview import FAR, NO_DRIVER, WAITING_MAX, unattended
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.drivers.telemetry import Telemetry
from aumai_transactions.engine import Engine
from aumai_transactions.errors import DefinitionError, StoreError, TransactionNotFound
from aumai_transactions.models import Event
from aumai_transactions.store import Query, Store
from aumai_transactions.stores import STORE_VARIABLE, open_store
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.telemetry.here import telemetry_here
from aumai_transactions.wording.characters import shown, shown_lines

if TYPE_CHECKING:
    from aumai_transactions.drivers.aio import AsyncTransactionManager

CANDIDATES_MAX = 20
MEMORY_NAMES = ("memory:", "memory://")


@dataclass(slots=True)
class Session:
    """Hold an open store and what was asked for.

    Args:
        settings: What the command was told.
        store: The store, open.
        app: What `--app` named.
        is_default: True where it is the store that is used when nobody names one.
        say: Where notes go; past the progress, while there is any.
    """

    settings: Settings
    store: Store
    app: App
    is_default: bool
    say: Callable[[str], None]
    _managers: list[TransactionManager] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)
    _telemetry: Telemetry | None = None

    def reader(self) -> TransactionManager:
        """Return a manager that only looks; it imports nothing that a journal names."""
        manager = TransactionManager(store=self.store)
        self._managers.append(manager)
        return manager

    def manager(
        self,
        on_event: Callable[[Event], object] | None = None,
        *,
        engine: Engine | None = None,
    ) -> TransactionManager:
        """Return a manager that refuses unknown actions, with the app's handlers.

        It is watched as the app's is, or else where the environment says so.

        Args:
            on_event: Called with each journal entry.
            engine: What carries transactions out instead; by default they are carried out here,
                whatever the app says, for a command must not act as a process of its engine.
        """
        manager = TransactionManager(
            store=self.store,
            actions=self.app.actions,
            strict=True,
            before_record=self.app.before_record,
            on_event=on_event,
            action_source=self._actions_for,
            engine=engine,
            telemetry=self._watching(),
        )
        self._managers.append(manager)
        return manager

    def async_manager(self, actions: Iterable[Action] = ()) -> AsyncTransactionManager:
        """Return a manager like `manager`, for a program of tasks; it closes it itself.

        Args:
            actions: What it can call besides.
        """
        from aumai_transactions.drivers.aio import AsyncTransactionManager

        return AsyncTransactionManager(
            store=self.store,
            actions=[*self.app.actions, *actions],
            strict=True,
            before_record=self.app.before_record,
            action_source=self._actions_for,
            telemetry=self._watching(),
        )

    def _watching(self) -> Telemetry | None:
        """Return who watches this command's managers."""
        if self._telemetry is None:
            self._telemetry = self.app.telemetry or telemetry_here(os.environ)
        return self._telemetry

    def _actions_for(self, definitions: Mapping[str, Any]) -> list[Action]:
        """Return the actions that a journal defines; say which cannot be carried out here.

        Why one by one: what cannot be imported here is a missing handler of its own
        transaction, and must not keep recovery from the others.
        """
        from aumai_transactions.plans import actions_for

        found = []
        for name, definition in definitions.items():
            try:
                found += actions_for({name: definition})
            except DefinitionError as error:
                if str(error) not in self._told:
                    self._told.add(str(error))
                    self.say(f"note: {shown_lines(error)}")
        return found

    def find_id(self, name: str) -> str:
        """Return the one transaction id that is this text, or begins with it.

        Raises:
            TransactionNotFound: There is none.
            Refused: There are several; names them.
        """
        found = []
        if name.isprintable():
            query = Query(prefix=name, limit=CANDIDATES_MAX + 1)
            found = [listed.summary for listed in self.store.find(query)]
        if any(summary.transaction_id == name for summary in found):
            return name
        if len(found) == 1:
            return found[0].transaction_id
        if not found:
            hint = f"See which there are: {self.settings.command('list')}"
            raise TransactionNotFound(name, self.place, hint)
        lines = [
            f"  {summary.transaction_id}  {summary.state.value}  {summary.name or ''}".rstrip()
            for summary in found[:CANDIDATES_MAX]
        ]
        if len(found) > CANDIDATES_MAX:
            lines.append("  …")
        listed = "\n".join(lines)
        raise Refused(
            f"several transactions begin with {shown(name)}; give more of the id:\n{listed}",
            Code.usage,
        )

    def summary_of(self, transaction_id: str) -> Summary | None:
        """Return what the store keeps beside a transaction's journal."""
        listed = [item.summary for item in self.store.find(Query(prefix=transaction_id))]
        return next((item for item in listed if item.transaction_id == transaction_id), None)

    def waiting_for_time(self) -> list[Summary]:
        """Return what no living process has, and what goes on at a time to come."""
        names = self.store.due(NO_DRIVER, WAITING_MAX, FAR)
        found = (self.summary_of(name) for name in names)
        return [summary for summary in found if summary is not None and summary.due_at is not None]

    def unattended(self) -> set[str]:
        """Return what has something to be done, and what no living process has."""
        return unattended(self.store)

    def is_alive(self, transaction_id: str) -> bool | None:
        """Tell whether a living process has a transaction; None where nothing is to be done."""
        summary = self.summary_of(transaction_id)
        if summary is None or not summary.runnable:
            return None
        return transaction_id not in self.unattended()

    @property
    def place(self) -> str:
        """The store's name, as it may be shown."""
        if isinstance(self.store, SqliteStore):
            return str(self.store.path)
        return self.store.info().url

    def changed(self) -> None:
        """Write the snapshot of the default store anew."""
        if not self.is_default or not isinstance(self.store, SqliteStore):
            return
        try:
            notes = snapshot.write(self.store)
        except (OSError, StoreError) as error:
            notes = [f"the snapshot {snapshot.path_of(self.store.path)} was not written: {error}"]
        for note in notes:
            self.say(f"note: {shown_lines(note)}")

    def take_over(self, store: SqliteStore) -> None:
        """Read what an earlier release has left into an empty store."""
        try:
            notes = importing.import_once(store)
        except OSError as error:
            notes = [f"what an earlier release may have left was not read: {error}"]
        for note in notes:
            self.say(f"note: {shown_lines(note)}")

    def close(self) -> None:
        """Let go of the store."""
        for manager in self._managers:
            manager.close()
        self.store.close()


@contextmanager
def session(settings: Settings, *, create: bool = False, memory: bool = False) -> Iterator[Session]:
    """Open the store that is meant, and close it at the end of the block.

    Args:
        settings: What the command was told.
        create: True where a store that does not exist is to be made.
        memory: True where a store makes sense that ends with this command.

    Raises:
        StoreError: It cannot be opened.
        Refused: The default store is lost, or a store in memory makes no sense.
    """
    app = load_app(settings.app) if settings.app else App()
    if app.has_durable_store and settings.store is None and not settings.is_quiet:
        settings.err.say(
            "note: the app's manager has a store of its own; this command uses the default "
            "store. Name the other one with --store."
        )
    found = _opened(settings, create=create, memory=memory)
    is_default = isinstance(found, SqliteStore) and is_default_store(found.path)
    held = Session(settings, found, app, is_default, settings.err.say)
    try:
        if create and is_default and isinstance(found, SqliteStore):
            held.take_over(found)
        yield held
    finally:
        held.close()


def _opened(settings: Settings, *, create: bool, memory: bool) -> Store:
    name = settings.store
    if name in MEMORY_NAMES and not memory:
        raise Refused("a store in memory ends with this command; name a file.", Code.usage)
    is_default = name is None
    path = default_store() if name is None else None
    target = str(path) if path is not None else (name or "")
    if path is not None and not os.path.lexists(path):
        _refuse_lost(path, create=create)
    try:
        return open_store(target, create=create, make_parent=is_default)
    except StoreError:
        if name is not None and not settings.names_store:
            settings.err.say(f"note: the store is the one that {STORE_VARIABLE} names.")
        raise


def _refuse_lost(path: Path, *, create: bool) -> None:
    """Refuse where only the snapshot is left of a store."""
    found = snapshot.look(snapshot.path_of(path))
    if found.kind in ("ours", "edited"):
        raise Refused(
            f"the store {path} is gone, but its snapshot {found.path} is still there "
            f"({found.count} transactions of store {shown(found.store_id)}). Restore the store "
            "from a backup. To begin anew instead, move the snapshot away. Nothing was changed.",
            Code.error if create else Code.not_found,
        )
    if found.kind == "foreign" and found.count and not create:
        raise Refused(
            f"there is no store {path} yet. {found.path} holds {found.count} transactions of an "
            "earlier release; the next `aumai-transactions create` or `run` takes them over.",
            Code.not_found,
        )
