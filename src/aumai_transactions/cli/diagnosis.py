"""What `doctor` looks at.

Owns: the judgement whether a fact about this machine or this store is fine.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aumai_transactions import __version__
from aumai_transactions.cli import snapshot
from aumai_transactions.cli.settings import Settings, default_store, is_default_store
from aumai_transactions.clock import SystemClock
from aumai_transactions.core.times import instant
from aumai_transactions.errors import StoreError, StoreNotFound
from aumai_transactions.store import Query, Store
from aumai_transactions.stores import open_store, shown_url
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.wording.verdicts import Finding, Verdict, clock_of, facts_of
from aumai_transactions.wording.words import when

FREE_BYTES_MIN = 100 * 1024 * 1024
# Nothing of this package was written before; a clock that says so has lost its battery.
CLOCK_MIN = 1_767_225_600_000_000


def diagnose(settings: Settings) -> list[Finding]:
    """Return everything that was looked at."""
    found = list(_machine())
    target = settings.store or str(default_store())
    try:
        store = open_store(target, create=False)
    except StoreNotFound as error:
        found.append(Finding("store", "note", f"there is none yet: {error}"))
        return [*found, *_trial()]
    except StoreError as error:
        return [*found, Finding("store", "wrong", f"{shown_url(target)}: {error}")]
    try:
        return [*found, *_of_store(store)]
    except StoreError as error:
        return [*found, Finding("store", "wrong", str(error))]
    finally:
        store.close()


def _machine() -> Iterator[Finding]:
    yield Finding("aumai-transactions", "ok", __version__)
    implementation = f"{platform.python_implementation()} {platform.python_version()}"
    yield Finding("python", "ok", f"{implementation} on {platform.platform(terse=True)}")
    for package in ("pydantic", "click"):
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "note", "it works, but its version cannot be told")
    now = SystemClock().now()
    if now < CLOCK_MIN:
        yield Finding("clock", "wrong", f"{when(instant(now))} has long passed; set the clock")
    else:
        yield Finding("clock", "ok", when(instant(now)))


def _trial() -> Iterator[Finding]:
    """Make a store in a temporary folder, to see whether one could be made at all."""
    try:
        with tempfile.TemporaryDirectory(prefix="aumai-doctor-") as folder:
            store = open_store(Path(folder) / "trial.db", create=True)
            try:
                checks = store.info().checks
            finally:
                store.close()
    except (OSError, StoreError) as error:
        yield Finding("trial store", "wrong", str(error))
        return
    yield Finding("trial store", "ok", "made and removed in a temporary folder")
    for name in ("sqlite_version", "wal_reset_bug"):
        if name in checks:
            yield Finding(name.replace("_", " "), "ok", checks[name])


def _of_store(store: Store) -> Iterator[Finding]:
    info = store.info(thorough=True)
    place = str(store.path) if isinstance(store, SqliteStore) else info.url
    yield Finding("store", "ok" if info.durable else "note", place)
    yield from facts_of(info)
    yield clock_of(store.find(Query(limit=1, newest_first=True)), SystemClock().now())
    total, attention = store.count(Query()), store.count(Query(attention=True))
    needs = f", {attention:,} need a person: aumai-transactions outstanding" if attention else ""
    yield Finding("transactions", "note" if attention else "ok", f"{total:,}{needs}")
    if isinstance(store, SqliteStore):
        yield from _place(store)


def _place(store: SqliteStore) -> Iterator[Finding]:
    folder = store.path.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**2:,.0f} MB in {folder}"
    yield Finding("free disk", "ok" if free >= FREE_BYTES_MIN else "wrong", text)
    if not is_default_store(store.path):
        return
    mode = os.stat(folder).st_mode & 0o777  # noqa: PTH116
    open_to_others = os.name == "posix" and mode & 0o077
    yield Finding("folder mode", "wrong" if open_to_others else "ok", f"{mode:04o} {folder}")
    try:
        found = snapshot.look(snapshot.path_of(store.path))
    except OSError as error:
        yield Finding("snapshot", "wrong", str(error))
        return
    texts = {
        "none": "not written yet",
        "ours": f"of change {found.changes}, {found.count:,} transactions",
        "edited": "was edited; the next command keeps it as .orig and writes a new one",
        "foreign": "is not ours; the next command keeps it as .orig and writes a new one",
    }
    verdict: Verdict = "note" if found.kind in ("edited", "foreign") else "ok"
    yield Finding("snapshot", verdict, texts[found.kind])
