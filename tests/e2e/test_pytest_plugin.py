"""The pytest plugin in a suite of somebody else."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "pytest_aumai_transactions"

USES = """
def book(action, data):
    if data["hotel"] == "full":
        raise ValueError("sold out")

def build(manager, hotel="H1"):
    manager.action("book", compensating_action="cancel")(book)
    manager.action("cancel", idempotent=True)(lambda action, data: None)
    tx = manager.begin(name="a trip")
    manager.add_step(tx, "agent", "book", {"hotel": hotel})
    return tx

def test_a_manager_for_each_test(aumai_manager, aumai_store, aumai_nothing_unfinished):
    assert aumai_manager.commit(build(aumai_manager)).state == "committed"
    assert len(aumai_store.find(__import__("aumai_transactions.store").store.Query())) == 1

def test_and_a_new_store(aumai_store):
    assert aumai_store.count(__import__("aumai_transactions.store").store.Query()) == 0

def test_time_stands_still(aumai_manager, aumai_clock):
    tx = build(aumai_manager)
    before = aumai_clock.now()
    aumai_clock.advance(3600)
    assert aumai_clock.now() - before == 3600 * 10**6
    assert aumai_manager.commit(tx).state == "failed"  # Its timeout of 60 s is over.

async def alone(manager):
    tx = await manager.begin()
    manager.action("book")(book)
    manager.add_step(tx, "agent", "book", {"hotel": "H1"})
    return await manager.commit(tx)

def test_an_asynchronous_manager(aumai_async_manager):
    import asyncio

    assert asyncio.run(alone(aumai_async_manager)).state == "committed"

def test_that_leaves_something(aumai_manager, aumai_nothing_unfinished):
    aumai_manager.save(build(aumai_manager))

def test_that_leaves_something_elsewhere(aumai_nothing_unfinished):
    from aumai_transactions import TransactionManager

    manager = aumai_nothing_unfinished(TransactionManager())
    manager.save(build(manager))
"""


def ran(folder, text, *more, settings=""):
    (folder / "test_theirs.py").write_text(text)
    (folder / "pytest.ini").write_text(f"[pytest]\n{settings}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for name in ("PYTEST_ADDOPTS", "CI"):  # Under CI pytest tells all of an error twice.
        environment.pop(name, None)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-p", "no:xdist", *more],
        check=False,
        capture_output=True,
        cwd=folder,
        env=environment,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_suite_gets_a_store_a_manager_and_a_clock_and_nothing_unfinished(tmp_path, store):
    # It is named twice, and loaded once: pytest refuses two of one name.
    (tmp_path / "conftest.py").write_text(f"pytest_plugins = ['{PLUGIN}']\n")
    told = ran(tmp_path, USES, "-p", PLUGIN, settings=f"aumai_store = {store}\n")
    out = told.stdout
    assert "6 passed, 2 errors" in out, out + told.stderr
    assert out.count("this test leaves transactions behind:") == 2
    assert "(a trip): pending" in out
    assert "ERROR test_theirs.py::test_that_leaves_something " in out
    assert "ERROR test_theirs.py::test_that_leaves_something_elsewhere " in out


def test_a_store_that_nobody_knows_is_refused_by_name(tmp_path):
    text = "def test(aumai_store): pass\n"
    told = ran(tmp_path, text, "-p", PLUGIN, settings="aumai_store = oracle\n")
    assert told.returncode != 0
    assert "aumai_store is 'oracle'" in told.stdout + told.stderr


def test_a_suite_that_does_not_ask_for_it_loads_nothing_of_ours(tmp_path):
    text = (
        "import sys\n"
        "def test_theirs():\n"
        "    ours = [name for name in sys.modules if name.startswith('aumai_transactions')]\n"
        "    assert ours == []\n"
    )
    told = ran(tmp_path, text, "-p", PLUGIN)
    assert "1 passed" in told.stdout, told.stdout + told.stderr


def test_the_entry_point_leads_to_it_and_has_its_name(root_settings):
    points = root_settings["project"]["entry-points"]["pytest11"]
    assert points == {PLUGIN: PLUGIN}
    loaded = EntryPoint(PLUGIN, points[PLUGIN], "pytest11").load()
    assert loaded.aumai_manager
    packages = root_settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert f"src/{PLUGIN}" in packages


@pytest.fixture
def root_settings():
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_its_module_costs_nothing_to_import():
    program = (
        "import sys, json; import pytest; before = set(sys.modules)\n"
        f"import {PLUGIN}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        text=True,
        timeout=60,
    )
    assert json.loads(told.stdout) == [PLUGIN]
