"""What fuzzing begins with: sound inputs of every kind, made by the product itself, and mutations.

Owns: the corpus, and how one input becomes another that is still nearly sound. Bytes at random
never get past the parser; a sound journal with one field changed does.
"""

import copy
import json
import re
import tomllib
from pathlib import Path
from random import Random
from typing import Any

from aumai_transactions import (
    Continue,
    Done,
    OutcomeUnknown,
    Resource,
    RetryPolicy,
    StepRejected,
    TransactionError,
    TransactionManager,
)
from aumai_transactions.stores.memory import MemoryStore

ROOT = Path(__file__).resolve().parents[2]
ONCE = RetryPolicy(attempts_max=1)
SOON = RetryPolicy(attempts_max=2, first_delay_seconds=0, jitter=0)

HOSTILE: list[Any] = [
    None, True, False, 0, 1, -1, 2, 63, 64, 65, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**18,
    10**30, 0.0, -0.0, 0.5, 1e18, 1e300, float("nan"), float("inf"), "", " ", "s1", "s2", "step-1",
    "x" * 1_100, "\0", "\ud800", "\u202e", "é", "[", "{", "/", "/0", "/a/b", "~", "~2", "$output",
    "{data.a}", "{output}", "{", "http://h/", "file:///x", "committed", "rolled_back", "succeeded",
    "happened", "exclusive", "shared", [], [[]], [None], ["s1"], ["s1", "s1"], {}, {"a": 1},
    {"": None}, {"$output": "s1"}, {"$output": "s1", "at": "/a", "type": "string"},
]  # fmt: skip
TOKENS = [
    b'"', b"'", b"[", b"]", b"[[", b"]]", b"{", b"}", b"=", b"\n", b",", b":", b"\\", b"#", b".",
    b"\xff", b"\x00", b"\xef\xbb\xbf", b"\\u0000", b"\\ud800", b"NaN", b"1e999", b"-0", b"null",
    b"true", b'"""', b"'''", b"0x", b"inf", b"1979-05-27", b"[[steps]]\n", b"[actions.x]\n",
    b"$output", b'"v":2', b'"kind":"claimed"', b"[" * 200, b"{" * 200, b"a." * 200, b"9" * 5_000,
]  # fmt: skip


def corpus(target: str) -> list[bytes]:
    """Return the sound inputs of one target."""
    if target == "plan_toml":
        return plans()
    if target == "plan_json":
        return [json.dumps(tomllib.loads(text.decode())).encode() for text in plans()]
    found = journals()
    if target == "journal":
        return found
    bodies = sorted({body for one in found for body in one.split(b"\n")})
    return bodies if target == "codec" else [*bodies, b"[1, 2.5, null, true]", b'{"a": {"b": []}}']


def plans() -> list[bytes]:
    """Return the plans that the manual and the examples show, and those that tests run."""
    found = [path.read_bytes() for path in sorted((ROOT / "examples").rglob("*.toml"))]
    blocks = re.compile(r"```toml\n(.*?)```", re.DOTALL)
    for page in sorted((ROOT / "docs").glob("*.md")):
        found += [block.encode() for block in blocks.findall(page.read_text("utf-8"))]
    texts = re.compile(r'"""\n(.*?)"""', re.DOTALL)
    for page in sorted((ROOT / "tests" / "e2e").glob("*.py")):
        for text in texts.findall(page.read_text("utf-8")):
            if "[[steps]]" in text:
                found.append(text.replace("\\n", "\n").encode())
    return [text for text in found if _is_toml(text)]


def _is_toml(text: bytes) -> bool:
    try:
        return bool(tomllib.loads(text.decode()))
    except tomllib.TOMLDecodeError:
        return False


# -------------------------------------------------------------------------------------- journals


def journals() -> list[bytes]:
    """Return the journals of transactions of every shape, one body a line."""
    store = MemoryStore()
    with TransactionManager(store=store) as manager:
        _actions(manager)
        for story in STORIES:
            story(manager)
        names = [tx.transaction_id for tx in manager.get_all_transactions()]
    read = [store.read(name) for name in names]
    return [b"\n".join(entry.body for entry in one.entries) for one in read if one is not None]


def _actions(manager: TransactionManager) -> None:
    def fine(action, data, context):
        return {"did": action, "id": "R1", "token": context.attempt}

    def refuse(action, data):
        raise StepRejected("declined")

    def lose(action, data):
        raise OutcomeUnknown("no answer")

    manager.action("do", compensating_action="undo")(fine)
    manager.action("undo")(fine)
    manager.action("fine", effect="none")(fine)
    manager.action("refuse", retry=SOON, retry_on=(StepRejected,))(refuse)
    manager.action("bad_undo")(refuse)
    manager.action("go_on")(lambda action, data: Continue({"instead": 1}))
    manager.action("lose", on_unknown="ask")(lose)
    manager.action("asked", probe=lambda data: Done({"found": 1}), probe_retry=ONCE)(lose)
    manager.action("mail", idempotent=True)(fine)
    manager.action("confirm", idempotent=True)(fine)


def _planned(*steps, **options):
    def story(manager):
        tx = manager.begin(**options)
        for action, more in steps:
            manager.add_step(tx, "agent", action, {"n": 1, "text": "ä"}, **more)
        manager.commit(tx, wait_max_seconds=0)

    return story


def _refers(manager):
    tx = manager.begin(name="trip", metadata={"tenant": "acme"}, on_crash="resume")
    first = manager.add_step(tx, "a", "do", {}, after=[], resources=["r:1", Resource.shared("r:2")])
    manager.add_step(tx, "b", "do", {"x": first.output("/id", "string")}, timeout_seconds=5)
    manager.add_step(tx, "c", "fine", {}, after=[])
    manager.commit(tx)


def _in_doubt(manager):
    tx = manager.begin()
    manager.add_step(tx, "a", "lose", {}, "undo")
    manager.commit(tx, wait_max_seconds=0)
    manager.resolve(tx, "s1", "did_not_happen", note="looked", wait_max_seconds=0)


def _halted(manager):
    tx = manager.begin(on_compensation_failure="halt")
    manager.add_step(tx, "a", "do", {}, "bad_undo")
    manager.add_step(tx, "a", "refuse", {})
    manager.commit(tx, wait_max_seconds=0)
    manager.resolve(tx, "s1", "left_in_place", note="kept", wait_max_seconds=0)


def _approved(manager):
    tx = manager.begin(timeout_seconds=600)
    manager.add_step(tx, "a", "do", {}, requires_approval=True, approval_timeout_seconds=60)
    manager.add_step(tx, "a", "do", {}, requires_approval=True)
    manager.commit(tx, wait_max_seconds=0)
    manager.approve(tx, "s1", by="alice", note="fine", wait_max_seconds=0)
    manager.deny(tx, "s2", by="bob", note="no", wait_max_seconds=0)


def _program(manager):
    with manager.transaction(isolation="exclusive") as tx:
        one = tx.execute("a", "do", {"n": 1}, resources=["r:3"])
        with tx.savepoint("try") as part:
            tx.execute("a", "do", {"n": 2})
            part.rollback()
        with tx.transaction() as inner:
            inner.execute("b", "do", {"id": one["id"]})
        tx.execute("c", "mail", {}, on_commit=True)


def _undone_program(manager):
    try:
        with manager.transaction() as tx:
            tx.execute("a", "do", {})
            tx.execute("a", "refuse", {})
    except (StepRejected, TransactionError):
        return


def _rolled_back(manager):
    tx = manager.begin()
    manager.add_step(tx, "a", "do", {})
    manager.rollback(tx)


def _submitted(manager):
    tx = manager.begin(idempotency_key="key-1")
    manager.add_step(tx, "a", "do", {})
    manager.submit(tx)


def _saved(manager):
    tx = manager.begin()
    manager.add_step(tx, "a", "do", {})
    manager.save(tx)
    manager.add_step(tx, "a", "do", {})
    manager.save(tx)


STORIES = (
    _planned(),
    _planned(("do", {})),
    _planned(("do", {}), ("do", {}), ("refuse", {}), parallel_compensation=True),
    _planned(("do", {"compensating_action": "bad_undo"}), ("refuse", {})),
    _planned(("do", {"compensating_action": "go_on"}), ("refuse", {})),
    _planned(("asked", {"compensating_action": "undo"})),
    _planned(("do", {}), ("fine", {"pivot": True}), ("mail", {"on_commit": True})),
    _planned(("do", {"confirming_action": "confirm", "undo_within_seconds": 60})),
    _planned(("unknown", {}), timeout_scope="transaction", isolation="validated"),
    _refers,
    _in_doubt,
    _halted,
    _approved,
    _program,
    _undone_program,
    _rolled_back,
    _submitted,
    _saved,
)


# ------------------------------------------------------------------------------------- mutations


def mutated(data: bytes, others: list[bytes], dice: Random) -> bytes:
    """Return an input that is another in one to four places.

    Args:
        data: The input.
        others: Inputs to take pieces of.
        dice: What chooses.
    """
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        shape = _shaped(data)
        if shape is None or dice.random() < 0.15:
            data = _bytes_mutated(data, others, dice)
        else:
            data = _shape_mutated(shape, others, dice)
    return data


def _shaped(data: bytes) -> list[object] | None:
    """Return the JSON of each line; None where it is no JSON, as a TOML plan."""
    try:
        return [json.loads(line) for line in data.split(b"\n")]
    except (ValueError, RecursionError):
        return None


def _bytes_mutated(data: bytes, others: list[bytes], dice: Random) -> bytes:
    start = dice.randint(0, len(data))
    end = min(len(data), start + dice.choice((0, 1, 1, 2, 8, 40)))
    piece = dice.choice(TOKENS)
    if others and dice.random() < 0.3:
        other = dice.choice(others)
        from_ = dice.randint(0, len(other))
        piece = other[from_ : from_ + dice.choice((1, 4, 20, 100))]
    elif dice.random() < 0.3:
        piece = bytes([dice.randrange(256)])
    elif dice.random() < 0.3:
        piece = data[start:end] * 2
    return data[:start] + piece + data[end:]


def _shape_mutated(lines: list[object], others: list[bytes], dice: Random) -> bytes:
    lines = copy.deepcopy(lines)
    at = dice.randrange(len(lines))
    how = dice.random()
    if how < 0.08 and len(lines) > 1:
        del lines[at]
    elif how < 0.16:
        lines.insert(dice.randint(0, len(lines)), copy.deepcopy(lines[at]))
    elif how < 0.24 and len(lines) > 1:
        to = dice.randrange(len(lines))
        lines[at], lines[to] = lines[to], lines[at]
    elif how < 0.34 and others:
        found = _shaped(dice.choice(others))
        if found:
            lines.insert(dice.randint(0, len(lines)), dice.choice(found))
    else:
        lines[at] = _value_mutated(lines[at], dice)
    return b"\n".join(_written(line) for line in lines)


def _written(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def _value_mutated(value: object, dice: Random) -> object:
    """Return a value with one place in it changed, removed, doubled or renamed."""
    places = list(_places(value))
    if not places:
        return dice.choice(HOSTILE)
    holder, key = dice.choice(places)
    how = dice.random()
    if how < 0.15:
        del holder[key]
    elif how < 0.25 and isinstance(holder, dict):
        holder[dice.choice(["", "x", "at", "step_id", key + "s"])] = holder[key]
    elif how < 0.45:
        source, name = dice.choice(places)
        holder[key] = copy.deepcopy(source[name]) if name in _keys(source) else None
    elif how < 0.55:
        holder[key] = [holder[key]]
    else:
        holder[key] = copy.deepcopy(dice.choice(HOSTILE))
    return value


def _keys(holder):
    return holder if isinstance(holder, dict) else range(len(holder))


def _places(value):
    if isinstance(value, (dict, list)):
        for key in _keys(value):
            yield value, key
            yield from _places(value[key])
