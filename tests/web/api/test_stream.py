"""The stream of changes: who hears what, and what becomes of who does not listen."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.web.api.bench import Client, Shop, step

from aumai_transactions import AsyncTransactionManager
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.web.api.streaming import STREAMS_MAX_EACH
from aumai_transactions.web.live import QUEUE_MAX, Change, Live, Number


class Told(NamedTuple):
    event: str
    number: str
    data: Any


class Stream:
    """Listen to a stream."""

    def __init__(self, client: Client, query: str = "", last: str | None = None) -> None:
        headers = {} if last is None else {"Last_Event_ID": last}
        self.connection = client.send("GET", f"/events{query}", None, **headers)
        self.response: http.client.HTTPResponse = self.connection.getresponse()

    def __iter__(self) -> Iterator[Told]:
        fields: dict[str, str] = {}
        while line := self.response.readline().decode():
            name, separator, value = line.rstrip("\n").partition(": ")
            if separator:
                fields[name] = value
            elif "event" in fields:
                yield Told(fields["event"], fields["id"], json.loads(fields["data"]))
                fields = {}

    def ready(self) -> None:
        """Wait until it listens."""
        while self.response.readline() != b": listening\n":
            pass


@contextlib.contextmanager
def stream(client: Client, query: str = "", last: str | None = None) -> Iterator[Stream]:
    found = Stream(client, query, last)
    try:
        yield found
    finally:
        found.connection.close()


def name_of(path: str) -> str:
    return path.rpartition("/")[2]


def test_whoever_listens_hears_of_a_change_and_whoever_comes_back_of_what_they_missed(
    server: Shop,
) -> None:
    program = server.client("buyer")
    with stream(program) as listening:
        assert listening.response.status == 200
        assert listening.response.headers["content-type"].startswith("text/event-stream")
        listening.ready()
        first = program.begin(steps=[step("reserve")])
        for told in listening:
            if told.data.get("transaction_id") == name_of(first):
                break
        assert told.event == "transaction"
        assert told.data["state"] in ("pending", "active")
        ended = program.post(f"{first}/commit", None, Prefer="wait=30")
        for told in listening:
            if told.data.get("state") == "committed":
                break
        assert told.data["sequence"] == ended.json["sequence"]
    second = program.begin()
    with stream(program, "", told.number) as again:
        missed = next(iter(again))
        assert (missed.event, missed.data["transaction_id"]) == ("transaction", name_of(second))


def test_whoever_comes_from_another_server_is_told_to_look_again(server: Shop) -> None:
    program = server.client("buyer")
    with stream(program, "", "0.0") as listening:
        assert next(iter(listening)).event == "reset"
    with stream(program, "", "sesame") as refused:
        assert refused.response.status == 400


def test_a_stream_tells_only_of_what_was_asked_for_and_may_be_seen(server: Shop) -> None:
    red = server.client("red", "act", "red")
    blue = server.client("blue", "act", "blue")
    with stream(red) as of_red, stream(blue, "?state=committed") as of_committed:
        of_red.ready()
        of_committed.ready()
        theirs = blue.begin(steps=[step("reserve")])
        assert blue.post(f"{theirs}/commit", None, Prefer="wait=30").status == 200
        mine = red.begin()
        assert next(iter(of_red)).data["transaction_id"] == name_of(mine)
        told = next(iter(of_committed)).data
        assert (told["transaction_id"], told["state"]) == (name_of(theirs), "committed")


def test_too_many_streams_of_one_are_refused(server: Shop) -> None:
    program = server.client("greedy", "read")
    with contextlib.ExitStack() as many:
        for _ in range(STREAMS_MAX_EACH):
            many.enter_context(stream(program)).ready()
        refused = program.get("/events")
        assert (refused.status, refused.code) == (503, "too-many-streams")
        assert server.client("buyer").get("/health").json["streams"] >= STREAMS_MAX_EACH


def test_a_listener_that_does_not_keep_up_is_dropped_and_the_others_are_not() -> None:
    async def main() -> None:
        live = Live(MemoryStore())
        with live.listen() as slow, live.listen() as quick:
            for place in range(QUEUE_MAX + 1):
                change = Change(Number(1, place), None, None)
                slow.tell(change)
                quick.tell(change)
                assert await quick.next(1) == change
            assert slow.is_dropped
            assert await slow.next(1) is None
            assert not quick.is_dropped

    asyncio.run(main())


def test_the_store_is_asked_for_changes_only_while_somebody_listens() -> None:
    class Counting(MemoryStore):
        asked = 0

        def changes(self) -> int:
            self.asked += 1
            return super().changes()

    async def main() -> None:
        store = Counting()
        live = Live(store)
        assert store.asked == 0
        async with AsyncTransactionManager(store=store) as manager:
            with live.listen() as listener:
                while not store.asked:  # noqa: ASYNC110 (the watcher has no event for that)
                    await asyncio.sleep(0)
                tx = await manager.begin()
                await manager.commit(tx)
                change = await listener.next(10)
                assert change is not None
                assert change.summary is not None
                assert change.summary.transaction_id == tx.transaction_id
            before = store.asked
            await manager.commit(await manager.begin())
            assert store.asked == before

    asyncio.run(main())


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "-1.0", "1.0.0", "²", "9" * 30 + ".1"])
def test_what_is_no_event_id_is_none(text: str) -> None:
    from aumai_transactions.web.live import number_of

    assert number_of(text) is None
    assert number_of("17.3") == Number(17, 3)


def test_a_stream_ends_with_its_server(tmp_path: Path) -> None:
    from tests.web.api.bench import shop

    with shop(tmp_path) as server:
        listening = Stream(server.client("reader", "read"))
        listening.ready()
        server.stop()
        assert list(listening) == []
        listening.connection.close()
