"""An engine's process goes before what feeds it, also the one that takes a dead one's place."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from schemas.limits import Limits
from tests.workers.test_expander import STORAGE, TASKS, documents, photo
from tests.workers.test_supervise import Scripted, request
from workers.expand import ExpandOptions
from workers.expander import Expand
from workers.give_way import LAST
from workers.supervise import Supervisor


def elsewhere(work: Callable[[], Any]) -> Any:
    """In a thread of its own: there is no way back from giving way."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


class Starting(Scripted):
    """What starts it is as nice as this."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def start(self) -> None:
        self.found.append(niceness())
        super().start()


@pytest.mark.parametrize("gives_way", [True, False])
def test_what_asks_an_engine_gives_way_to_it(gives_way: bool) -> None:
    before, engine = niceness(), Starting()

    async def ask() -> int:
        supervisor = Supervisor(engine, 8, request_seconds=5.0, gives_way=gives_way)
        asked: list[Any] = [supervisor.ask(request(key)) for key in ("good", "kill", "good")]
        await asyncio.gather(*asked, return_exceptions=True)
        supervisor.close()
        return niceness()

    assert elsewhere(lambda: asyncio.run(ask())) == (LAST if gives_way else before)
    assert len(engine.found) > 1 and set(engine.found) == {before}


@pytest.mark.parametrize("gives_way", [True, False])
def test_a_parser_gives_way_to_engines(gives_way: bool, tmp_path: Path) -> None:
    before = niceness()
    pictures = documents(photo(tmp_path / "a.png"))

    def parsers() -> list[int]:
        stage = Expand(STORAGE, ExpandOptions(image_size=64), Limits(), TASKS, gives_way=gives_way)
        others = set(psutil.Process().children())
        list(stage(pictures))
        mine = [child.nice() for child in psutil.Process().children() if child not in others]
        stage.close()
        return mine

    found = elsewhere(parsers)
    assert found and set(found) == {LAST if gives_way else before}
