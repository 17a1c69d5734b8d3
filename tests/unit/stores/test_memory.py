"""What only the store in memory does."""

import subprocess
import sys

import pytest

from aumai_transactions.errors import StoreError
from aumai_transactions.store import AppendAnswer, Query
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.journals import act, claim, loaded, plan, request


def test_it_computes_the_chain_that_a_durable_store_keeps(tmp_path):
    memory = MemoryStore()
    with SqliteStore(tmp_path / "store.db") as sqlite:
        for append in (plan("t"), request("t", 2), request("t", 3)):
            memory.append([append])
            sqlite.append([append])
        assert memory.read("t") == sqlite.read("t")


def test_it_says_that_it_is_not_durable():
    store = MemoryStore()
    info = store.info()
    assert (info.url, info.durable, info.schema_version) == ("memory:", False, 0)
    assert not store.is_durable
    assert MemoryStore().info().store_id != info.store_id


def test_a_driver_lives_until_the_store_is_closed():
    store = MemoryStore()
    driver = store.join()
    store.append([plan("t"), claim("t", 2, 1, driver), act("t", 3, 1)])
    assert loaded(store, "t").driver_id == driver
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.renew(driver)


def test_a_repeat_is_found_among_many():
    store = MemoryStore()
    appends = [plan("t"), *(request("t", sequence) for sequence in range(2, 200))]
    store.append(appends)
    assert store.append(appends[::-1][:1]) == [AppendAnswer.already_ours]
    assert store.append(appends) == [AppendAnswer.already_ours] * len(appends)
    longer = appends[7]._replace(entries=[*appends[7].entries, *appends[8].entries])
    assert store.append([longer]) == [AppendAnswer.moved]


@pytest.mark.parametrize("after", [0, -3, 99])
def test_positions_outside_of_the_list_are_no_error(after):
    store = MemoryStore()
    store.append([plan("a"), plan("b")])
    for newest_first in (False, True):
        store.find(Query(after=after, newest_first=newest_first))


def test_it_loads_neither_sqlite_nor_a_module_of_one_platform():
    code = (
        "import sys, aumai_transactions.stores as stores\n"
        "before = set(sys.modules)\n"
        "store = stores.open_store('memory:', create=False)\n"
        "print(sorted({'sqlite3', 'fcntl', 'ctypes', 'winreg', 'msvcrt'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
