"""What is kept of an answer that no try made whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest

from pipelines.plan import make_plan
from schemas.job import make_job
from schemas.rows import PARTS, PartKind, Status
from workers.engines import Media, Request, Response
from workers.infer import Infer, InferRecipe
from workers.prompt import Part

PAGE = Part("p", Media(PartKind.PAGE, b"", "p"), None, PartKind.PAGE)
JOB = {"input": "s3://b/i", "output": "s3://b/o", "engine": {"kind": "fault"}}


class Told:
    """An engine that says these, one after the other."""

    hosts_model, tiles = False, False

    def __init__(self, *said: Response) -> None:
        self.said = list(said)
        self.asked: list[tuple[int, float]] = []

    def start(self) -> None:
        """It is there."""

    async def generate(self, request: Request) -> Response:
        self.asked.append((request.max_tokens, round(request.temperature, 1)))
        return self.said.pop(0)

    def pulse(self) -> float | None:
        return None

    def close(self) -> None:
        """Nothing to end."""

    @staticmethod
    def environment(gpus: float) -> dict[str, str]:
        return {}


def staged(task: Mapping[str, Any], *said: Response) -> tuple[Infer, InferRecipe, Told]:
    job = make_job({**JOB, "tasks": [task]})
    plan = make_plan(job, None, 0.0)
    lane = plan.lanes[0]
    told = Told(*said)
    engine: Any = told
    recipe = InferRecipe("fault", lane.config, lane.asks, plan.schema, plan.run_id, job.limits)
    return Infer(recipe, engine=engine), recipe, told


def climbed(task: Mapping[str, Any], *said: Response) -> dict[str, Any]:
    infer, recipe, _ = staged(task, *said)
    return asyncio.run(infer._climb(recipe.asks[0], PAGE, suspect=False))


def test_what_holds_of_an_answer_has_its_own_figures() -> None:
    half = Response('{"a": "x", "b": "2024-02-30"}', "stop", prompt_tokens=7, output_tokens=9)
    cut = Response('{"a": "x", "b', "length", prompt_tokens=7, output_tokens=512)
    kept = climbed({"task": "extract", "fields": {"a": "text", "b": "date"}}, half, cut, cut)
    assert kept["invalid_fields"] == ["/b"] and kept["attempts"] == 3
    assert (kept["finish_reason"], kept["output_tokens"]) == ("stop", 9)


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_best_of_what_holds_is_kept_and_of_equals_the_first(best: int) -> None:
    worse = '{"a": "%d", "b": "2024-02-30", "c": "2024-02-30"}'
    texts = [worse % at for at in range(3)]
    texts[best] = '{"a": "best", "b": "2024-02-30", "c": "2024-02-29"}'
    task = {"task": "extract", "fields": {"a": "text", "b": "date", "c": "date"}}
    kept = climbed(task, *(Response(text, "stop", 7, 9) for text in texts))
    assert (kept["data"]["a"], kept["invalid_fields"]) == ("best", ["/b"])
    kept = climbed(task, *(Response(worse % at, "stop", 7, 9) for at in range(3)))
    assert kept["data"]["a"] == "0", "the coolest of them"


def test_what_is_cut_is_asked_longer_and_what_loops_hotter() -> None:
    contents = "".join(f"Chapter {i}: title {'.' * 60} {i}\n" for i in range(9))
    cut = Response(contents + "Chapter 9: title " + "." * 50, "length", 3, 9)
    loops = Response("again and " * 200, "length", 3, 9)
    task = {"task": "ocr", "max_tokens": 500}
    for said, asked in {
        (cut, cut, cut): [(500, 0.0), (1000, 0.0), (2000, 0.0)],
        (loops, loops, loops): [(500, 0.0), (500, 0.3), (500, 0.6)],
        (loops, cut, loops): [(500, 0.0), (500, 0.3), (1000, 0.3)],
    }.items():
        infer, recipe, told = staged(task, *said)
        outcome = asyncio.run(infer._climb(recipe.asks[0], PAGE, suspect=False))
        assert told.asked == asked and outcome["status"] is Status.ERROR


@pytest.mark.parametrize(("trusted", "borrowed"), [(True, True), (None, True), (False, False)])
def test_a_text_that_cannot_be_trusted_is_not_borrowed(trusted: bool | None, borrowed: bool) -> None:
    cut = Response("The lease of", "length", 3, 9)
    infer, _, _ = staged({"task": "ocr"}, cut, cut, cut)
    page = {"document_id": "d", "version": "v", "part_index": 0, "part_kind": "page", "content": b"x"}
    page |= {"content_hash": "h", "page_text": "FAX p. 1", "text_trusted": trusted}
    page |= {"expected": 1, "settled": 0}

    async def run() -> list[dict[str, Any]]:
        parts = pa.Table.from_pylist([page], PARTS)
        return [row async for table in infer(parts) for row in table.to_pylist()]

    [row] = asyncio.run(run())
    if borrowed:
        assert (row["status"], row["text"], row["text_source"]) == ("record", "FAX p. 1", "text_layer")
    else:
        assert (row["status"], row["text"], row["text_source"]) == ("error", "The lease of", None)
        assert row["error"]["category"] == "truncated"
