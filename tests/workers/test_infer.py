"""What passes the engines untouched, and what goes on beside them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pyarrow as pa
import pytest

from pipelines.plan import make_plan
from schemas.errors import CorruptDocument
from schemas.job import make_job
from schemas.limits import Limits
from schemas.rows import PARTS, error_value
from workers import infer as infer_module
from workers.infer import Infer, InferRecipe

JOB = {"input": "s3://b/i", "output": "s3://b/o", "engine": {"kind": "fault"}}


class Deaf:
    """A meter that hears nothing until it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = threading.Event()

    def add(self, stage: str, done: int = 0, failed: int = 0, **more: int) -> None:
        """Nobody counts."""

    def spent(self, stage: str, seconds: Any) -> None:
        """Nor here."""

    def draining(self) -> bool:
        self.asked += 1
        return self.answers.wait(30)


def staged(more: dict[str, Any], meter: Any = None) -> Infer:
    job = make_job({**JOB, "tasks": ["ocr"], **more})
    plan = make_plan(job, None, 0.0)
    lane = plan.lanes[0]
    recipe = InferRecipe(
        "fault", lane.config, lane.asks, plan.schema, plan.run_id, job.limits, job.privacy, lane.names
    )
    return Infer(recipe, meter)


def passed(infer: Infer, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        parts = pa.Table.from_pylist([{"expected": 1, "settled": 1} | row for row in rows], PARTS)
        return [row async for table in infer(parts) for row in table.to_pylist()]

    return asyncio.run(run())


@pytest.mark.parametrize("redact", [["email"], []])
def test_what_an_error_of_an_earlier_stage_quotes_is_redacted(redact: list[str]) -> None:
    fault = error_value(CorruptDocument("no PDF: From: jo@example.com, 2 bytes"), Limits())
    rows: list[dict[str, Any]] = [
        {"document_id": "a", "status": "error", "error": fault},
        {"document_id": "b", "status": "filtered"},
    ]
    broken, filtered = passed(staged({"privacy": {"redact": redact}}), *rows)
    quoted = "[email]" if redact else "jo@example.com"
    assert broken["error"] == fault | {"message": f"no PDF: From: {quoted}, 2 bytes"}
    assert broken["redactions"] == ([("email", 1)] if redact else None)
    assert (filtered["status"], filtered["error"], filtered["redactions"]) == ("filtered", None, None)


def test_a_meter_that_does_not_answer_stops_no_feeding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer_module, "LISTEN_SECONDS", 0.01)
    meter, fed = Deaf(), []
    infer = staged({}, meter)
    monkeypatch.setattr(infer._watchdog, "feed", lambda: fed.append(meter.asked))

    async def slow() -> None:
        while len(fed) < 10 or not meter.asked:
            await asyncio.sleep(0.01)
        assert meter.asked == 1 and not infer._supervisor.draining, "it is asked once at a time"
        meter.answers.set()
        while not infer._supervisor.draining:
            await asyncio.sleep(0.01)

    async def run() -> None:
        await asyncio.wait_for(infer._gathered([slow()]), 20)

    asyncio.run(run())
