import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import aumai_transactions
from aumai_transactions.demo.evidence import SERVICES
from aumai_transactions.demo.trip import DECLINED_CARD, child_environment, plan_text

URLS = {service: f"http://127.0.0.1:{8000 + n}" for n, service in enumerate(SERVICES)}


def test_a_plan_is_toml_whose_steps_all_have_an_action_and_an_undo():
    plan = tomllib.loads(plan_text(URLS, "Alice"))
    assert [step["name"] for step in plan["steps"]] == ["flight", "hotel", "charge"]
    used = {step[key] for step in plan["steps"] for key in ("action", "compensating_action")}
    assert used == set(plan["actions"])
    assert plan["steps"][2]["data"]["flight"] == {"$output": "flight", "at": "/reservation_id"}


def test_a_plan_calls_the_services_that_it_is_given():
    plan = tomllib.loads(plan_text(URLS, "Alice"))
    assert plan["actions"]["cancel_hotel"]["url"] == "http://127.0.0.1:8001/bookings/cancel"
    assert plan["actions"]["charge_card"]["url"] == "http://127.0.0.1:8002/charges"


def test_what_a_plan_is_asked_for_is_in_it():
    plan = tomllib.loads(
        plan_text(
            URLS,
            'Al "🦄" é',
            card=DECLINED_CARD,
            is_hotel_idempotent=False,
            hotel_answers_after_seconds=30,
        )
    )
    flight, hotel, charge = (step["data"] for step in plan["steps"])
    assert flight["traveller"] == 'Al "🦄" é'
    assert hotel["answer_delay_seconds"] == 30
    assert charge["card"] == DECLINED_CARD
    assert plan["actions"]["book_hotel"]["idempotent"] is False
    assert plan["actions"]["charge_card"]["idempotent"] is True


@pytest.mark.parametrize("python_path", ["", "."])
def test_a_child_in_another_folder_finds_the_package(tmp_path, monkeypatch, python_path):
    # As for somebody who stands in src/, with `python -m` or with a relative PYTHONPATH; -S hides
    # what is installed.
    monkeypatch.chdir(Path(aumai_transactions.__path__[0]).parent)
    monkeypatch.setenv("PYTHONPATH", python_path)
    find = "import importlib.util, sys; sys.exit(not importlib.util.find_spec(sys.argv[1]))"
    command = [sys.executable, "-S", "-c", find, "aumai_transactions"]
    subprocess.run(command, check=True, cwd=tmp_path, env=child_environment(), timeout=60)


def test_a_child_does_not_know_the_store_that_somebody_works_with(monkeypatch):
    monkeypatch.setenv("AUMAI_TRANSACTIONS_STORE", "/somewhere/transactions.db")
    assert "AUMAI_TRANSACTIONS_STORE" not in child_environment()
