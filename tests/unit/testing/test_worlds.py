"""Worlds are seen as they are, and put back as they were."""

import sqlite3
from contextlib import closing
from typing import NamedTuple

import pytest

from aumai_transactions.participants.barrier import create_barrier_table
from aumai_transactions.testing.worlds import (
    ContainerWorld,
    FolderWorld,
    SqliteWorld,
    differences,
    without_ids,
    world_of,
)


@pytest.mark.parametrize(
    "container,change",
    [
        ({"a": [1]}, lambda it: it["a"].append(2)),
        ([1, 2], lambda it: it.append(3)),
        ({1}, lambda it: it.add(2)),
    ],
    ids=["dict", "list", "set"],
)
def test_a_container_is_put_back_whatever_is_done_to_it(container, change):
    world = world_of(container)
    before = world.snapshot()
    for _ in range(2):
        change(container)
        assert world.snapshot() != before
        world.reset()
        assert world.snapshot() == before == container


def test_a_picture_does_not_change_with_the_world():
    booked: dict = {"a": []}
    world = ContainerWorld(booked)
    picture = world.snapshot()
    booked["a"].append(1)
    assert picture == {"a": []}


def test_a_container_inside_of_another_stays_the_one_that_handlers_hold():
    hotel: dict = {"free": 3, "rooms": {}}
    bank: list = [1]
    world = ContainerWorld({"hotel": hotel, "bank": bank, "both": [hotel, bank]})
    before = world.snapshot()
    hotel["free"] = 2
    hotel["rooms"]["new"] = {"guest": "Ada"}
    bank.clear()
    assert world.snapshot()["both"] == [{"free": 2, "rooms": {"new": {"guest": "Ada"}}}, []]
    world.reset()
    assert world.snapshot() == before
    assert (hotel, bank) == ({"free": 3, "rooms": {}}, [1])


def test_a_folder_is_put_back_to_the_byte(tmp_path):
    (tmp_path / "kept").write_text("as it was")
    (tmp_path / "raw").write_bytes(b"\xff")
    world = FolderWorld(tmp_path)
    before = world.snapshot()
    assert before == {"kept": "as it was", "raw": b"\xff"}
    (tmp_path / "kept").write_text("changed")
    (tmp_path / "raw").unlink()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "new").write_text("new")
    assert world.snapshot() == {"below/new": "new", "kept": "changed"}
    world.reset()
    assert world.snapshot() == before


def test_a_database_is_put_back_and_the_barrier_is_no_part_of_it(tmp_path):
    path = tmp_path / "seats.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE seats (free)")
        database.execute("INSERT INTO seats VALUES (10)")
        create_barrier_table(database)
        database.commit()
        world = SqliteWorld(path)
        assert world.snapshot() == {"seats": [(10,)]}
        database.execute("UPDATE seats SET free = 9")
        database.execute("CREATE TABLE other (x)")
        database.commit()
    assert world.snapshot() == {"other": [], "seats": [(9,)]}
    world.reset()
    assert world.snapshot() == {"seats": [(10,)]}


def test_a_function_is_asked_and_another_puts_it_back():
    booked = [1]
    world = world_of(lambda: booked, booked.clear)
    picture = world.snapshot()
    world.reset()
    assert (picture, world.snapshot()) == ([1], [])


class Pair(NamedTuple):
    one: str
    other: bytes


def test_names_that_are_new_each_time_are_replaced_wherever_they_stand():
    picture = {"tx-9/s1": [Pair("tx-9", b"tx-9/s2"), {"tx-9"}, 7], "x": ("tx-9",)}
    assert without_ids(picture, {"tx-9": "<1>"}) == {
        "<1>/s1": [Pair("<1>", b"<1>/s2"), {"<1>"}, 7],
        "x": ("<1>",),
    }


@pytest.mark.parametrize(
    "before,after,told",
    [
        ({"a": 1}, {"a": 2}, ["world['a'] is 2; it should be 1"]),
        ({"a": {"b": 1}}, {"a": {}}, ["world['a']['b'] is gone; it should be 1"]),
        ({}, {"a": 1}, ["world['a'] should not be there; it is 1"]),
        ([1, 2], [2, 3], ["world should not hold 3", "world lacks 1"]),
        ([1, 2], [2, 1], ["world is in another order: [2, 1]; should be [1, 2]"]),
        ({1}, {2}, ["world lacks 1", "world should not hold 2"]),
        ({"a": 1}, {"a": 1}, []),
    ],
)
def test_what_differs_is_told_in_a_line_each(before, after, told):
    assert differences(before, after) == told
