"""Receivers are told over HTTP of what happens, at least once and in order."""

import base64
import json
import logging
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
from tests.integration.webhook_receiver import Receiver

from aumai_transactions import TransactionManager
from aumai_transactions.core.happenings import EVENT_NAMES, USUAL_EVENTS
from aumai_transactions.outbox import Webhook
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.clock import ManualClock
from aumai_transactions.webhooks import WebhookSender
from aumai_transactions.webhooks.sender import DELAYS_SECONDS

CANARY = "canary-7f3e91"
SECRET = "whsec_" + base64.b64encode(CANARY.encode()).decode()
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def received():
    """Make receivers, and close them."""
    made = []

    def new(*arguments, **options):
        made.append(Receiver(*arguments, **options))
        return made[-1]

    yield new
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", SECRET)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    opened = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "hooks.db")
    yield opened
    opened.close()


def hook(receiver, **options):
    options.setdefault("events", USUAL_EVENTS)
    return Webhook("hook", receiver.url, "env:HOOK_SECRET", allow_private=True, **options)


def trip(store, *, fails=False, data=None):
    manager = TransactionManager(store=store)
    manager.action("book")(lambda action, data: {"paid": "by card"})
    manager.action("cancel")(lambda action, data: None)

    @manager.action("pay")
    def pay(action, data):
        if fails:
            raise ValueError("declined")

    tx = manager.begin(name="trip", metadata={"tenant": "acme"})
    manager.add_step(tx, "hotels", "book", data or {}, "cancel")
    manager.add_step(tx, "bank", "pay", {})
    manager.commit(tx)
    return tx.transaction_id


def test_a_receiver_is_told_how_a_transaction_has_ended(store, received):
    receiver = received(SECRET)
    store.add_webhook(hook(receiver))
    names = [trip(store), trip(store, fails=True)]
    sent = WebhookSender(store).send_due()
    assert [one.became for one in sent] == ["delivered"] * 2
    assert receiver.forged == []
    told = {one.data["transaction_id"]: one for one in receiver.told}
    assert [told[name].type for name in names] == ["transaction.finished"] * 2
    assert [told[name].data["state"] for name in names] == ["committed", "rolled_back"]
    assert told[names[1]].data["reason"] == "step_failed"
    assert (told[names[0]].data["name"], told[names[0]].data["tenant"]) == ("trip", "acme")
    assert store.deliveries(only_failed=False, limit=9) == []
    assert WebhookSender(store).send_due() == []


def test_data_is_sent_only_where_it_is_asked_for(store, received):
    plain, whole = received(SECRET), received(SECRET)
    store.add_webhook(hook(plain, events=EVENT_NAMES))
    store.add_webhook(hook(whole, events=EVENT_NAMES, include_data=True)._replace(name="whole"))
    trip(store, data={"card": "4711-0815", "password": "hunter2"})
    WebhookSender(store).send_due()
    assert not any(b"4711-0815" in one.body or b"by card" in one.body for one in plain.told)
    assert any(b"4711-0815" in one.body for one in whole.told)
    assert not any(b"hunter2" in one.body for one in whole.told)
    kinds = [e["kind"] for one in plain.told for e in one.data.get("entries", ())]
    assert "step_succeeded" in kinds


def test_what_one_transaction_brings_about_is_told_in_order(store, received):
    """However many senders share the work, and each of it once."""
    receiver = received(SECRET)
    store.add_webhook(hook(receiver, events=EVENT_NAMES))
    names = [trip(store) for _ in range(6)]
    wanted = len(store.deliveries(only_failed=False, limit=999))
    senders = [WebhookSender(store) for _ in range(2)]
    threads = [threading.Thread(target=one.send_due) for one in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while senders[0].send_due():
        pass
    assert len({one.id for one in receiver.told}) == len(receiver.told) == wanted
    for name in names:
        mine = [one for one in receiver.told if one.data["transaction_id"] == name]
        sequences = [one.data["sequence"] for one in mine]
        assert sequences == sorted(sequences)
        assert mine[-1].type == "transaction.finished"
        # Each says how it stood then, though it was sent when all was over.
        assert (mine[0].data["state"], mine[-1].data["state"]) == ("active", "committed")
        shown = [entry["sequence"] for one in mine for entry in one.data.get("entries", ())]
        assert shown == list(range(1, len(shown) + 1))


def test_a_receiver_that_was_down_is_told_once_it_is_up(store, received):
    clock = ManualClock(NOW)
    is_up: list[bool] = []
    receiver = received(SECRET, lambda told: 200 if is_up else 503)
    store.add_webhook(hook(receiver))
    trip(store)
    sender = WebhookSender(store, clock=clock)
    for tried, seconds in enumerate(DELAYS_SECONDS[:4], 1):
        [sent] = sender.send_due()
        assert (sent.became, sent.error) == ("again", "answered 503")
        assert sender.send_due() == []
        [waiting] = store.deliveries(only_failed=True, limit=9)
        left = (waiting.due_at - clock.now()) / 1_000_000
        assert waiting.attempts == tried
        assert 0.8 * seconds <= left <= seconds
        clock.advance(seconds)
    is_up.append(True)
    [sent] = sender.send_due()
    assert sent.became == "delivered"
    assert len({(one.id, one.body) for one in receiver.told}) == 1
    times = [one.timestamp for one in receiver.told]
    assert times == sorted(set(times))


def test_what_is_never_taken_is_given_up_after_three_days_and_tried_when_asked(store, received):
    clock = ManualClock(NOW)
    answers = [500]
    receiver = received(SECRET, lambda told: answers[-1])
    store.add_webhook(hook(receiver))
    trip(store)
    sender = WebhookSender(store, clock=clock)
    became = []
    while sent := sender.send_due():
        became.append(sent[0].became)
        clock.advance(max(DELAYS_SECONDS))
    assert became == ["again"] * len(DELAYS_SECONDS) + ["dead"]
    assert 2.8 * 86_400 < sum(DELAYS_SECONDS) < 3.2 * 86_400
    [dead] = store.deliveries(only_failed=True, limit=9)
    assert dead.is_dead
    answers.append(204)
    assert store.retry_delivery(dead.delivery_id, clock.now())
    assert [one.became for one in sender.send_due()] == ["delivered"]


def test_a_receiver_that_is_gone_stops_its_webhook(store, received):
    receiver = received(SECRET, lambda told: 410)
    store.add_webhook(hook(receiver))
    trip(store)
    sender = WebhookSender(store, clock=ManualClock(NOW))
    assert [one.became for one in sender.send_due()] == ["stopped"]
    [webhook] = store.webhooks()
    assert webhook.stopped is not None
    assert "410" in webhook.stopped
    assert len(store.deliveries(only_failed=False, limit=9)) == 1


def test_a_redirect_is_not_followed(store, received):
    other = received(SECRET)
    receiver = received(SECRET, lambda told: 307, location=other.url)
    store.add_webhook(hook(receiver))
    trip(store)
    [sent] = WebhookSender(store).send_due()
    assert (sent.became, sent.error) == ("again", "answered 307")
    assert (other.told, other.forged) == ([], [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_told_only_where_that_is_allowed(store, received, host):
    receiver = received(SECRET)
    url = receiver.url.replace("127.0.0.1", host)
    store.add_webhook(hook(receiver)._replace(url=url, allow_private=False))
    trip(store)
    [sent] = WebhookSender(store).send_due()
    assert sent.became == "again"
    assert "no address outside of this machine" in (sent.error or "")
    assert receiver.told == []


def test_a_secret_that_is_not_there_is_named_and_waited_for(store, received, monkeypatch):
    clock = ManualClock(NOW)
    receiver = received(SECRET)
    store.add_webhook(hook(receiver))
    trip(store)
    monkeypatch.delenv("HOOK_SECRET")
    sender = WebhookSender(store, clock=clock)
    [sent] = sender.send_due()
    assert "the secret env:HOOK_SECRET" in (sent.error or "")
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    clock.advance(60)
    assert [one.became for one in sender.send_due()] == ["delivered"]


def test_a_secret_stands_in_no_file_and_no_message(tmp_path, received, caplog):
    receiver = received(SECRET, lambda told: 500)
    with caplog.at_level(logging.DEBUG), SqliteStore(tmp_path / "hooks.db") as store:
        store.add_webhook(hook(receiver))
        trip(store)
        [sent] = WebhookSender(store).send_due()
        files = [file.read_bytes() for file in tmp_path.iterdir() if file.is_file()]
        told = repr((sent, store.webhooks(), store.deliveries(only_failed=False, limit=9)))
    assert len(receiver.told) == 1
    text = SECRET.removeprefix("whsec_")
    assert not any(text.encode() in data or CANARY.encode() in data for data in files)
    assert text not in told + caplog.text
    assert CANARY not in told + caplog.text


def test_a_sender_that_is_killed_between_sending_and_recording_sends_the_same_again(
    tmp_path, received
):
    """kill -9 while the receiver has it in hand: told twice, under one name, byte for byte."""
    path = tmp_path / "hooks.db"
    running: list[subprocess.Popen[bytes]] = []

    def kill(told):
        if running and len(receiver.told) == 1:
            running[0].kill()
            running[0].wait()
        return 200

    receiver = received(SECRET, kill)
    with SqliteStore(path) as store:
        store.add_webhook(hook(receiver))
        name = trip(store)
        command = [sys.executable, "-m", "aumai_transactions", "webhooks", "send", "--until-idle"]
        environment = {**os.environ, "HOOK_SECRET": SECRET}
        with subprocess.Popen([*command, "--store", str(path)], env=environment) as process:
            running.append(process)
            assert process.wait(60) == -9
        assert len(store.deliveries(only_failed=False, limit=9)) == 1
        assert WebhookSender(store).send_due() == [], "it is lent, and its sender may be alive"
        later = ManualClock(datetime.now(UTC))
        later.advance(3_600)
        assert [one.became for one in WebhookSender(store, clock=later).send_due()] == ["delivered"]
    first, second = receiver.told
    assert (first.id, first.body) == (second.id, second.body)
    assert first.data["transaction_id"] == name


def test_another_process_sees_a_new_webhook_at_once(tmp_path, received):
    """Also one whose handle has written before, and remembers that there was none."""
    receiver = received(SECRET)
    with SqliteStore(tmp_path / "hooks.db") as writing, SqliteStore(tmp_path / "hooks.db") as other:
        trip(writing)
        other.add_webhook(hook(receiver))
        name = trip(writing)
        assert [one.transaction_id for one in other.deliveries(only_failed=False, limit=9)] == [
            name
        ]
        other.remove_webhook("hook")
        trip(writing)
        assert other.deliveries(only_failed=False, limit=9) == []


def test_a_restored_store_tells_nobody_of_what_was_before(tmp_path, received):
    receiver = received(SECRET)
    with SqliteStore(tmp_path / "hooks.db") as store:
        store.add_webhook(hook(receiver))
        trip(store)
        TransactionManager(store=store).back_up(tmp_path / "backup")
    from aumai_transactions.drivers.backups import restore

    restore(tmp_path / "backup", tmp_path / "again.db")
    with SqliteStore(tmp_path / "again.db") as store:
        assert store.webhooks() == []
        assert WebhookSender(store).send_due() == []
    assert receiver.told == []


def test_a_worker_sends_as_well(tmp_path, received):
    arrived = threading.Event()

    def answer(told):
        arrived.set()
        return 200

    receiver = received(SECRET, answer)
    path = str(tmp_path / "hooks.db")
    with SqliteStore(path) as store:
        store.add_webhook(hook(receiver))
        name = trip(store)
    command = [sys.executable, "-m", "aumai_transactions", "worker", "--store", path]
    environment = {**os.environ, "HOOK_SECRET": SECRET}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as worker:
        assert arrived.wait(60)
        assert worker.stderr is not None
        line = next(line for line in worker.stderr if "finished to hook" in line)
        worker.terminate()
        assert worker.wait(60) == 0
    assert "delivered" in line
    assert [one.data["transaction_id"] for one in receiver.told] == [name]


def test_the_command_line_adds_lists_sends_and_removes(tmp_path, received):
    receiver = received(SECRET)
    path = str(tmp_path / "hooks.db")
    with SqliteStore(path):
        pass

    def run(*words, code=0):
        command = [sys.executable, "-m", "aumai_transactions", "webhooks", *words]
        ran = subprocess.run(
            [*command, "--store", path],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "HOOK_SECRET": SECRET},
            check=False,
        )
        assert ran.returncode == code, ran.stderr
        assert CANARY not in ran.stdout + ran.stderr
        return ran

    adding = ("add", receiver.url, "--secret", "env:HOOK_SECRET", "--allow-private")
    assert "env:NAME" in run("add", receiver.url, "--secret", CANARY, code=2).stderr
    assert "no event 'never'" in run(*adding, "--events", "never", code=2).stderr
    run(*adding, "--name", "mine")
    assert "already" in run(*adding, "--name", "mine", code=7).stderr
    listed = run("list", "--json")
    [item] = json.loads(listed.stdout)["items"]
    assert (item["name"], item["events"]) == ("mine", list(USUAL_EVENTS))
    assert "in-the-query" not in listed.stdout
    with SqliteStore(path) as store:
        name = trip(store)
    [waiting] = json.loads(run("deliveries", "--json").stdout)["items"]
    assert waiting["transaction_id"] == name
    run("send", "--until-idle")
    assert [one.data["transaction_id"] for one in receiver.told] == [name]
    assert "everything is delivered" in run("deliveries").stderr
    run("retry", waiting["delivery_id"], code=6)
    run("remove", "mine")
    run("remove", "mine", code=6)


@pytest.mark.parametrize("value", [" ", "whsec_", "whsec_???"])
def test_a_secret_that_proves_nothing_is_refused(store, received, monkeypatch, value):
    monkeypatch.setenv("HOOK_SECRET", value)
    receiver = received(SECRET)
    store.add_webhook(hook(receiver))
    trip(store)
    [sent] = WebhookSender(store).send_due()
    assert "the secret env:HOOK_SECRET" in (sent.error or "")
    assert (receiver.told, receiver.forged) == ([], [])
