"""The transaction that needs no manager, on the command line's own store."""
# mypy: disable-error-code="union-attr"

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from aumai_transactions import (
    DefinitionError,
    TransactionManager,
    TransactionState,
    step,
    transaction,
)
from aumai_transactions.drivers import default
from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.stores import STORE_VARIABLE, default_store


class GaveUp(Exception):
    pass


LOG: list[str] = []


def cancel(flight_id):
    LOG.append(f"cancel {flight_id}")


@step(compensating_action=cancel)
def book(flight_id: str) -> str:
    LOG.append(f"book {flight_id}")
    return f"ref {flight_id}"


@step(compensating_action=cancel)
async def book_later(flight_id: str) -> str:
    LOG.append(f"later {flight_id}")
    return f"ref {flight_id}"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own; the managers that are made in it are closed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    monkeypatch.setattr(default, "_managers", {})
    LOG.clear()
    yield tmp_path
    for manager in default._managers.values():
        manager.close()


def listed(*arguments):
    """Return what the command line says in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "aumai_transactions", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ended.stdout


def test_it_is_on_the_command_lines_store_and_seen_there_at_once(home):
    with transaction(name="trip to Rome") as tx:
        assert book("F1") == "ref F1"
        assert (home / ".aumai/transactions/transactions.db").is_file()
        seen = listed("list")
        assert tx.transaction_id[:8] in seen
        assert "active" in seen
    assert tx.state is TransactionState.committed
    assert tx.result.durable
    seen = listed("show", tx.transaction_id)
    assert "committed" in seen
    assert "F1" in seen
    assert "trip to Rome" in seen


def test_a_variable_names_another_store(home, monkeypatch):
    monkeypatch.setenv(STORE_VARIABLE, f"sqlite:///{home}/other.db")
    with transaction() as tx:
        book("F1")
    assert not (home / ".aumai").exists()
    with TransactionManager(store=home / "other.db") as manager:
        assert manager.get_transaction(tx.transaction_id).state is TransactionState.committed


def test_what_leaves_the_block_rolls_it_back():
    with pytest.raises(GaveUp), transaction() as tx:  # noqa: PT012
        book("F1")
        raise GaveUp
    assert LOG == ["book F1", "cancel F1"]
    assert tx.result.state is TransactionState.rolled_back


def test_async_code_has_it_too_in_one_loop_after_the_other():
    async def story(name):
        async with transaction(name=name) as tx:
            assert await book_later("F1") == "ref F1"
            assert book("F2") == "ref F2"
            assert await asyncio.to_thread(book, "F3") == "ref F3"
        return tx.result

    for name in ("one", "two"):
        result = asyncio.run(story(name))
        assert (result.state.value, len(result.outputs)) == ("committed", 3)
    assert len(default._managers) == 1


def test_an_exception_in_async_code_rolls_it_back():
    async def story():
        async with transaction():
            await book_later("F1")
            book("F2")
            raise GaveUp

    with pytest.raises(GaveUp):
        asyncio.run(story())
    assert LOG == ["later F1", "book F2", "cancel F2", "cancel F1"]


def test_a_sync_block_in_async_code_mixes_sync_and_async_steps():
    async def story():
        with transaction() as tx:
            book("F1")
            await book_later("F2")
            await asyncio.gather(book_later("F3"), asyncio.to_thread(book, "F4"))
            assert AMBIENT.get() is tx
        return tx.result

    result = asyncio.run(story())
    assert (result.state.value, len(result.outputs)) == ("committed", 4)


def test_inside_another_it_is_nested_whichever_way_it_is_written():
    async def story():
        async with transaction() as root:
            with transaction(name="sync") as first:
                book("F1")
            async with transaction(name="async") as second:
                await book_later("F2")
                with pytest.raises(GaveUp), transaction(name="failing"):  # noqa: PT012
                    book("F3")
                    raise GaveUp
            return root, first, second

    root, first, second = asyncio.run(story())
    assert first.parent is second.parent is root
    assert [one.transaction_id.partition(".")[0] for one in (first, second)] == [
        root.transaction_id
    ] * 2
    assert [one.state.value for one in root.steps] == ["succeeded", "succeeded", "compensated"]
    with transaction() as tx, transaction() as inner:
        assert inner.parent is tx
    with transaction() as tx:
        assert tx.parent is None


def test_a_transaction_of_another_manager_is_another(make_sync):
    with make_sync().transaction() as outer:
        with transaction() as inner:
            book("F1")
        assert inner.parent is None
    assert (len(outer.steps), len(inner.steps)) == (0, 1)


def test_options_reach_it_and_wrong_ones_are_refused():
    with transaction(60, name="named", on_crash="wait", resume_within_seconds=5) as tx:
        book("F1")
    with TransactionManager(store=default_store()) as manager:
        found = manager.get_transaction(tx.transaction_id)
    assert (found.name, found.timeout_seconds, found.on_crash) == ("named", 60, "wait")
    with pytest.raises(DefinitionError, match="no option 'colour'"):
        transaction(colour="red").__enter__()  # type: ignore[call-arg]
    with transaction(), pytest.raises(DefinitionError, match="its root decides that"):
        transaction(on_crash="roll_back").__enter__()


def test_threads_share_one_manager():
    def one(n):
        with transaction() as tx:
            book(f"F{n}")
        return tx.result.state.value

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(one, range(12))) == {"committed"}
    assert len(default._managers) == 1


def test_a_program_that_uses_it_ends_without_a_word(home):
    program = """
import asyncio
from aumai_transactions import step, transaction

@step(name="book")
def book(flight_id):
    return flight_id

async def story():
    async with transaction():
        book("F1")

with transaction():
    book("F2")
asyncio.run(story())
"""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)
    assert listed("list").count("committed") == 2
