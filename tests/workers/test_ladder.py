"""What is kept of an answer that no try made whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pipelines.plan import make_plan
from schemas.job import make_job
from schemas.rows import PartKind
from workers.engines import Media, Request, Response
from workers.infer import Infer, InferRecipe
from workers.prompt import Part

JOB = {"input": "s3://b/i", "output": "s3://b/o", "engine": {"kind": "fault"}}


class Told:
    """An engine that says these, one after the other."""

    hosts_model, tiles = False, False

    def __init__(self, *said: Response) -> None:
        self.said = list(said)

    def start(self) -> None:
        """It is there."""

    async def generate(self, request: Request) -> Response:
        return self.said.pop(0)

    def pulse(self) -> float | None:
        return None

    def close(self) -> None:
        """Nothing to end."""

    @staticmethod
    def environment(gpus: float) -> dict[str, str]:
        return {}


def climbed(task: Mapping[str, Any], *said: Response) -> dict[str, Any]:
    job = make_job({**JOB, "tasks": [task]})
    plan = make_plan(job, None, 0.0)
    lane = plan.lanes[0]
    engine: Any = Told(*said)
    recipe = InferRecipe("fault", lane.config, lane.asks, plan.schema, plan.run_id, job.limits)
    infer = Infer(recipe, engine=engine)
    part = Part("p", Media(PartKind.PAGE, b"", "p"), None, PartKind.PAGE)
    return asyncio.run(infer._climb(lane.asks[0], part, suspect=False))


def test_what_holds_of_an_answer_has_its_own_figures() -> None:
    half = Response('{"a": "x", "b": "2024-02-30"}', "stop", prompt_tokens=7, output_tokens=9)
    cut = Response('{"a": "x", "b', "length", prompt_tokens=7, output_tokens=512)
    kept = climbed({"task": "extract", "fields": {"a": "text", "b": "date"}}, half, cut, cut)
    assert kept["invalid_fields"] == ["/b"] and kept["attempts"] == 3
    assert (kept["finish_reason"], kept["output_tokens"]) == ("stop", 9)
