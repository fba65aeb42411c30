"""A server that takes nothing for a while, or ever again: who waits, who is blamed, and what ends the run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from schemas.errors import EngineAway, EngineUnavailable, PoisonRequest
from schemas.models import find_model
from schemas.rows import PartKind
from tests.workers.answering import Asked, Said, Server, answering, error, healthy
from workers.engines import EngineConfig, Media, Request, Response
from workers.engines.openai import OpenAIEngine
from workers.supervise import MAX_RESTARTS_IDLE, Supervisor

BUSY = Said(429, error("slow down"))


@pytest.fixture
def server() -> Iterator[Server]:
    with answering() as server:
        yield server


def request(question: str) -> Request:
    return Request(question, question, Media(PartKind.IMAGE, b"", "image"), max_tokens=8)


def supervised(
    url: str, outage_seconds: float = 20, request_seconds: float = 60, concurrency: int = 8
) -> Supervisor:
    options = {"base_url": url, "outage_seconds": outage_seconds}
    model = find_model("google/gemma-3-4b-it")
    config = EngineConfig(model, 8, 1024, request_seconds=request_seconds, options=options)
    return Supervisor(OpenAIEngine(config), concurrency, request_seconds)


def gathered(supervisor: Supervisor, *questions: str, during: Callable[[], Any] | None = None) -> list[Any]:
    """All asked at once; `during` is called in a thread meanwhile."""

    async def asked() -> list[Any]:
        asks = [supervisor.ask(request(question)) for question in questions]
        between = [asyncio.to_thread(during)] if during else []
        try:
            return (await asyncio.gather(*asks, *between, return_exceptions=True))[: len(questions)]
        finally:
            supervisor.close()
            await asyncio.sleep(0.01)

    return asyncio.run(asked())


def first(count: int, said: Said, of: str = "") -> Callable[[Asked], Said]:
    """A script that says so to the first completions (of one question, if one is named), then answers."""
    lock, left = threading.Lock(), count

    def script(asked: Asked) -> Said:
        nonlocal left
        with lock:
            if not asked.body or not left or of not in asked.question:
                return healthy(asked)
            left -= 1
            return said

    return script


def in_two_seconds() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


@pytest.mark.parametrize("when", [lambda: "1", in_two_seconds], ids=["seconds", "date"])
def test_nobody_asks_again_before_the_server_says(server: Server, when: Callable[[], str]) -> None:
    server.script = first(1, Said(429, error("slow down"), {"Retry-After": when()}))
    began = time.monotonic()
    (answer,) = gathered(supervised(server.url), "page")
    assert isinstance(answer, Response)
    assert 0.9 < time.monotonic() - began
    assert server.questions == ["page", "page"]


def test_a_rate_limit_poisons_nobody(server: Server) -> None:
    server.script = first(12, BUSY)
    answers = gathered(supervised(server.url), *(f"page{i}" for i in range(6)))
    assert {type(answer) for answer in answers} == {Response}
    assert len(server.questions) == 18


@pytest.mark.parametrize(
    "said", [BUSY, Said(503, error("slow down")), Said(429, error("slow down"), {"Retry-After": "3600"})]
)
def test_a_rate_limit_without_end_ends_the_run_and_blames_nobody(server: Server, said: Said) -> None:
    server.script = lambda asked: said if asked.body else healthy(asked)
    answers = gathered(supervised(server.url, outage_seconds=0.5), *(f"page{i}" for i in range(6)))
    assert {type(answer) for answer in answers} == {EngineAway}
    assert "outage_seconds" in answers[0].message and "slow down" in answers[0].message


@pytest.mark.parametrize("others", [[], ["page"]], ids=["alone", "beside another"])
def test_what_a_gateway_never_lets_through_ends_no_run(server: Server, others: list[str]) -> None:
    late = Said(504, error("took too long"))
    server.script = lambda asked: late if asked.question == "bad" else healthy(asked)
    bad, *answers = gathered(supervised(server.url, outage_seconds=0.2), "bad", *others)
    assert isinstance(bad, PoisonRequest) and "took too long" in bad.message
    assert [type(answer) for answer in answers] == [Response] * len(others)


def test_who_is_refused_while_others_are_answered_waits_on(server: Server) -> None:
    server.script = first(3, Said(429, error("slow down"), {"Retry-After": "0"}), of="starved")

    async def asked() -> Any:
        supervisor = supervised(server.url, outage_seconds=1.2)
        starved = asyncio.create_task(supervisor.ask(request("starved")))
        while not starved.done():
            await supervisor.ask(request("fed"))
        supervisor.close()
        await asyncio.sleep(0.01)
        return starved.result()

    assert isinstance(asyncio.run(asked()), Response)
    assert server.questions.count("starved") == 4


def test_silence_is_not_taken_for_a_death_however_short_the_requests_time(server: Server) -> None:
    server.script = lambda asked: BUSY if asked.body else healthy(asked)
    answers = gathered(supervised(server.url, outage_seconds=300, request_seconds=6), "page1", "page2")
    assert {type(answer) for answer in answers} == {EngineAway}


@pytest.mark.parametrize("said", [Said(500, error("a bug")), Said(0)], ids=["500", "lost"])
def test_what_a_server_fails_on_is_found_and_costs_nobody_else(server: Server, said: Said) -> None:
    server.script = lambda asked: said if asked.question == "bad" else healthy(asked)
    answers = gathered(supervised(server.url), "page1", "bad", "page2", "page3")
    assert [type(answer) for answer in answers] == [Response, PoisonRequest, Response, Response]
    assert server.questions.count("bad") == 2 and len(server.questions) == 5


def test_what_a_server_forbids_beside_what_it_answers_costs_nobody_else(server: Server) -> None:
    forbidden = Said(403, error("flagged"))
    server.script = lambda asked: forbidden if asked.question == "bad" else healthy(asked)

    async def asked() -> list[Any]:
        supervisor = supervised(server.url)
        await supervisor.ask(request("page1"))
        asks = [supervisor.ask(request(question)) for question in ("bad", "page2")]
        answers = await asyncio.gather(*asks, return_exceptions=True)
        supervisor.close()
        await asyncio.sleep(0.01)
        return answers

    bad, page = asyncio.run(asked())
    assert isinstance(bad, PoisonRequest) and "flagged" in bad.message and isinstance(page, Response)


def test_a_failure_leaves_the_answers_that_are_under_way(server: Server) -> None:
    failed = threading.Event()

    def script(asked: Asked) -> Said:
        if asked.question == "bad":
            failed.set()
            return Said(500, error("a bug"))
        if asked.question == "slow":
            failed.wait(5)
            time.sleep(0.3)  # while the failure is dealt with, nothing is to happen to this one
        return healthy(asked)

    server.script = script
    # The page has its place only when the failed one leaves, and so deals with the failure.
    answers = gathered(supervised(server.url, concurrency=2), "slow", "bad", "page")
    assert [type(answer) for answer in answers] == [Response, PoisonRequest, Response]
    assert server.questions.count("slow") == 1


def test_a_server_that_fails_on_everything_ends_the_run(server: Server) -> None:
    server.script = lambda asked: Said(500, error("a bug")) if asked.body else healthy(asked)
    answers = gathered(supervised(server.url), *(f"page{i}" for i in range(4 * MAX_RESTARTS_IDLE)))
    given_up = [answer for answer in answers if isinstance(answer, EngineUnavailable)]
    assert given_up and "a bug" in given_up[0].message and "harmless" in given_up[0].message
    assert len(server.questions) <= 3 * len(answers)


def after_a_restart(outage_seconds: float, again: bool) -> list[Any]:
    """What two requests become whose server goes before they are asked, and comes back or does not."""

    async def asked() -> list[Any]:
        with answering() as server:
            supervisor = supervised(server.url, outage_seconds)
            await supervisor.ask(request("page0"))
        asks = [asyncio.create_task(supervisor.ask(request(f"page{i}"))) for i in (1, 2)]
        await asyncio.wait(asks, timeout=0.5)
        with answering(port=urlsplit(server.url).port or 0) if again else nullcontext():
            answers = await asyncio.gather(*asks, return_exceptions=True)
            supervisor.close()
            await asyncio.sleep(0.01)
            return answers

    return asyncio.run(asked())


def test_a_server_that_is_started_again_is_waited_for() -> None:
    assert {type(answer) for answer in after_a_restart(20, again=True)} == {Response}


def test_a_server_that_is_gone_for_good_ends_the_run_and_blames_nobody() -> None:
    answers = after_a_restart(1, again=False)
    assert {type(answer) for answer in answers} == {EngineAway}
    assert "cannot be reached" in answers[0].message
