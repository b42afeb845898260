"""The queue in front of the engine: bounded, in turn between keys, background last, nothing lost on a cancel."""

import asyncio

import pytest

from ownlm.server.admission import Admission
from ownlm.server.errors import ApiError
from ownlm.server.limits import Limits


async def ask(admission: Admission, key: str, order: list[str], *, texts: int = 1, background: bool = False) -> None:
    async with admission.place(key, texts=texts, tokens=10, background=background):
        order.append(key)
        await asyncio.sleep(0)


def test_keys_are_served_in_turn_and_background_last() -> None:
    async def scenario() -> list[str]:
        admission, order = Admission(1, Limits()), list[str]()
        async with admission.place("first", texts=1, tokens=1):
            waiting = [asyncio.create_task(ask(admission, "batch", order, background=True))]
            await asyncio.sleep(0)
            for key in ("a", "a", "a", "b", "b", "c"):
                waiting.append(asyncio.create_task(ask(admission, key, order)))
                await asyncio.sleep(0)
            assert admission.waiting == 6 and admission.waiting_tokens == 60
        await asyncio.gather(*waiting)
        assert admission.taken == 0 and admission.waiting == 0
        return order

    assert asyncio.run(scenario()) == ["a", "b", "c", "a", "b", "a", "batch"]


def test_what_is_too_much_is_refused_and_told_when_to_come_again() -> None:
    async def scenario() -> None:
        admission = Admission(1, Limits(waiting_requests=2, waiting_tokens=25))
        order: list[str] = []
        async with admission.place("x", texts=1, tokens=1):
            first = asyncio.create_task(ask(admission, "x", order))
            await asyncio.sleep(0)
            with pytest.raises(ApiError) as long:
                async with admission.place("y", texts=1, tokens=20):
                    pass
            second = asyncio.create_task(ask(admission, "y", order))
            await asyncio.sleep(0)
            with pytest.raises(ApiError) as many:
                async with admission.place("z", texts=1, tokens=1):
                    pass
        for refused in (long.value, many.value):
            assert refused.status == 429 and int(refused.sent_headers["retry-after"]) >= 1
        await asyncio.gather(first, second)
        assert admission.rejected == 2 and order == ["x", "y"]

    asyncio.run(scenario())


def test_who_leaves_the_queue_takes_nobodys_place() -> None:
    async def scenario() -> None:
        admission, order = Admission(2, Limits()), list[str]()
        async with admission.place("x", texts=2, tokens=1):
            wide = asyncio.create_task(ask(admission, "wide", order, texts=2))
            await asyncio.sleep(0)
            behind = asyncio.create_task(ask(admission, "behind", order))
            await asyncio.sleep(0)
            wide.cancel()
            await asyncio.gather(wide, return_exceptions=True)
            assert admission.waiting == 1
        await behind
        # Cancelled in the very moment in which the place was given.
        async with admission.place("x", texts=2, tokens=1):
            late = asyncio.create_task(ask(admission, "late", order))
            await asyncio.sleep(0)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        assert order == ["behind"] and admission.taken == 0 and admission.waiting == 0
        # More texts than there are places get all of them.
        await ask(admission, "huge", order, texts=9)
        assert admission.taken == 0

    asyncio.run(scenario())
