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
from typing import Literal, NamedTuple

from aumai_transactions import __version__
from aumai_transactions.cli import snapshot
from aumai_transactions.cli.settings import Settings, default_store, is_default_store
from aumai_transactions.cli.wording import duration, when
from aumai_transactions.clock import SystemClock
from aumai_transactions.core.times import instant
from aumai_transactions.errors import StoreError, StoreNotFound
from aumai_transactions.store import Query, Store
from aumai_transactions.stores import open_store, shown_url
from aumai_transactions.stores.sqlite import SqliteStore

FREE_BYTES_MIN = 100 * 1024 * 1024
CLOCK_BEHIND_SECONDS_MAX = 60
# Nothing of this package was written before; a clock that says so has lost its battery.
CLOCK_MIN = 1_767_225_600_000_000

Verdict = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    """Hold one fact and what to think of it."""

    name: str
    verdict: Verdict
    value: str


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
    yield Finding("store id", "ok", info.store_id)
    for name, value in info.checks.items():
        yield Finding(name.replace("_", " "), _verdict(name, value), value)
    yield from _clock_of(store)
    total, attention = store.count(Query()), store.count(Query(attention=True))
    needs = f", {attention:,} need a person: aumai-transactions outstanding" if attention else ""
    yield Finding("transactions", "note" if attention else "ok", f"{total:,}{needs}")
    if isinstance(store, SqliteStore):
        yield from _place(store)


def _verdict(name: str, value: str) -> Verdict:
    if name == "integrity" and value != "ok":
        return "note" if value.startswith("not checked") else "wrong"
    if name == "last_checkpoint" and value != "ok":
        return "wrong"
    if name == "synchronous" and value not in ("FULL", "EXTRA"):
        return "wrong"
    # Of PostgreSQL: without these, what it acknowledged can be lost in a power cut.
    if name in ("fsync", "full_page_writes") and value != "on":
        return "wrong"
    if name == "synchronous_commit" and value not in ("on", "remote_apply"):
        return "wrong"
    if name == "server_clock" and not value.startswith("agrees"):
        return "note"
    if name == "file_system" and "network" in value:
        return "wrong"
    if name == "file_mode" and "others" in value:
        return "wrong"
    return "ok"


def _clock_of(store: Store) -> Iterator[Finding]:
    newest = store.find(Query(limit=1, newest_first=True))
    if not newest:
        return
    behind = (newest[0].summary.updated_at - SystemClock().now()) / 1_000_000
    if behind > CLOCK_BEHIND_SECONDS_MAX:
        text = f"{duration(behind)} behind the newest entry; deadlines are judged wrongly"
        yield Finding("clock and journal", "wrong", text)
    else:
        yield Finding("clock and journal", "ok", "the newest entry is not in the future")


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
