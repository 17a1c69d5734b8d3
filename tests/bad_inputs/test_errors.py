"""Every public error comes out of the public API at least once, with a message that says why.

A class that is in no scenario here fails the last test; there is no list of exceptions to it but
`NEVER_BY_ITSELF`, with a reason in words.
"""

import contextlib
import inspect
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from aumai_transactions import (
    TransactionManager,
    errors,
    open_store,
    require_transaction,
    restore,
)
from aumai_transactions.models import RetryPolicy
from aumai_transactions.plans import load_plan
from aumai_transactions.testing.journals import act, plan

SECONDS_MAX = 60
NEVER_BY_ITSELF = {
    errors.TransactionError: "it is the root, to be caught: whatever is raised is more exact",
}
# What a handler raises is no error of ours when it comes out: the core is told by it.
STEERING = (
    errors.StepRejected,
    errors.NotDelivered,
    errors.OutcomeUnknown,
    errors.RetryLater,
)


def refuse(action, data):
    raise errors.StepRejected("declined")


def lose(action, data):
    raise errors.OutcomeUnknown("no answer")


def later(action, data):
    raise errors.RetryLater(3_600, "closed")


def do(action, data):
    return {"did": action}


class World:
    """A manager on a store of its own, and the actions that scenarios need."""

    def __init__(self, folder):
        self.folder = folder
        self.place = folder / "s.db"
        self.manager = self.another()

    def another(self, **options):
        manager = TransactionManager(
            {"do": do, "undo": do, "refuse": refuse, "later": later}, store=self.place, **options
        )
        manager.action("lose", on_unknown="ask")(lose)
        manager.action("wire", effect="irreversible")(do)
        manager.action("ask", requires_approval=True)(do)
        manager.action("read", effect="none", reread=lambda data, context: False)(do)
        return manager

    def begun(self, *actions, **options):
        tx = self.manager.begin(**options)
        for action in actions:
            self.manager.add_step(tx, "agent", action, {}, "undo" if action == "do" else None)
        return tx

    def committed(self, *actions, **options):
        tx = self.begun(*actions, **options)
        self.manager.commit(tx, wait_max_seconds=0)
        return tx

    def edit(self, statement):
        connection = sqlite3.connect(self.place, isolation_level=None)
        connection.execute(statement)
        connection.close()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.manager.close()


# ------------------------------------------------------------------------------------- scenarios


def invalid_transaction_state(world):
    world.manager.commit(world.committed("do"))


def transaction_not_active(world):
    world.manager.join(world.committed("do").transaction_id)


def commit_point_passed(world):
    tx = world.begun("do")
    world.manager.action("mail", idempotent=True, retry=RetryPolicy(attempts_max=1))(refuse)
    world.manager.add_step(tx, "agent", "mail", {}, on_commit=True)
    assert world.manager.commit(tx, wait_max_seconds=0).state.value == "committing"
    world.manager.rollback(tx)


def no_active_transaction(world):
    require_transaction()


def step_in_doubt(world):
    with world.manager.transaction() as tx:
        tx.execute("agent", "lose", {})


def step_failed(world):
    with world.manager.transaction(accepts_requests=True) as tx, world.another() as other:
        tx.execute("agent", "do", {}, "undo")
        other.request_step(tx.transaction_id, "agent", "refuse", {})


def step_undone(world):
    entered, go_on = threading.Event(), threading.Event()

    def wait(action, data):
        entered.set()
        assert go_on.wait(SECONDS_MAX)

    world.manager.action("wait")(wait)
    with world.manager.transaction() as tx, ThreadPoolExecutor() as pool:
        call = tx.bind(tx.execute)
        running = pool.submit(call, "agent", "wait", {}, "undo", step_id="s")
        assert entered.wait(SECONDS_MAX)
        undoing = pool.submit(tx.bind(tx.undo), "s")
        while "partial_rollback_started" not in kinds(world, tx) and not undoing.done():
            assert not threading.Event().wait(0.001)
        go_on.set()
        undoing.result(SECONDS_MAX)
        running.result(SECONDS_MAX)


def kinds(world, tx):
    return [event.kind for event in world.manager.get_events(tx.transaction_id)]


def lock_timeout(world):
    with world.another() as other, other.transaction() as holder:
        holder.execute("agent", "do", {}, resources=["r"])
        with world.manager.transaction(lock_timeout_seconds=0.05) as tx:
            tx.execute("agent", "do", {}, resources=["r"])


def approval_pending(world):
    with world.manager.transaction() as tx:
        tx.execute("agent", "ask", {}, approval_timeout_seconds=60, wait_max_seconds=0)


def undo_refused(world):
    with world.manager.transaction() as tx:
        tx.execute("agent", "do", {}, "undo", step_id="seat")
        tx.execute("agent", "do", {}, "undo", step_id="ticket", after=["seat"])
        tx.undo("seat", with_dependents=False)


def definition_error(world):
    world.manager.begin(timeout_seconds=0)


def unknown_action(world):
    with world.another(strict=True) as strict:
        tx = strict.begin()
        strict.add_step(tx, "agent", "nobody", {})
        strict.commit(tx)


def duplicate_step(world):
    tx = world.begun("do", "do")
    tx.steps[1].step_id = tx.steps[0].step_id
    world.manager.commit(tx)


def unknown_step(world):
    world.manager.add_step(world.begun(), "agent", "do", {}, after=["nowhere"])


def dependency_cycle(world):
    tx = world.begun("do", "do")
    tx.steps[0].after = ["s2"]
    world.manager.commit(tx)


def irreversible_before_compensatable(world):
    world.manager.commit(world.begun("wire", "do"))


def plan_file_error(world):
    load_plan(world.folder / "nowhere.toml")


def idempotency_key_reused(world):
    world.manager.begin(idempotency_key="k")
    world.manager.begin(idempotency_key="k", timeout_seconds=7)


def invalid_data(world):
    world.manager.add_step(world.begun(), "agent", "do", {"x": {1, 2}})


def transaction_rolled_back(world):
    tx = world.begun("do", "refuse")
    world.manager.commit(tx).raise_for_state()


def transaction_expired(world):
    tx = world.begun("do", timeout_seconds=1e-6)
    world.manager.commit(tx).raise_for_state()


def read_conflict(world):
    with world.manager.transaction() as tx:
        tx.execute("agent", "read", {})


def deadlock(world):
    meeting = threading.Barrier(2, timeout=SECONDS_MAX)

    def run(manager, first, second):
        with manager.transaction() as tx:
            tx.execute("agent", "do", {}, "undo", resources=[first])
            meeting.wait()
            tx.execute("agent", "do", {}, "undo", resources=[second])

    with world.another() as other, ThreadPoolExecutor() as pool:
        rivals = [
            pool.submit(run, world.manager, "a", "b"),
            pool.submit(run, other, "b", "a"),
        ]
        for rival in rivals:
            rival.result(SECONDS_MAX)


def transaction_not_final(world):
    tx = world.begun()
    hourly = RetryPolicy(first_delay_seconds=3_600, delay_seconds_max=3_600, jitter=0)
    world.manager.add_step(tx, "agent", "later", {}, retry=hourly)
    world.manager.commit(tx, wait_max_seconds=0).raise_for_state()


def store_error(world):
    open_store("mysql://h/db", create=True)


def store_unavailable(world):
    world.begun(idempotency_key="k")
    world.place.rename(world.folder / "moved.db")
    world.begun(idempotency_key="l")


def journal_conflict(world):
    tx = world.begun("do")
    world.manager.save(tx)
    with world.another() as other:
        mine = other.get_transaction(tx.transaction_id)
        other.add_step(mine, "agent", "do", {})
        other.save(mine)
    world.manager.save(tx)


def transaction_not_found(world):
    world.committed("do")
    world.manager.get_transaction("nowhere")


def store_not_found(world):
    open_store(world.folder / "nowhere.db", create=False)


def store_format_error(world):
    (world.folder / "diary.db").write_text("Dear diary,\n" * 100)
    open_store(world.folder / "diary.db", create=True)


def schema_version_error(world):
    world.committed("do")
    world.manager.close()
    world.edit("PRAGMA user_version = 99")
    open_store(world.place, create=False)


def backup_error(world):
    world.committed("do")
    file = world.folder / "backup"
    world.manager.back_up(file)
    file.write_bytes(file.read_bytes()[:-1])
    restore(file, f"sqlite:///{world.folder}/restored.db")


def journal_corrupt(world):
    tx = world.committed("do")
    world.edit("UPDATE entries SET body = x'7b7d' WHERE sequence = 2")
    world.manager.get_result(tx)


def journal_too_new(world):
    import hashlib
    import json

    tx = world.begun("do")
    world.manager.save(tx)
    name = tx.transaction_id.encode()
    body = json.dumps({"v": 2, "id": "x", "kind": "x"}).encode()
    head = b"1 %d %s 1 " % (len(name), name)
    digest = hashlib.sha256(head + bytes(32) + body).hexdigest()
    world.edit(f"UPDATE entries SET body = x'{body.hex()}', hash = x'{digest}'")  # noqa: S608
    world.edit(f"UPDATE transactions SET head_hash = x'{digest}'")  # noqa: S608 (a test's own)
    world.manager.get_result(tx.transaction_id)


def engine_error(world):
    from aumai_transactions.engines import engine_of

    engine_of("nowhere", f"sqlite:///{world.folder}/engine.db")


def internal_error(world):
    with contextlib.closing(open_store(world.folder / "other.db", create=True)) as store:
        store.append([plan("tx")])
        # An act without a token: no driver of ours does so, and a store of somebody else's might
        # be asked to.
        store.append([act("tx", 2, 1)._replace(token=None, entries=[claimed()])])


def claimed():
    from aumai_transactions.core.entries import TransactionActivated

    return TransactionActivated(1)


SCENARIOS = {
    kind: globals()[name]
    for name, kind in {
        "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__)[1:]: kind
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, errors.TransactionError)
    }.items()
    if name in globals()
}


@pytest.mark.parametrize("kind", SCENARIOS, ids=lambda kind: kind.__name__)
def test_an_error_comes_out_of_the_public_api(world, kind):
    with pytest.raises(errors.TransactionError) as caught:
        SCENARIOS[kind](world)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert 20 < len(message) < 1_000
    assert message.isprintable()
    for name in ("transaction_id", "step_id", "place", "file", "path", "key"):
        if hasattr(caught.value, name):
            assert str(getattr(caught.value, name)) in message


@pytest.mark.parametrize("kind", STEERING, ids=lambda kind: kind.__name__)
def test_what_a_handler_raises_steers_and_is_told(world, kind):
    def steer(action, data):
        raise kind(3_600) if kind is errors.RetryLater else kind("told so")

    world.manager.action("steer", on_unknown="ask")(steer)
    tx = world.begun("steer")
    result = world.manager.commit(tx, wait_max_seconds=0)
    expected = {
        errors.StepRejected: ("rolled_back", None),
        errors.NotDelivered: ("rolled_back", None),
        errors.OutcomeUnknown: ("active", "in_doubt"),
        errors.RetryLater: ("active", "retry"),
    }
    waiting = result.waiting.reason if result.waiting else None
    assert (result.state.value, waiting) == expected[kind]
    if kind is not errors.RetryLater:
        assert f"{kind.__name__}: told so" in (result.error or "")


def test_every_public_error_is_produced_here_or_there_is_a_reason_why_not():
    public = {getattr(errors, name) for name in errors.__all__}
    kinds = {thing for thing in public if inspect.isclass(thing)}
    assert kinds == {*SCENARIOS, *STEERING, *NEVER_BY_ITSELF}
    assert all(len(reason.split()) > 5 for reason in NEVER_BY_ITSELF.values())
    functions = {thing.__name__ for thing in public - kinds}
    assert functions == {"rolled_back"}
