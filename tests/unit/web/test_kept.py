"""Answers that list many transactions are kept for a moment; a change makes them forgotten."""

import asyncio

from starlette.responses import Response

from aumai_transactions.testing.clock import ManualClock
from aumai_transactions.web.kept import KEPT_MICROSECONDS, Kept


class Maker:
    """Make answers, and count them."""

    def __init__(self) -> None:
        self.made = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> Response:
        self.made += 1
        number = self.made
        await self.may_end.wait()
        return Response(str(number))


def asked(kept: Kept, key: str, make: Maker) -> bytes:
    return bytes(asyncio.run(kept.answer(key, make)).body)


def test_an_answer_is_given_again_for_a_moment_and_to_nobody_else(clock: ManualClock) -> None:
    kept, make = Kept(clock), Maker()
    assert asked(kept, "ann", make) == b"1"
    assert asked(kept, "bob", make) == b"2"

    async def again() -> list[bytes]:
        first = await kept.answer("eve", make)
        second = await kept.answer("eve", make)
        clock.advance(KEPT_MICROSECONDS / 1_000_000)
        return [bytes(one.body) for one in (first, second, await kept.answer("eve", make))]

    assert asyncio.run(again()) == [b"3", b"3", b"4"]


def test_what_has_changed_through_this_server_is_seen_at_once(clock: ManualClock) -> None:
    kept, make = Kept(clock), Maker()

    async def main() -> list[bytes]:
        first = await kept.answer("ann", make)
        kept.forget()
        return [bytes(one.body) for one in (first, await kept.answer("ann", make))]

    assert asyncio.run(main()) == [b"1", b"2"]


def test_what_is_being_made_is_waited_for_by_all(clock: ManualClock) -> None:
    async def main() -> int:
        kept, make = Kept(clock), Maker()
        make.may_end.clear()
        asking = [asyncio.create_task(kept.answer("ann", make)) for _ in range(5)]
        await asyncio.sleep(0)
        make.may_end.set()
        assert {bytes(one.body) for one in await asyncio.gather(*asking)} == {b"1"}
        return make.made

    assert asyncio.run(main()) == 1


def test_a_failure_is_told_to_all_who_wait_and_is_not_kept(clock: ManualClock) -> None:
    async def main() -> list[object]:
        kept, make = Kept(clock), Maker()
        may_fail = asyncio.Event()

        async def fail() -> Response:
            await may_fail.wait()
            raise ValueError("no")

        asking = [asyncio.create_task(kept.answer("ann", fail)) for _ in range(2)]
        await asyncio.sleep(0)
        may_fail.set()
        told = await asyncio.gather(*asking, return_exceptions=True)
        return [*map(type, told), bytes((await kept.answer("ann", make)).body)]

    assert asyncio.run(main()) == [ValueError, ValueError, b"1"]


def test_whoever_goes_away_takes_nothing_from_the_others(clock: ManualClock) -> None:
    async def main() -> bytes:
        kept, make = Kept(clock), Maker()
        make.may_end.clear()
        first = asyncio.create_task(kept.answer("ann", make))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(kept.answer("ann", make))
        other = asyncio.create_task(kept.answer("ann", make))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        make.may_end.set()
        assert bytes((await first).body) == b"1"
        return bytes((await other).body)

    assert asyncio.run(main()) == b"1"
