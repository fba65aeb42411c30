"""An engine that dies is replaced, the request that kills it is found, and no other is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import Any

import pytest

from schemas.errors import (
    EngineUnavailable,
    GemstreamError,
    PoisonRequest,
    RequestRefused,
    RequestTimeout,
)
from schemas.rows import PartKind
from workers.engines import EngineConfig, Media, Request, Response
from workers.supervise import MAX_PROOFS, MAX_RESTARTS_IDLE, Gate, Supervisor


class Scripted:
    """An engine whose requests say by their key what becomes of them."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.starts = 0
        self.lives = 1_000
        self.asked: Counter[str] = Counter()
        self.inside: set[str] = set()
        self.beside: dict[str, set[str]] = {}
        self.dead = asyncio.Event()
        self.beat: float | None = None
        self.proof: GemstreamError | None = None

    @staticmethod
    def environment(gpus: float) -> dict[str, str]:
        return {}

    def start(self) -> None:
        self.starts += 1
        self.dead = asyncio.Event()

    def close(self) -> None:
        self.dead.set()

    def pulse(self) -> float | None:
        return self.beat

    async def generate(self, request: Request) -> Response:
        self.asked[request.key] += 1
        self.beside[request.key] = set(self.inside)
        self.inside.add(request.key)
        try:
            return await self._answer(request)
        finally:
            self.inside.discard(request.key)

    async def _answer(self, request: Request) -> Response:
        dead = self.dead
        if request.key.startswith("kill") or self.starts > self.lives:
            await asyncio.sleep(0)
            dead.set()
        if self.proof is not None and request.max_tokens == 1:
            raise self.proof
        if request.key.startswith("refuse"):
            raise RequestRefused("no")
        if request.key.startswith("hang"):
            await asyncio.Event().wait()
        for _ in range(3):
            await asyncio.sleep(0)
            if dead.is_set():
                raise EngineUnavailable("died", key=request.key)
        return Response(request.key, "stop", 1, 1)


def request(key: str) -> Request:
    return Request(key, "?", Media(PartKind.IMAGE, b"", key), max_tokens=8)


def gathered(engine: Scripted, keys: list[str], seconds: float = 60.0, concurrency: int = 8) -> list[Any]:
    async def ask() -> list[Any]:
        supervisor = Supervisor(engine, concurrency, request_seconds=seconds)
        return await asyncio.gather(*(supervisor.ask(request(key)) for key in keys), return_exceptions=True)

    return asyncio.run(ask())


def test_one_poisoned_request_among_many() -> None:
    engine = Scripted()
    answers = gathered(engine, [*(f"good{i}" for i in range(6)), "kill", "good6"])
    assert isinstance(answers[6], PoisonRequest)
    assert [answer.text for answer in answers if isinstance(answer, Response)] == [
        f"good{i}" for i in range(7)
    ]
    assert engine.asked["kill"] == 2
    assert engine.beside["kill"] == set(), "the second try of a suspect is made alone"


def test_every_start_is_told_once() -> None:
    engine = Scripted()

    async def told() -> list[int]:
        supervisor = Supervisor(engine, 8, request_seconds=5.0)
        found = [supervisor.take_starts()]
        for keys in (["good"], ["good", "kill"], ["good"]):
            asked = (supervisor.ask(request(key)) for key in keys)
            await asyncio.gather(*asked, return_exceptions=True)
            found.append(supervisor.take_starts())
        return found

    found = asyncio.run(told())
    assert found[:2] == [0, 1] and sum(found) == engine.starts > 2


def test_two_poisoned_requests_do_not_take_an_innocent_with_them() -> None:
    answers = gathered(Scripted(), ["kill1", "good1", "kill2", "good2", "good3"])
    assert [type(answer).__name__ for answer in answers] == [
        "PoisonRequest",
        "Response",
        "PoisonRequest",
        "Response",
        "Response",
    ]


def test_a_refused_request_costs_itself() -> None:
    engine = Scripted()
    answers = gathered(engine, ["good", "refuse"])
    assert isinstance(answers[0], Response) and isinstance(answers[1], RequestRefused)
    assert engine.starts == 1


def test_a_request_that_hangs_beside_others_times_out_alone() -> None:
    engine = Scripted()

    async def ask() -> list[Any]:
        supervisor = Supervisor(engine, concurrency=8, request_seconds=2.0)
        hanging = asyncio.create_task(supervisor.ask(request("hang")))
        await asyncio.sleep(0)
        await supervisor.ask(request("good"))
        return await asyncio.gather(hanging, return_exceptions=True)

    assert isinstance(asyncio.run(ask())[0], RequestTimeout)
    assert engine.starts == 1


def test_an_engine_that_says_nothing_at_all_is_replaced_and_the_culprit_quarantined() -> None:
    engine = Scripted()
    (answer,) = gathered(engine, ["hang"], seconds=0.1)
    assert isinstance(answer, PoisonRequest)
    assert engine.starts == 2, "replaced once; the next who asks starts the third"


def test_an_engine_whose_heart_stands_still_is_replaced_long_before_its_requests_time_out() -> None:
    engine = Scripted()

    async def ask() -> list[Any]:
        supervisor = Supervisor(engine, concurrency=8, request_seconds=600, heartbeat_seconds=0.1)
        answers = [asyncio.create_task(supervisor.ask(request(key))) for key in ("hang", "good")]
        await asyncio.sleep(0)
        engine.beat = time.monotonic()
        return await asyncio.gather(*answers, return_exceptions=True)

    hanging, good = asyncio.run(ask())
    assert isinstance(hanging, PoisonRequest) and "heartbeat" in hanging.message
    assert isinstance(good, Response)


def test_an_engine_that_takes_its_steps_has_time_for_a_long_answer() -> None:
    engine = Scripted()
    engine.pulse = time.monotonic  # type: ignore[method-assign]

    async def ask() -> Any:
        supervisor = Supervisor(engine, concurrency=8, request_seconds=2.0, heartbeat_seconds=0.2)
        await supervisor.ask(request("good0"))
        hanging = asyncio.create_task(supervisor.ask(request("hang")))
        while not hanging.done():
            await supervisor.ask(request("good"))
            await asyncio.sleep(0.02)
        return hanging.exception()

    assert isinstance(asyncio.run(ask()), RequestTimeout)
    assert engine.starts == 1


def test_an_engine_that_has_only_ever_died_ends_the_run() -> None:
    engine = Scripted()
    engine.lives = 0
    answers = gathered(engine, [f"good{i}" for i in range(4 * MAX_RESTARTS_IDLE)])
    assert any(isinstance(answer, EngineUnavailable) for answer in answers)
    assert engine.starts == 2 + MAX_RESTARTS_IDLE, "given up once, it is not started again for the others"


def test_an_engine_that_dies_of_all_that_is_real_ends_the_run() -> None:
    engine = Scripted()
    most = (MAX_PROOFS + 1) * (MAX_RESTARTS_IDLE + 1)
    answers = gathered(engine, [f"kill{i}" for i in range(2 * most)], concurrency=1)
    assert isinstance(answers[-1], EngineUnavailable) and engine.starts <= 1 + most


@pytest.mark.parametrize("poisoned", [3, 4, 4 * MAX_RESTARTS_IDLE])
def test_poison_that_comes_first_is_quarantined_and_others_are_answered(poisoned: int) -> None:
    """Three pages of one document, and nothing has been answered yet."""
    engine = Scripted()

    async def ask() -> list[Any]:
        supervisor = Supervisor(engine, 8, request_seconds=5.0)
        first = [asyncio.ensure_future(supervisor.ask(request(f"kill{i}"))) for i in range(poisoned)]
        while not engine.dead.is_set():
            await asyncio.sleep(0)
        then = (supervisor.ask(request(f"good{i}")) for i in range(4))
        return await asyncio.gather(*first, *then, return_exceptions=True)

    names = [type(answer).__name__ for answer in asyncio.run(ask())]
    assert names == ["PoisonRequest"] * poisoned + ["Response"] * 4


def test_many_poisoned_requests_in_a_row_are_not_the_engines_fault() -> None:
    engine = Scripted()
    poisoned = [f"kill{i}" for i in range(4 * MAX_RESTARTS_IDLE)]
    answers = gathered(engine, ["good0", *poisoned, "good1"], concurrency=1)
    assert [type(answer).__name__ for answer in answers] == [
        "Response",
        *["PoisonRequest"] * len(poisoned),
        "Response",
    ]


def test_an_engine_that_dies_on_what_it_answered_before_ends_the_run() -> None:
    engine = Scripted()
    engine.lives = 1
    answers = gathered(engine, ["good0", *(f"kill{i}" for i in range(4 * MAX_RESTARTS_IDLE))], concurrency=1)
    assert isinstance(answers[0], Response)
    assert any(isinstance(answer, EngineUnavailable) for answer in answers)
    assert engine.starts == 2 + MAX_RESTARTS_IDLE


def test_an_engine_that_refuses_what_it_answered_before_lives() -> None:
    engine = Scripted()
    engine.proof = RequestRefused("not cut at one token")
    poisoned = [f"kill{i}" for i in range(4 * MAX_RESTARTS_IDLE)]
    answers = gathered(engine, ["good0", *poisoned, "good1", "good2"], concurrency=1)
    assert [type(answer).__name__ for answer in answers] == [
        "Response",
        *["PoisonRequest"] * len(poisoned),
        "Response",
        "Response",
    ]
    assert engine.starts <= 1 + 2 * len(poisoned), "none is started again that has not died"


def test_an_engine_that_times_out_on_what_it_answered_before_ends_the_run() -> None:
    engine = Scripted()
    engine.proof = RequestTimeout("no answer in 5 s")
    answers = gathered(engine, ["good0", *(f"kill{i}" for i in range(4 * MAX_RESTARTS_IDLE))], concurrency=1)
    assert isinstance(answers[0], Response)
    assert {type(answer) for answer in answers[1:]} <= {PoisonRequest, EngineUnavailable}
    assert isinstance(answers[-1], EngineUnavailable), "no request is blamed for it"
    assert engine.starts == 2 + MAX_RESTARTS_IDLE


def test_an_engine_that_never_comes_up_ends_the_run_and_is_started_once() -> None:
    loaded = threading.Event()

    class Stuck(Scripted):
        def start(self) -> None:
            super().start()
            loaded.wait()

    async def ask() -> list[Any]:
        supervisor = Supervisor(engine, 8, request_seconds=5.0, load_seconds=0.1)
        try:
            asks = (supervisor.ask(request(key)) for key in ("page1", "page2"))
            return await asyncio.gather(*asks, return_exceptions=True)
        finally:
            loaded.set()

    engine = Stuck()
    answers = asyncio.run(ask())
    assert {type(answer) for answer in answers} == {EngineUnavailable}
    assert "limits.load_seconds" in answers[0].message and engine.starts == 1


def test_the_gate_lets_nobody_in_beside_the_one_who_wants_to_be_alone() -> None:
    async def play() -> list[str]:
        gate, seen = Gate(), []

        async def shared(name: str) -> None:
            async with gate.shared():
                seen.append(f"+{name}")
                await asyncio.sleep(0)
                seen.append(f"-{name}")

        async def alone() -> None:
            async with gate.exclusive():
                seen.append("alone")
                await asyncio.sleep(0)
                seen.append("done")

        await asyncio.gather(shared("a"), shared("b"), alone(), shared("c"))
        return seen

    seen = asyncio.run(play())
    at = seen.index("alone")
    assert seen[at + 1] == "done"
    assert {"-a", "-b"} <= set(seen[:at]) and "+c" in seen[at:]
