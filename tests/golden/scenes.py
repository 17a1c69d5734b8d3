"""Small histories that between them say everything that a journal can say.

Owns: `Stage`, on which the real drivers act with a clock that a scene moves, and the scenes. Each
scene is a function of a stage; it returns nothing, and every transaction that it leaves in the
store becomes a golden journal. Nothing here runs two threads at once, but where a call is given up:
then one waits for the other.
"""
# mypy: disable-error-code="arg-type, dict-item, union-attr, var-annotated"

import contextlib
import itertools
import random
import threading

from aumai_transactions import (
    Continue,
    Done,
    JournalConflict,
    NotDone,
    NothingToUndo,
    OutcomeUnknown,
    Residue,
    Resource,
    RetryLater,
    RetryPolicy,
    StepRejected,
    TransactionManager,
    Unknown,
)
from aumai_transactions.answers import Clean
from aumai_transactions.core.entries import (
    RestoredFromBackup,
    RollbackRequested,
    TransactionImported,
    TrustGiven,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.journal import load
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.core.saga import Saga
from aumai_transactions.drivers.freezing import frozen
from aumai_transactions.models import Transaction, TransactionState
from aumai_transactions.store import Append
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.clock import ManualClock

T0 = 1_772_193_600_000_000
TWICE = RetryPolicy(attempts_max=2, first_delay_seconds=0, jitter=0)
SLOWLY = RetryPolicy(attempts_max=3, first_delay_seconds=5, jitter=0)
PLENTY = 3_600

FORWARD = {
    "ok": lambda stage: {"did": "it"},
    "no": lambda stage: _raise(StepRejected("full")),
    "broken": lambda stage: _raise(ValueError("broken")),
    "maybe": lambda stage: _raise(OutcomeUnknown("no answer")),
    "later": lambda stage: _raise(RetryLater(after_seconds=3)),
    "dies": lambda stage: stage.dies(),
}
BACK = {
    "ok": lambda stage: None,
    "nothing": lambda stage: NothingToUndo("nothing there"),
    "continue": lambda stage: Continue({"instead": 1}),
    "broken": lambda stage: _raise(ValueError("cannot")),
    "later": lambda stage: _raise(RetryLater(after_seconds=3)),
    "dies": lambda stage: stage.dies(),
}
ASKED = {
    "done": lambda stage: Done({"did": "it"}),
    "not": lambda stage: NotDone("never came"),
    "unknown": lambda stage: Unknown("cannot tell"),
    "broken": lambda stage: _raise(ValueError("no line")),
}
LOOKED = {"clean": lambda stage: Clean(), "left": lambda stage: Residue({"left": 1})}
LOOKED["unknown"] = lambda stage: Unknown("cannot tell")


def _raise(error):
    raise error


class Stage:
    """A store, a clock, and managers that all know the same actions.

    What a call does stands in the step's data: `does`, `undo`, `asked`, `looked`, `confirms`, each
    a word or a list of words, of which each call takes the next and the last is repeated.
    """

    def __init__(self, seed):
        self.store = MemoryStore()
        self.store._store_id = f"{seed:032x}"  # Ids of transactions with a key come from it.
        self.clock = ManualClock(T0)
        self.dice = random.Random(seed)
        self.counts = {}
        self.go, self.heard = threading.Event(), threading.Event()
        self.made = []
        self.manager = self.join()

    def join(self, **options):
        manager = TransactionManager(
            store=self.store, clock=self.clock, on_event=self._on_event, **options
        )
        manager._desk().draw = self.dice.random
        self._declare(manager)
        self.made.append(manager)
        return manager

    def close(self):
        self.go.set()
        for manager in self.made:
            manager.close()

    def _on_event(self, event):
        self.clock.advance(0.001)
        if event.kind == "call_returned_late":
            self.heard.set()

    def _said(self, word, table, context, default):
        words = word if isinstance(word, list) else [word or default]
        place = (context.transaction_id, context.step_id, context.operation)
        number = self.counts[place] = self.counts.get(place, 0) + 1
        return table[words[min(number, len(words)) - 1]](self)

    def act(self, action, data, context):
        return self._said(data.get("does"), FORWARD, context, "ok")

    def undo(self, action, data, context):
        return self._said(data.get("undo"), BACK, context, "ok")

    def ask(self, data, context):
        return self._said(data.get("asked"), ASKED, context, "unknown")

    def look(self, data, context):
        return self._said(data.get("looked"), LOOKED, context, "clean")

    def confirm(self, action, data, context):
        return self._said(data.get("confirms"), FORWARD, context, "ok")

    def slow(self, action, data, context):
        self.go.wait()
        return self._said(data.get("does"), FORWARD, context, "ok")

    def reread(self, data, context):
        return data.get("still", True)

    def _declare(self, manager):
        action = manager.action
        action("plain", compensating_action="undo")(self.act)
        action("bare")(self.act)
        action("safe", compensating_action="undo", idempotent=True)(self.act)
        action("again", compensating_action="undo", idempotent=True, retry=SLOWLY)(self.act)
        asked = {"compensating_action": "undo", "probe": self.ask, "probe_retry": TWICE}
        action("asked", **asked)(self.act)
        action("asked_safe", idempotent=True, **asked)(self.act)
        action("person", compensating_action="undo", on_unknown="ask")(self.act)
        action("burn", effect="irreversible")(self.act)
        action("read", effect="none", reread=self.reread)(self.act)
        looked = {"verify": self.look, "verify_retry": TWICE}
        action("checked", compensating_action="undo", **looked)(self.act)
        action("reserve", compensating_action="undo", confirming_action="confirm")(self.act)
        action("mail", idempotent=True, retry=TWICE)(self.act)
        action("allowed", compensating_action="undo", requires_approval=True)(self.act)
        action("slow", compensating_action="undo", timeout_seconds=0.01)(self.slow)
        action("window", compensating_action="undo", undo_within_seconds=600)(self.act)
        shared = [Resource.shared("thing:{on}")]
        action("look", effect="none", resources=shared)(self.act)
        action("take", compensating_action="undo", resources=["thing:{on}"])(self.act)
        action("undo", idempotent=True, retry=TWICE)(self.undo)
        action("undo_once")(self.undo)
        action("confirm", idempotent=True, retry=TWICE)(self.confirm)

    def dies(self):
        """Let the driver of this very call be dead to the store, and another one go on.

        What the call answers after that is late.
        """
        for manager in list(self.made):
            self.store.leave(manager._desk().driver_id)
        self.manager = heir = self.join()
        self.clock.advance(1)
        heir.recover(wait_max_seconds=PLENTY)
        return {"did": "it, too late"}

    # ------------------------------------------------------------------------------ programs

    def plan(self, *steps, wait=PLENTY, timeout=PLENTY, **options):
        """Commit a plan of pairs of an action and its data; return the transaction."""
        tx = self.manager.begin(timeout, **options)
        for name, data, *more in steps:
            self.manager.add_step(tx, data.get("by", "agent"), name, data, **dict(*more))
        with contextlib.suppress(JournalConflict):
            self.manager.commit(tx, wait_max_seconds=wait)
        return tx

    def block(self, function, **options):
        """Carry out an interactive program, whatever it raises."""
        block = self.manager.transaction(PLENTY, **options)
        with contextlib.suppress(Exception), block as tx:
            function(tx)
        return block.transaction_id

    @staticmethod
    def tries(tx, name, data=None, **options):
        """Execute a step, and go on whatever it raises."""
        try:
            return tx.execute("agent", name, data or {}, **options)
        except Exception:
            return None


# ------------------------------------------------------------------------------------------ plans


def planned(stage):
    """Plans of one to three steps, in each of which something happens at each place."""
    for length in (1, 2, 3):
        for place, word in itertools.product(range(length), ("no", "broken", "maybe", "later")):
            steps = [("plain", {"n": n}) for n in range(length)]
            steps[place] = ("plain", {"n": place, "does": word})
            stage.plan(*steps)
        stage.plan(*[("plain", {"n": n}) for n in range(length)])


def kinds_of_actions(stage):
    """Every kind of action, with every kind of answer, between two ordinary steps."""
    names = ("bare", "safe", "again", "asked", "asked_safe", "person", "checked", "reserve")
    for name, word in itertools.product(names, ("ok", "no", "maybe", "dies")):
        stage.plan(("plain", {}), (name, {"does": [word, "ok"]}), ("plain", {}))


def probes(stage):
    for name, word, answer in itertools.product(("asked", "asked_safe"), ("maybe", "dies"), ASKED):
        stage.plan(("plain", {}), (name, {"does": [word, "ok"], "asked": answer}))
    stage.plan(("asked", {"does": "maybe", "asked": ["broken", "done"]}))
    stage.plan(("asked_safe", {"does": ["maybe", "maybe"], "asked": ["unknown", "unknown", "not"]}))


def undos(stage):
    """Every answer of an undo, of the last step and of one before it."""
    for word, place in itertools.product(BACK, (0, 1)):
        steps = [("plain", {"undo": "ok"}), ("plain", {"undo": "ok"}), ("bare", {"does": "no"})]
        steps[place] = ("plain", {"undo": [word, word, "ok"]})
        stage.plan(*steps)
        stage.plan(*steps, on_compensation_failure="halt")
    for word in BACK:
        stage.plan(("plain", {"does": "maybe", "undo": word}))
        stage.plan(("plain", {"does": "no", "undo": word}), ("plain", {}))
    for answer in LOOKED:
        stage.plan(("checked", {"looked": answer}), ("bare", {"does": "no"}))
    stage.plan(("checked", {"looked": ["unknown", "clean"]}), ("bare", {"does": "no"}))


def graphs(stage):
    """Steps side by side, and undos that follow the dependencies."""
    for word, parallel in itertools.product(("ok", "no", "maybe"), (False, True)):
        tx = stage.manager.begin(PLENTY, parallel_compensation=parallel)
        add = stage.manager.add_step
        root = add(tx, "root", "plain", {"n": 0})
        left = add(tx, "left", "plain", {"from": root.output("did")}, after=[root])
        right = add(tx, "right", "plain", {"n": 2}, after=[root])
        add(tx, "alone", "bare", {"n": 3}, after=[])
        add(tx, "join", "plain", {"does": word}, after=[left, right])
        stage.manager.commit(tx)
    stage.plan(("plain", {}), ("plain", {"does": ["later", "later", "ok"]}, {"retry": SLOWLY}))
    stage.plan(("again", {"does": ["broken", "broken", "broken"]}), wait=0)


def wishes(stage):
    """What people and other processes ask for."""
    manager = stage.manager
    tx = manager.begin()
    manager.add_step(tx, "agent", "plain", {})
    manager.rollback(tx)
    for answer in ("happened", "did_not_happen"):
        tx = stage.plan(("plain", {}), ("person", {"does": "maybe"}), ("plain", {}))
        manager.resolve(tx, "s2", answer, note="asked", by="ann")
    tx = stage.plan(("plain", {}), ("person", {"does": ["maybe", "ok"]}))
    manager.retry(tx, "s2", note="once more", by="ann")
    tx = stage.plan(("plain", {}), ("person", {"does": "maybe"}))
    manager.rollback(tx)
    for answer in ("undone", "left_in_place"):
        tx = stage.plan(("plain", {"undo": "broken"}), ("bare", {"does": "no"}))
        manager.resolve(tx, "s1", answer, note="by hand", by="ann")
    tx = stage.plan(("plain", {"undo": ["broken", "broken", "ok"]}), ("bare", {"does": "no"}))
    manager.retry(tx, "s1", note="mended", by="ann")
    tx = stage.plan(("again", {"does": ["later", "ok"]}), wait=0)
    manager.rollback(tx)
    tx = manager.begin(10)
    manager.add_step(tx, "agent", "plain", {})
    stage.clock.advance(11)
    manager.commit(tx)
    tx = manager.begin(10, timeout_scope="transaction")
    manager.add_step(tx, "agent", "again", {"does": ["later", "later", "ok"]})
    manager.add_step(tx, "agent", "plain", {})
    manager.commit(tx)
    tx = manager.begin(PLENTY, idempotency_key="order-7", name="an order", metadata={"tenant": "a"})
    manager.add_step(tx, "agent", "plain", {})
    manager.commit(tx)
    tx = manager.begin()
    manager.add_step(tx, "agent", "plain", {})
    manager.submit(tx)
    stage.join().recover()
    tx = manager.begin()
    manager.add_step(tx, "agent", "unheard_of", {"n": 1}, "neither")
    manager.commit(tx)
    stage.plan(("bare", {"does": "maybe"}, {"compensating_action": "not_here"}))
    stage.plan(("plain", {}), ("bare", {"does": "no"}), name="ünïcode ☂", metadata={"tenant": "é"})


def approvals(stage):
    manager = stage.manager
    for said in ("approve", "deny", "late", "rollback"):
        tx = stage.plan(("plain", {}), ("allowed", {}, {"approval_timeout_seconds": 60}), wait=0)
        if said == "approve":
            manager.approve(tx, "s2", by="ann", note="fine")
        elif said == "deny":
            manager.deny(tx, "s2", by="ann", note="no")
        elif said == "rollback":
            manager.rollback(tx)
        else:
            stage.clock.advance(61)
            manager.wait(tx)


# ------------------------------------------------------------------------------- the commit point


def commit_point(stage):
    mail = ("mail", {}, {"on_commit": True})
    for word in ("ok", "no", "maybe", "dies"):
        stage.plan(("plain", {}), ("burn", {"does": word}, {"pivot": True}), mail)
    for answer in ("happened", "did_not_happen"):
        tx = stage.plan(("plain", {}), ("burn", {"does": "maybe"}, {"pivot": True}), mail)
        stage.manager.resolve(tx, "s2", answer, note="asked")
    for word in ("ok", "no", "maybe", "dies"):
        stage.plan(("reserve", {"confirms": [word, word, "ok"]}), mail)
        stage.plan(("reserve", {}), ("mail", {"does": [word, word, "ok"]}, {"on_commit": True}))
    for step, answer in itertools.product(("s1", "s2"), ("happened", "left_in_place", "retry")):
        wrong = {"confirms": ["no", "no", "ok"]} if step == "s1" else {}
        last = {"does": ["no", "no", "ok"]} if step == "s2" else {}
        tx = stage.plan(("reserve", wrong), ("mail", last, {"on_commit": True}))
        with contextlib.suppress(Exception):
            if answer == "retry":
                stage.manager.retry(tx, step)
            else:
                stage.manager.resolve(tx, step, answer, note="by hand")
    for still in (True, False):
        stage.plan(("read", {"still": still}), ("plain", {}))
        stage.plan(("read", {"still": still}), ("burn", {}, {"pivot": True}))


# ------------------------------------------------------------------------------------ interactive


def programs(stage):
    def plain(tx):
        tx.execute("agent", "plain", {"n": 1})
        tx.execute("other", "safe", {"n": 2})

    stage.block(plain)
    for word in ("no", "maybe", "dies"):
        stage.block(lambda tx, word=word: [stage.tries(tx, "plain", {"does": word}), plain(tx)])
        stage.block(lambda tx, word=word: [plain(tx), tx.execute("agent", "plain", {"does": word})])
        stage.block(lambda tx, word=word: [plain(tx), stage.tries(tx, "person", {"does": word})])
        stage.block(lambda tx, word=word: [stage.tries(tx, "asked", {"does": [word, "ok"]})])
    stage.block(lambda tx: [plain(tx), _raise(KeyError("left"))])
    stage.block(lambda tx: [plain(tx), tx.rollback()])
    stage.block(
        lambda tx: [
            tx.execute("agent", "reserve", {}),
            tx.execute("agent", "mail", {}, on_commit=True),
        ]
    )
    stage.block(lambda tx: [plain(tx), tx.execute("agent", "burn", {}, pivot=True)])
    stage.block(lambda tx: [tx.execute("agent", "read", {"still": False})])
    stage.block(lambda tx: [tx.execute("agent", "plain", {}), tx.undo("s1"), plain(tx)])


def groups(stage):
    def saved(tx, *, undo, fails=False):
        tx.execute("agent", "plain", {"n": 0})
        with contextlib.suppress(KeyError), tx.savepoint() as savepoint:
            tx.execute("agent", "plain", {"n": 1})
            tx.execute("agent", "plain", {"n": 2, "undo": "broken" if fails else "ok"})
            if undo:
                raise KeyError("back")
        tx.execute("agent", "plain", {"n": 3})
        return savepoint

    for undo, fails in itertools.product((False, True), repeat=2):
        stage.block(lambda tx, undo=undo, fails=fails: saved(tx, undo=undo, fails=fails))

    def nested(tx, word):
        tx.execute("agent", "plain", {"n": 0})
        with contextlib.suppress(Exception), tx.transaction("child") as child:
            child.execute("agent", "plain", {"n": 1})
            child.execute("agent", "plain", {"n": 2, "does": word})
        tx.execute("agent", "plain", {"n": 3})

    for word in ("ok", "no", "maybe", "dies"):
        stage.block(lambda tx, word=word: nested(tx, word))
        stage.block(lambda tx, word=word: [nested(tx, word), _raise(KeyError("left"))])

    def asked_to_undo_a_child(tx, *, depends):
        with tx.transaction("child") as child:
            child.execute("agent", "plain", {"n": 1})
            step = child.steps[-1]
        stage.join().rollback(child.transaction_id, wait_max_seconds=0)
        after = {"after": [step.step_id]} if depends else {}
        tx.execute("agent", "plain", {"n": 2}, **after)
        tx.execute("agent", "plain", {"n": 3})

    for depends in (False, True):
        stage.block(lambda tx, depends=depends: asked_to_undo_a_child(tx, depends=depends))


def crashes_of_programs(stage):
    """A program that dies between two steps, and what becomes of it."""
    for on_crash in ("roll_back", "wait", "resume"):
        within = {"resume_within_seconds": 60} if on_crash == "wait" else {}
        block = stage.manager.transaction(PLENTY, on_crash=on_crash, **within)
        with contextlib.suppress(Exception), block as tx:
            tx.execute("agent", "plain", {"n": 1})
            stage.dies()
            _raise(KeyError("gone"))
        heir = stage.made[-1]
        if on_crash == "resume":
            with contextlib.suppress(Exception), heir.resume(block.transaction_id) as tx:
                tx.execute("agent", "plain", {"n": 1})
                tx.execute("agent", "plain", {"n": 2})
        stage.clock.advance(61)
        heir.recover()
        stage.manager = heir


def windows(stage):
    """An undo that is possible only for a while."""
    for policy in ("warn", "roll_back"):
        tx = stage.plan(
            ("window", {}), ("again", {"does": ["later", "later", "ok"]}), on_undo_window=policy
        )
        tx = stage.plan(("window", {}), ("person", {"does": "maybe"}), on_undo_window=policy)
        stage.clock.advance(590)
        stage.manager.wait(tx, timeout_seconds=0)
        stage.manager.recover()

    def waits(tx):
        tx.execute("agent", "window", {})
        stage.clock.advance(590)
        tx.execute("agent", "plain", {})

    stage.block(waits)


def left_behind(stage):
    """A call that is given up, and answers when nobody waits for it any more."""
    for word in ("ok", "no", "maybe"):
        stage.go.clear()
        stage.heard.clear()
        tx = stage.plan(("plain", {}), ("slow", {"does": word}), wait=0)
        stage.go.set()
        stage.heard.wait()
        stage.manager.wait(tx)
    stage.go.clear()
    stage.heard.clear()
    tx = stage.plan(("plain", {}), ("slow", {}), wait=0)
    stage.clock.advance(100)
    stage.manager.wait(tx)
    stage.go.set()
    stage.heard.wait()


# ----------------------------------------------------------------------------------------- others


def resources(stage):
    for name in ("take", "look"):
        stage.plan((name, {"on": "a"}), (name, {"on": "b"}))
        stage.plan((name, {"on": "a"}), (name, {"on": "b", "does": "no"}))
        stage.block(lambda tx, name=name: [tx.execute("agent", name, {"on": "a"})])

    def meets(tx, isolation):
        tx.execute("agent", "take", {"on": "a"})
        other = stage.manager.begin(PLENTY, isolation=isolation)
        stage.manager.add_step(other, "agent", "take", {"on": "a"})
        stage.manager.commit(other, wait_max_seconds=0)

    stage.block(lambda tx: meets(tx, "exclusive"))
    stage.join().recover()
    for changes in (False, True):

        def reads(tx, changes=changes):
            tx.execute("agent", "look", {"on": "a"})
            if changes:
                tx_other = stage.join().begin(PLENTY)
                other = stage.made[-1]
                other.add_step(tx_other, "agent", "take", {"on": "a"})
                other.commit(tx_other)
            tx.execute("agent", "plain", {})

        stage.block(reads, isolation="validated")
        stage.plan(("look", {"on": "b"}), ("take", {"on": "c"}), isolation="validated")


def requests(stage):
    """Steps that somebody else asks for, one of which cannot be."""

    def program(tx):
        tx.execute("agent", "plain", {"n": 1})
        other = stage.join()
        for action, more in (("plain", {}), ("mail", {"pivot": True, "on_commit": False})):
            with contextlib.suppress(Exception):
                other.request_step(
                    tx.transaction_id, "guest", action, {"n": 2}, wait_max_seconds=0, **more
                )
        with contextlib.suppress(Exception):
            other.request_step(
                tx.transaction_id,
                "guest",
                "plain",
                {"n": 3},
                after=["s99"],
                wait_max_seconds=0,
            )
        tx.execute("agent", "plain", {"n": 4})

    stage.block(program)


def imports(stage):
    """What an earlier release had finished."""
    for number, state in enumerate(TransactionState):
        if not state.is_final:
            continue
        tx = Transaction(transaction_id=f"imported-{number}", timeout_seconds=60)
        tx.__dict__["created_at"] = stage.manager.begin().created_at
        stage.manager._added(
            tx, stage.manager._new_step(tx, "agent", "plain", {"n": 1}, "undo", {})
        )
        definition = frozen(tx, stage.manager.actions, None)
        entry = TransactionImported(stage.clock.now(), definition, state, "transactions.json")
        saga = Saga(tx.transaction_id)
        evolve(saga, entry)
        append = Append(tx.transaction_id, 0, f"import-{number}", [entry], summary_of(saga))
        stage.store.append([append])


def restores(stage):
    """What came out of a backup: held back, let go on, or wanted back."""

    def said(name, *entries):
        journal = stage.store.read(name)
        saga = load(journal)
        for entry in entries:
            evolve(saga, entry)
        append_id = f"restore.{name}.{journal.head_sequence}"
        append = Append(name, journal.head_sequence, append_id, entries, summary_of(saga))
        assert stage.store.append([append]) == ["appended"]

    for number in range(3):
        tx = stage.manager.begin()
        stage.manager.add_step(tx, "agent", "plain", {"n": number}, "undo")
        stage.manager.submit(tx)
        now = stage.clock.now()
        said(tx.transaction_id, RestoredFromBackup(now, now - 1, "ann", "the disk died"))
        if number == 1:
            said(tx.transaction_id, TrustGiven(now, "ann", "nothing has happened"))
        if number == 2:
            said(tx.transaction_id, RollbackRequested(now, "ann"))


SCENES = (
    *(planned, kinds_of_actions, probes, undos, graphs, wishes, approvals, commit_point),
    *(programs, groups, crashes_of_programs, windows, left_behind, resources, requests, imports),
    restores,
)
