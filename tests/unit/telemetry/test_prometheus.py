"""A scrape is answered with what the store holds, in the format as it is written down."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

import aumai_transactions
from aumai_transactions import Action, OutcomeUnknown, RetryLater, TransactionManager
from aumai_transactions.stores import open_store
from aumai_transactions.telemetry import prometheus_text
from aumai_transactions.telemetry.prometheus import CONTENT_TYPE, _escaped


def read(text):
    """Return every sample by name and labels; refuse what the format does not allow."""
    assert text.endswith("\n")
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type == "gauge"
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    return found


def ask(action, data):
    raise OutcomeUnknown("no answer")


def later(action, data):
    raise RetryLater(3_600)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path, clock):
    url = "memory:" if request.param == "memory" else str(tmp_path / "t.db")
    made = open_store(url, create=True, clock=clock)
    yield made
    made.close()


@pytest.fixture
def manager(store, clock):
    actions = [
        Action("book", lambda action, data: None),
        Action("ask", ask, on_unknown="ask"),
        Action("later", later),
    ]
    with TransactionManager(actions=actions, store=store, clock=clock) as made:
        yield made


def run(manager, action, **options):
    tx = manager.begin(timeout_seconds=86_400)
    manager.add_step(tx, "a", action, {}, **options)
    return manager.commit(tx, wait_max_seconds=0)


def test_an_empty_store_has_every_series_at_nothing(store, clock):
    found = read(prometheus_text(store, clock=clock))
    for state in ("pending", "active", "committed", "rolled_back", "failed", "compensating"):
        assert found["aumai_transactions", ("state", state)] == 0
    assert found["aumai_transactions_attention", ("reason", "in_doubt")] == 0
    assert found["aumai_transactions_attention_oldest_seconds",] == 0
    assert found["aumai_transactions_due",] == 0


def test_transactions_are_counted_by_state_and_by_why_a_person_is_needed(manager, store, clock):
    run(manager, "book")
    run(manager, "book")
    run(manager, "ask")
    run(manager, "book", requires_approval=True)
    clock.advance(90)
    found = read(prometheus_text(store, clock=clock))
    assert found["aumai_transactions", ("state", "committed")] == 2
    assert found["aumai_transactions", ("state", "active")] == 2
    assert found["aumai_transactions_attention", ("reason", "in_doubt")] == 1
    assert found["aumai_transactions_attention", ("reason", "approval")] == 1
    assert found["aumai_transactions_attention", ("reason", "outstanding")] == 0
    assert found["aumai_transactions_attention_oldest_seconds",] == 90


def test_what_is_due_is_told_from_what_waits_for_its_time(manager, store, clock):
    run(manager, "later")
    tx = manager.begin(timeout_seconds=86_400)
    manager.add_step(tx, "a", "book", {})
    manager.submit(tx)
    clock.advance(10)
    found = read(prometheus_text(store, clock=clock))
    assert found["aumai_transactions_due",] == 1
    assert found["aumai_transactions_due_oldest_seconds",] == 10
    assert found["aumai_transactions_scheduled",] == 1
    clock.advance(3_600)
    found = read(prometheus_text(store, clock=clock))
    assert found["aumai_transactions_due",] == 2
    assert found["aumai_transactions_scheduled",] == 0


def test_locks_are_counted(manager, store, clock):
    run(manager, "ask", resources=["account:1", "account:2"])
    run(manager, "book", resources=["account:1"])
    found = read(prometheus_text(store, clock=clock))
    assert found["aumai_transactions_locks", ("kind", "held")] == 2
    assert found["aumai_transactions_locks", ("kind", "waited")] == 1


def test_the_build_and_the_kind_of_store_are_named(store, clock):
    found = read(prometheus_text(store, clock=clock))
    names = {key[0]: dict(key[1:]) for key in found}
    assert names["aumai_transactions_build_info"]["version"] == aumai_transactions.__version__
    assert names["aumai_transactions_store_info"]["kind"] in ("memory", "sqlite")


def test_postgresql_tells_which_drivers_live(postgres16):
    store = open_store(postgres16.store(), create=True)
    with TransactionManager({"book": lambda action, data: None}, store=store) as manager:
        run(manager, "book")
        found = read(prometheus_text(store))
    store.close()
    assert found["aumai_transactions", ("state", "committed")] == 1
    assert found["aumai_transactions_drivers_alive",] == 1


def test_a_label_is_escaped_as_the_format_says():
    nasty = 'a"b\\c\nd'
    text = f'# HELP m {_escaped(nasty)}\n# TYPE m gauge\nm{{x="{_escaped(nasty, label=True)}"}} 1\n'
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels["x"] == nasty
    assert len(text.splitlines()) == 3


def test_the_content_type_is_that_of_the_text_format():
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_nothing_that_agents_have_named_is_in_it(manager, store, clock):
    tx = manager.begin(name="evil_name", metadata={"tenant": "evil_tenant"})
    manager.add_step(tx, "evil_agent", "book", {}, resources=["evil:1"])
    manager.commit(tx)
    assert "evil" not in prometheus_text(store, clock=clock)
