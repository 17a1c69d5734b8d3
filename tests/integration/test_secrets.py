"""A secret that is named in a step's data is handed to the handler, and stands nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aumai_transactions import (
    DefinitionError,
    Done,
    OutcomeUnknown,
    SecretRef,
    StepRejected,
    TransactionManager,
)
from aumai_transactions.credentials import SecretMissing, checked_secret_name, secret_of
from aumai_transactions.testing.clock import ManualClock

CANARY = "canary-9f2c71d0"


@pytest.fixture(autouse=True)
def _canary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANK_KEY", CANARY)


def card(**more: object) -> dict[str, object]:
    return {"amount": 850, "key": SecretRef("env:BANK_KEY"), **more}


def files_with(folder: Path, text: str) -> list[str]:
    """Return the names of the files below a folder that hold a text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if text.encode() in path.read_bytes()]


def test_the_handler_gets_it_and_the_journal_its_name(tmp_path: Path) -> None:
    seen = []
    manager = TransactionManager(store=tmp_path / "s.db")
    manager.action("charge", compensating_action="refund")(lambda action, data: seen.append(data))
    tx = manager.begin()
    manager.add_step(tx, "billing", "charge", card(nested=[{"k/~": SecretRef("env:BANK_KEY")}]))
    assert tx.steps[0].data["key"] == {"$secret": "env:BANK_KEY"}
    manager.commit(tx)
    assert seen == [{"amount": 850, "key": CANARY, "nested": [{"k/~": CANARY}]}]
    stored = manager.get_transaction(tx.transaction_id)
    assert stored.steps[0].data["nested"] == [{"k/~": {"$secret": "env:BANK_KEY"}}]
    manager.close()
    assert files_with(tmp_path, "env:BANK_KEY")
    assert files_with(tmp_path, CANARY) == []


@pytest.mark.parametrize("how", ["output", "nested output", "exception", "unknown", "probe"])
def test_what_comes_back_with_it_is_recorded_without_it(tmp_path: Path, how: str) -> None:
    def charge(action: str, data: dict[str, str]) -> object:
        told = f"charged with {data['key']}."
        if how == "exception":
            raise StepRejected(told)
        if how in ("unknown", "probe"):
            raise OutcomeUnknown(told)
        return told if how == "output" else {"told": [told], told: 1}

    manager = TransactionManager(store=tmp_path / "s.db")
    registered = manager.action("charge", compensating_action="refund")(charge)
    manager.action("refund")(lambda action, data: None)
    if how == "probe":
        registered.probe(lambda data: Done({"asked with": data["key"]}))
    tx = manager.begin()
    manager.add_step(tx, "billing", "charge", card())
    result = manager.commit(tx)
    assert CANARY not in result.model_dump_json()
    assert "•••" in result.model_dump_json() or how == "unknown"
    assert CANARY not in str(manager.get_events(tx))
    manager.close()
    assert files_with(tmp_path, CANARY) == []


def test_what_only_looks_like_a_name_in_data_stays_what_it_is() -> None:
    seen = []
    manager = TransactionManager({"charge": lambda action, data: seen.append(data)})
    tx = manager.begin()
    manager.add_step(tx, "billing", "charge", {"key": {"$secret": "env:BANK_KEY"}})
    manager.commit(tx)
    assert seen == [{"key": {"$secret": "env:BANK_KEY"}}]


def test_one_that_is_not_set_fails_the_step_before_it_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called = []
    manager = TransactionManager()
    manager.action("charge")(lambda action, data: called.append(data))
    tx = manager.begin()
    manager.add_step(tx, "billing", "charge", card())
    monkeypatch.delenv("BANK_KEY")
    result = manager.commit(tx)
    assert result.state.value == "rolled_back"
    assert "env:BANK_KEY is not set" in (result.error or "")
    assert called == []


def test_who_does_not_have_it_leaves_an_undo_to_who_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "dies.py"
    program.write_text(
        "import os, sys\n"
        "from aumai_transactions import SecretRef, TransactionManager\n"
        "manager = TransactionManager(store=sys.argv[1])\n"
        "manager.action('charge', compensating_action='refund')(lambda a, d: None)\n"
        "manager.action('die')(lambda a, d: os._exit(9))\n"
        "tx = manager.begin(timeout_seconds=5)\n"
        "manager.add_step(tx, 'billing', 'charge', {'key': SecretRef('env:BANK_KEY')})\n"
        "manager.add_step(tx, 'billing', 'die', {})\n"
        "manager.commit(tx)\n"
    )
    store = tmp_path / "s.db"
    words = [sys.executable, str(program), str(store)]
    assert subprocess.run(words, check=False, env=os.environ.copy()).returncode == 9
    undone = []
    manager = TransactionManager(store=store)
    manager.action("refund")(lambda action, data: undone.append(data))
    manager.action("charge", compensating_action="refund")(lambda action, data: None)
    manager.action("die", idempotent=True)(lambda action, data: StepRejected("no"))
    monkeypatch.delenv("BANK_KEY")
    (parked,) = manager.recover()
    assert parked.outcome == "parked"
    assert "the secret env:BANK_KEY" in parked.detail
    assert undone == []
    monkeypatch.setenv("BANK_KEY", CANARY)
    manager.rollback(parked.transaction_id)
    assert undone == [{"key": CANARY}]
    manager.close()
    assert files_with(tmp_path, CANARY) == []


def test_what_an_action_redacts_must_be_named() -> None:
    manager = TransactionManager()
    manager.action("charge", redact=("key", "receipt"))(
        lambda action, data: {"receipt": "r", "n": 1}
    )
    tx = manager.begin()
    manager.add_step(tx, "billing", "charge", {"key": "in clear"})
    with pytest.raises(DefinitionError, match=r"steps\[0\].data.key is a secret.*SecretRef"):
        manager.commit(tx)
    tx = manager.begin()
    step = manager.add_step(tx, "billing", "charge", card())
    assert manager.commit(tx).outputs == {step.step_id: {"receipt": "•••", "n": 1}}


def test_an_approval_is_bound_to_the_name(clock: ManualClock) -> None:
    manager = TransactionManager(clock=clock)
    manager.action("charge", requires_approval=True)(lambda action, data: None)
    tx = manager.begin()
    manager.add_step(tx, "billing", "charge", card())
    manager.commit(tx)
    (asked,) = [one for one in manager.get_events(tx) if one.kind == "approval_requested"]
    assert CANARY not in str(asked)
    assert manager.approve(tx, "s1", by="ann").state.value == "committed"


def test_a_named_secret_is_no_risk_and_one_in_clear_is() -> None:
    manager = TransactionManager({"charge": lambda action, data: None})
    tx = manager.begin()
    manager.add_step(tx, "billing", "charge", {"api_key": SecretRef("env:BANK_KEY")}, "charge")
    assert "secret_in_data" not in [risk.code for risk in manager.check(tx)]
    tx = manager.begin()
    manager.add_step(tx, "billing", "charge", {"api_key": "in clear"}, "charge")
    assert "secret_in_data" in [risk.code for risk in manager.check(tx)]


@pytest.mark.parametrize("name", ["BANK_KEY", "env:", "env:A B", "file:key", "x:y", "env:A\n", 7])
def test_what_is_no_name_of_a_secret_is_refused(name: object) -> None:
    with pytest.raises(DefinitionError, match="env:NAME"):
        checked_secret_name(name)


def test_a_file_holds_one_as_well(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(CANARY + "\n")
    assert secret_of(f"file:{path}") == CANARY
    path.write_bytes(b"")
    with pytest.raises(SecretMissing, match="is empty"):
        secret_of(f"file:{path}")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SecretMissing, match="is no text"):
        secret_of(f"file:{path}")
    with pytest.raises(SecretMissing, match="is no file"):
        secret_of(f"file:{tmp_path}")
    with pytest.raises(SecretMissing, match="cannot be read"):
        secret_of(f"file:{path}.gone")
