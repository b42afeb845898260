"""The engine on its thread: answers as one by one, cancelled, slow and failing readers, and a clean end."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from ownlm.engine import Engine, EngineConfig, Request, Sampling, complete
from ownlm.engine.background import AsyncAnswer, EngineStopped, EngineThread, QueueFull
from ownlm.engine.generate import whole
from ownlm.engine.grammar import Grammar
from ownlm.engine.request import Piece, Ticket
from ownlm.errors import OwnlmError
from tiny_models import random_decoder, random_ids, tiny_tokenizer

# A long context: who is not cancelled goes on for long.
MODEL = random_decoder(seed=1, max_position_embeddings=2048).eval()


def make_engine(**config: int) -> Engine:
    return Engine(MODEL, tiny_tokenizer(), [], EngineConfig(**config))


def request(number: int, **sampling: object) -> Request:
    settings: dict[str, object] = {"max_tokens": 6, "temperature": 0.9, "seed": number}
    return Request(
        prompt=random_ids(number % 40 + 1, seed=number),
        sampling=Sampling(**(settings | sampling)),  # type: ignore[arg-type]
    )


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if thread.name == "ownlm-engine"]
    assert not left


async def read(answer: AsyncAnswer) -> list[Piece]:
    return [piece async for piece in answer]


def until(happened: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.001)


def all_free(background: EngineThread) -> bool:
    return background.engine.idle and background.stats().blocks_used == 0


def test_a_hundred_streams_are_what_each_is_alone() -> None:
    requests = [request(number, n=1 + (number % 10 == 0)) for number in range(100)]
    engine = make_engine()
    alone = [complete(engine, [one]) for one in requests]

    async def everyone(background: EngineThread) -> list[list[Piece]]:
        return await asyncio.gather(*(read(background.submit(one)) for one in requests))

    with EngineThread(make_engine(max_sequences=8, step_tokens=40, cache_tokens=320)) as background:
        together = asyncio.run(everyone(background))
        until(lambda: all_free(background))
        stats = background.stats()
    for one, pieces, expected in zip(requests, together, alone, strict=True):
        assert [done.token_ids for done in whole(pieces, one.sampling.n)] == [done.token_ids for done in expected]
    assert stats.requests == 100 and stats.preemptions > 0 and (stats.running, stats.waiting) == (0, 0)
    assert stats.drawn_tokens == sum(map(len, together)) == sum(6 * one.sampling.n for one in requests)
    assert stats.prompt_tokens == sum(len(one.prompt) for one in requests)


def test_a_step_wakes_a_loop_once_and_pieces_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    async def everyone(background: EngineThread) -> tuple[int, int, list[Piece]]:
        loop, wakes = asyncio.get_running_loop(), 0
        threadsafe = loop.call_soon_threadsafe

        def counted(*given: object) -> object:
            nonlocal wakes
            wakes += 1
            return threadsafe(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        drawn = sum(map(len, await asyncio.gather(*(read(background.submit(request(n))) for n in range(8)))))
        answer = background.submit(request(9))
        began = time.monotonic()
        await answer.gather(60)
        assert time.monotonic() - began < 30, "the end is not waited out"
        return wakes, drawn, answer.take_ready()

    with EngineThread(make_engine(max_sequences=8)) as background:
        wakes, drawn, gathered = asyncio.run(everyone(background))
    assert len(gathered) == 6 and gathered[-1].finish_reason == "length"
    assert wakes < drawn / 2


def test_plain_threads_read_too() -> None:
    requests = [request(number) for number in range(12)]
    alone = [done.token_ids for done in complete(make_engine(), requests)]
    with EngineThread(make_engine()) as background, ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda one: [piece.token_id for piece in background.submit(one)], requests))
    assert together == alone


@pytest.mark.parametrize("how", ["task", "leave", "cancel", "unread"])
def test_who_goes_away_holds_no_blocks_and_disturbs_nobody(how: str) -> None:
    stay = [request(number) for number in range(6)]
    alone = [done.token_ids for done in complete(make_engine(), stay)]

    async def leave(background: EngineThread, number: int) -> None:
        answer = background.submit(request(number, max_tokens=10**6))
        if how == "unread":
            answer.cancel()
            return
        async for piece in answer:
            if how == "leave":
                break
            if how == "cancel":
                answer.cancel()
            elif piece.finish_reason is None:
                asyncio.current_task().cancel()  # type: ignore[union-attr]

    async def everyone(background: EngineThread) -> list[list[Piece]]:
        going = [asyncio.create_task(leave(background, number)) for number in range(10, 16)]
        staying = await asyncio.gather(*(read(background.submit(one)) for one in stay))
        await asyncio.gather(*going, return_exceptions=True)
        return staying

    with EngineThread(make_engine()) as background:
        staying = asyncio.run(everyone(background))
        until(lambda: all_free(background))
    assert [[piece.token_id for piece in pieces] for pieces in staying] == alone


def test_a_slow_reader_delays_nobody() -> None:
    expected = complete(make_engine(), [request(1, max_tokens=30)])[0].token_ids
    with EngineThread(make_engine()) as background:
        slow = iter(background.submit(request(1, max_tokens=30)))
        first = next(slow)
        assert len(list(background.submit(request(2, max_tokens=40)))) == 40
        until(lambda: all_free(background))
        # Nothing that it was slow to take is lost.
        assert [piece.token_id for piece in (first, *slow)] == expected


def test_a_bad_request_is_refused_at_the_call_and_hurts_nobody() -> None:
    with EngineThread(make_engine()) as background:
        good = background.submit(request(3))
        for bad in (Request(prompt=[]), Request(prompt=[1], grammar=Grammar(kind="regex", text="["))):
            with pytest.raises(OwnlmError):
                background.submit(bad)
        assert len(list(good)) == 6


def test_a_grammar_is_compiled_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[str] = []
    engine = make_engine()
    engine.grammars.compile = lambda grammar: where.append(threading.current_thread().name)  # type: ignore
    with EngineThread(engine) as background, suppress(OwnlmError):
        list(background.submit(Request(prompt=[1], grammar=Grammar(kind="choice", text=("a",)))))
    assert where[0] == threading.current_thread().name


def test_a_full_queue_refuses_and_takes_again() -> None:
    with EngineThread(make_engine(max_sequences=1, step_tokens=8), most_waiting=1) as background:
        answers = [background.submit(request(number, max_tokens=20)) for number in (1, 2)]
        with pytest.raises(QueueFull, match="2 answers"):
            background.submit(request(3))
        answers[0].cancel()
        until(lambda: len(background._going) < 2)
        assert len(list(background.submit(request(3)))) == 6
        assert len(list(answers[1])) == 20


def test_what_fails_in_a_step_reaches_everyone_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(max_sequences=4)
    steps = iter(range(4))
    step = engine.step

    def failing() -> list[Ticket]:
        if next(steps) == 3:
            raise RuntimeError("no more memory")
        return step()

    monkeypatch.setattr(engine, "step", failing)

    async def everyone(background: EngineThread) -> list[object]:
        answers = [background.submit(request(number, max_tokens=20)) for number in range(9)]
        return await asyncio.gather(*map(read, answers), return_exceptions=True)

    background = EngineThread(engine).start()
    failures = asyncio.run(everyone(background))
    assert [str(failure) for failure in failures] == ["the engine has failed: RuntimeError: no more memory"] * 9
    assert all(isinstance(failure, EngineStopped) and failure.__cause__ is not None for failure in failures)
    assert not background.alive
    with pytest.raises(EngineStopped, match="no more memory"):
        background.submit(request(1))
    background.stop()


def test_stopping_while_it_runs_ends_everyone_and_lets_go_of_all() -> None:
    engine = make_engine()
    background = EngineThread(engine)
    with pytest.raises(EngineStopped, match="not started"):
        background.submit(request(1))
    with background:
        assert background.alive
        answers = [background.submit(request(number, max_tokens=50)) for number in range(40)]
        assert next(iter(answers[0])).choice == 0
    assert not background.alive and engine.idle and engine.scheduler.blocks.free == engine.scheduler.blocks.count
    stopped = 0
    for answer in answers[1:]:
        try:
            list(answer)
        except EngineStopped:
            stopped += 1
    assert stopped > 0
    with pytest.raises(EngineStopped, match="was stopped"):
        background.submit(request(1))
    assert len(complete(engine, [request(1)])[0].token_ids) == 6, "the engine itself is whole"


def test_an_idle_engine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine()
    steps: list[int] = []
    step = engine.step
    monkeypatch.setattr(engine, "step", lambda: steps.append(1) or step())
    with EngineThread(engine) as background:
        list(background.submit(request(1)))
        until(lambda: background.engine.idle)
        count = len(steps)
        time.sleep(0.1)
        assert len(steps) == count and background.stats().step_seconds == 0
