"""What becomes of a request whose engine ends or fails while it is prepared or asked; no model is loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.errors import EngineUnavailable, PoisonRequest, RequestRefused
from schemas.models import find_model
from schemas.rows import PartKind
from workers.engines import EngineConfig, Media, Request, Response, vllm
from workers.supervise import Supervisor

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PAGE = Media(PartKind.PAGE, b"", "page")


class Loaded:
    """vLLM's engine, as far as it is used: `ends` are the finish reasons of its answers, one after the other;
    without any it dies of the request `bad`."""

    def __init__(self, ends: list[str]) -> None:
        self.ends = ends
        context = SimpleNamespace(term=lambda: None)
        self.engine_core = SimpleNamespace(resources=SimpleNamespace(ctx=context))

    async def generate(self, prompt: Any, sampling: Any, key: str, **more: Any) -> AsyncIterator[Any]:
        from vllm.v1.engine.exceptions import EngineDeadError

        await asyncio.sleep(0.02)
        if key.startswith("bad"):
            raise EngineDeadError
        finish = self.ends.pop(0) if self.ends else "stop"
        said = SimpleNamespace(text="half", finish_reason=finish, token_ids=[1], logprobs=None)
        yield SimpleNamespace(outputs=[said], prompt_token_ids=[1], num_cached_tokens=0, metrics=None)

    def shutdown(self) -> None:
        time.sleep(0.1)


class Hosted(vllm.VllmEngine):
    ends: list[str] = []

    def start(self) -> None:
        self._engine = Loaded(self.ends)
        self._template = SimpleNamespace(
            bos_token="", apply_chat_template=lambda *_, **__: vllm.QUESTION_PLACE
        )
        self._threads = ThreadPoolExecutor(1)


def hosted() -> Hosted:
    return Hosted(EngineConfig(find_model("google/gemma-3-4b-it"), 4, 1024))


def test_a_request_that_is_prepared_while_its_engine_is_replaced_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vllm, "_decode", lambda media: time.sleep(0.05))

    async def asked() -> list[Any]:
        supervisor = Supervisor(hosted(), concurrency=4, request_seconds=30)
        pages = [supervisor.ask(Request(f"page{i}", "?", PAGE, 4)) for i in range(3)]
        late = supervisor.ask(Request("late", "?", None, 4))
        bad = supervisor.ask(Request("bad", "?", None, 4))
        return await asyncio.gather(bad, *pages, late, return_exceptions=True)

    bad, *others = asyncio.run(asked())
    assert isinstance(bad, PoisonRequest)
    assert [type(answer) for answer in others] == [Response] * 4


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        (["stop"], Response),
        (["error"], Response),
        (["error", "error"], RequestRefused),
        (["abort"], EngineUnavailable),
        (["repetition"], RequestRefused),
    ],
)
def test_half_an_answer_is_none(ends: list[str], kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hosted, "ends", ends)

    async def asked() -> Any:
        engine = hosted()
        engine.start()
        return (await asyncio.gather(engine.generate(Request("page", "?", None, 4)), return_exceptions=True))[
            0
        ]

    assert type(asyncio.run(asked())) is kind
