"""One record is one line of JSON, whatever agents put into it."""
# mypy: disable-error-code="attr-defined"

import io
import json
import logging

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.telemetry import JsonLogFormatter, log_event

NASTY = (
    'trip\n{"level":"INFO"}\r\x1b]0;owned\x07\x1b[2J\u202e\u2028\u2029\x85\x00\U000e0001\ud800"\\'
)


@pytest.fixture
def lines():
    """A logger of its own, and the lines that it has written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLogFormatter())
    made = logging.Logger("aumai_transactions.test")  # noqa: LOG001 (of no other test)
    made.addHandler(handler)
    made.lines = lambda: stream.getvalue().splitlines()
    return made


def test_a_hostile_text_stays_in_one_line_and_comes_back_as_it_was(lines):
    lines.warning("transaction %s", NASTY, extra={"transaction_id": NASTY, "attempt": 2})
    (line,) = lines.lines()
    assert line.isascii()
    assert line.isprintable()
    told = json.loads(line)
    assert told["message"] == f"transaction {NASTY}"
    assert told["transaction_id"] == NASTY
    assert told["attempt"] == 2
    assert (told["level"], told["logger"]) == ("WARNING", "aumai_transactions.test")
    assert told["time"].endswith("Z")


def test_what_prints_stays_readable(lines):
    lines.info("Zürich – 東京")
    assert "Zürich – 東京" in lines.lines()[0]


def test_only_known_fields_are_taken(lines):
    lines.info("x", extra={"password": "s3cr3t", "step_id": "s1"})
    told = json.loads(lines.lines()[0])
    assert told["step_id"] == "s1"
    assert "s3cr3t" not in lines.lines()[0]


def test_a_traceback_is_in_the_same_line(lines):
    try:
        raise ValueError(NASTY)
    except ValueError:
        lines.exception("it failed")
    (line,) = lines.lines()
    assert "ValueError" in json.loads(line)["exception"]
    assert line.isprintable()


def test_a_record_whose_arguments_do_not_fit_is_written_all_the_same(lines):
    lines.info("%d steps", "many")
    assert json.loads(lines.lines()[0])["message"].startswith("%d steps (its arguments")


def test_an_endless_text_is_cut(lines):
    lines.info("x" * 100_000)
    assert len(lines.lines()[0]) < 25_000


def test_the_current_span_is_named(lines, seen):
    with seen.tracer.start_as_current_span("request") as span:
        lines.info("inside")
    lines.info("outside")
    inside, outside = map(json.loads, lines.lines())
    place = span.get_span_context()
    assert inside["trace_id"] == f"{place.trace_id:032x}"
    assert inside["span_id"] == f"{place.span_id:016x}"
    assert "trace_id" not in outside


def test_journal_entries_are_logged_without_data_and_error_texts(caplog):
    caplog.set_level("DEBUG", "aumai_transactions")

    def fail(action, data):
        raise ValueError("card 4111")

    actions = {"book": lambda action, data: {"out": "s3cr3t"}, "bad": fail}
    with TransactionManager(actions, on_event=log_event) as manager:
        tx = manager.begin()
        manager.add_step(tx, "a", "book", {"in": "s3cr3t"})
        manager.add_step(tx, "a", "bad", {})
        manager.commit(tx)
    kinds = [record.kind for record in caplog.records]
    assert kinds == [event.kind for event in manager_events(caplog)]
    assert "step_failed" in kinds
    assert "s3cr3t" not in caplog.text
    assert "4111" not in caplog.text
    failed = next(record for record in caplog.records if record.kind == "step_failed")
    assert (failed.step_id, failed.attempt, failed.error_type) == ("s2", 1, "ValueError")
    assert failed.transaction_id == tx.transaction_id


def manager_events(caplog):
    """The records of the journal's logger; there is nothing else."""
    return [record for record in caplog.records if record.name == "aumai_transactions.journal"]


def test_a_hook_that_raises_is_logged_with_its_transaction(caplog):
    def hook(event):
        raise ValueError("no")

    with TransactionManager(on_event=hook) as manager:
        tx = manager.begin()
        manager.commit(tx)
    assert {record.transaction_id for record in caplog.records} == {tx.transaction_id}
