"""What a fuzzer throws bytes at, and what must hold whatever the bytes are.

Owns: the targets: each takes bytes, and raises `Broken` where a promise is not kept.
Rules:
  1. Only errors of our own come out of a reader, and they say what is wrong.
  2. What is accepted is read again as the same thing once it was written down.
  3. Nothing that the bytes name is run, imported or opened.
  4. Every call ends within `SECONDS_MAX`.

Everything that runs the targets, coverage-guided or drawn, is beside this file: `fuzz.py` and
`test_targets.py`.
"""

import json
import math
import os
import tempfile
import time
from pathlib import Path

from aumai_transactions.core.codec import decode, describe, encode, same_definition
from aumai_transactions.core.definition import Definition
from aumai_transactions.core.description import describe as description_of
from aumai_transactions.core.entries import PlanRecorded
from aumai_transactions.core.journal import NO_HASH, Journal, StoredEntry, chain_hash, replay
from aumai_transactions.core.outcome import result_of, summary_of, transaction_of
from aumai_transactions.core.planning import plan
from aumai_transactions.core.saga import Saga
from aumai_transactions.core.values import canonical_json, checked_copy
from aumai_transactions.drivers.desk import event_of
from aumai_transactions.errors import (
    InvalidData,
    JournalCorrupt,
    JournalTooNew,
    PlanFileError,
    TransactionError,
)
from aumai_transactions.plans import load_plan

SECONDS_MAX = 5.0
MESSAGE_CHARACTERS_MAX = 4_000
TRANSACTION = "tx"
# A day that is inside of every calendar.
NOW = 1_800_000_000_000_000


class Broken(AssertionError):
    """Say which promise is not kept, and by which bytes."""


class Watched:
    """Time a call; a slow one is broken, whatever it answers."""

    def __enter__(self):
        self._began = time.monotonic()
        return self

    def __exit__(self, *raised):
        took = time.monotonic() - self._began
        if took > SECONDS_MAX:
            message = f"took {took:.1f} s, more than {SECONDS_MAX} s"
            raise Broken(message)


def _told(error: TransactionError) -> None:
    message = str(error)
    if not message.strip():
        raise Broken(f"{type(error).__name__} says nothing")
    if len(message) > MESSAGE_CHARACTERS_MAX:
        raise Broken(f"{type(error).__name__} says {len(message):,} characters")
    try:
        message.encode("utf-8")
    except UnicodeEncodeError:
        raise Broken(f"{type(error).__name__} holds what cannot be written: {message!r}") from None


# ---------------------------------------------------------------------------------------- plans


def _plan_file(data: bytes, suffix: str) -> None:
    """Load bytes as a plan file; what is accepted is journaled and read again as the same."""
    with tempfile.TemporaryDirectory(prefix="aumai-fuzz-", dir=_memory()) as folder:
        path = Path(folder) / f"plan{suffix}"
        path.write_bytes(data)
        with Watched():
            try:
                found = load_plan(path)
            except PlanFileError as error:
                _told(error)
                if not str(error).startswith(str(path)):
                    raise Broken(f"does not name the file: {error}") from None
                return
        again = load_plan(path)
    if found != again:
        raise Broken("two looks at one file differ")
    definition = Definition(
        NOW,
        found.timeout_seconds,
        found.steps,
        name=found.name,
        timeout_scope=found.timeout_scope,
        on_crash=found.on_crash,
        on_compensation_failure=found.on_compensation_failure,
        actions=found.actions,
    )
    _, entry = decode(encode(PlanRecorded(NOW, definition), "e"), TRANSACTION, 1)
    if not isinstance(entry, PlanRecorded) or not same_definition(entry.definition, definition):
        raise Broken("a plan is not read from its journal as it was written there")


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def plan_toml(data: bytes) -> None:
    """Load a TOML plan."""
    _plan_file(data, ".toml")


def plan_json(data: bytes) -> None:
    """Load a JSON plan."""
    _plan_file(data, ".json")


# -------------------------------------------------------------------------------------- journals


def chained(bodies: list[bytes], name: str = TRANSACTION) -> Journal:
    """Return a journal of these bodies whose chain is sound: only its entries can be wrong."""
    stored, before = [], NO_HASH
    for sequence, body in enumerate(bodies, 1):
        before = chain_hash(name, sequence, before, body)
        stored.append(StoredEntry(sequence, body, before))
    return Journal(name, tuple(stored), len(stored), before, 1, "d1")


def codec(data: bytes) -> None:
    """Decode one body; what is accepted is written and read again as the same entry."""
    with Watched():
        try:
            name, entry = decode(data, TRANSACTION, 1)
        except (JournalCorrupt, JournalTooNew) as error:
            _told(error)
            return
    written = encode(entry, name)
    if decode(written, TRANSACTION, 1) != (name, entry):
        raise Broken("an entry is not read as it was written")
    if encode(*reversed(decode(written, TRANSACTION, 1))) != written:
        raise Broken("an entry has two texts")
    canonical_json(describe(entry)[1])


def journal(data: bytes) -> None:
    """Load a journal, one body a line; what is accepted can be shown in every way."""
    saga = Saga(TRANSACTION)
    with Watched():
        try:
            for sequence, entry in enumerate(replay(chained(data.split(b"\n")), saga), 1):
                event_of(saga, sequence, entry).model_dump_json()
        except (JournalCorrupt, JournalTooNew) as error:
            _told(error)
            return
        result = result_of(saga, durable=True)
        result.model_dump_json()
        str(result)
        summary_of(saga)
        transaction_of(saga).model_dump_json()
        str(description_of(saga, NOW))
        plan(saga, NOW)


# ---------------------------------------------------------------------------------------- values


def values(data: bytes) -> None:
    """Check a value; what is accepted has one text, and that text is the value again."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    check_value(value)


def check_value(value: object) -> None:
    """Check any Python object as a value."""
    with Watched():
        try:
            copy = checked_copy(value)
        except InvalidData as error:
            _told(error)
            return
    text = canonical_json(copy)
    if not same(json.loads(text), copy):
        raise Broken(f"{copy!r:.200} is read as another value")
    if not same(checked_copy(copy), copy):
        raise Broken(f"{copy!r:.200} is copied as another value")


def same(one: object, other: object) -> bool:
    """Tell whether two JSON values are the same, types included: 1 is not 1.0 and not True."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return one == other


TARGETS = {
    "plan_toml": plan_toml,
    "plan_json": plan_json,
    "journal": journal,
    "codec": codec,
    "values": values,
}
