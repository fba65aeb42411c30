"""Pages read by eye are held against their own text layer: which ones, at what rate, and at nobody's cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymupdf
import pytest

from pipelines.evaluate import evaluate
from pipelines.plan import Plan, make_plan
from pipelines.tally import Tally
from schemas.ids import document_id
from schemas.job import make_job
from schemas.rows import Pages, PartKind, owing_schema
from schemas.storage import StorageOptions
from tests.workers.answering import Asked, Said, Server, answering, completion, error, healthy
from workers.engines.fault import FaultEngine
from workers.expand import ExpandOptions
from workers.expander import Expand
from workers.infer import Infer, InferRecipe
from workers.prompt import Part, Rung, build
from workers.sinks.parquet import ParquetSink
from workers.storage.factory import look_up, normalise
from workers.tally import summarise, totals
from workers.text_layer import is_checked

LEASE = "The tenant pays the rent on the first day of each month."
NOTICE = "Notice is given three months before the end of a quarter."
MARKDOWN = f"# **{LEASE}**"
BY_EYE = f"## {LEASE.replace('tenant', 'tyrant').replace('rent', 'remt')}\n"
ERRORS = 3
USED = {"prompt_tokens": 11, "completion_tokens": 2}


@pytest.fixture
def server() -> Iterator[Server]:
    with answering() as server:
        yield server


def is_by_eye(asked: Asked) -> bool:
    return bool(asked.body) and any(
        item["type"] == "image_url" for item in asked.body["messages"][0]["content"]
    )


def reading(eye: Callable[[], Said]) -> Callable[[Asked], Said]:
    """A model that copies a page's text faithfully, and does `eye` before its picture."""

    def script(asked: Asked) -> Said:
        if asked.path.endswith("/models"):
            return healthy(asked)
        return eye() if is_by_eye(asked) else Said(body=completion(MARKDOWN, usage=USED))

    return script


def reads(text: str) -> Callable[[], Said]:
    return lambda: Said(body=completion(text, usage=USED))


def refuses() -> Said:
    return Said(400, error("no"))


def paper(path: Path, *texts: str) -> str:
    with pymupdf.open() as document:
        for text in texts:
            document.new_page().insert_textbox((40, 40, 555, 800), text)
        document.save(path)
    return normalise(str(path))


def planned(
    folder: Path, server: Server | None = None, tasks: Any = ("ocr",), more: Any = None, **expand: Any
) -> Plan:
    options = {"base_url": server.url if server else "http://127.0.0.1:9/v1", "outage_seconds": 0}
    job = {"input": str(folder), "output": str(folder / "out"), "tasks": list(tasks), "expand": expand}
    job |= {"engine": {"kind": "openai", "options": options}}
    return make_plan(make_job(job | (more or {})), None, 0.0)


def outcomes(plan: Plan, *uris: str, kept: list[str] | None = None, during: Any = None) -> pa.Table:
    """Through expand and infer; `during` is handed the stage first."""
    lane, job = plan.lanes[0], plan.job
    infos = [look_up(uri, job.storage) for uri in uris]
    rows = [
        {"document_id": document_id(i.uri), "uri": i.uri, "version": i.version, "size": i.size, "kept": kept}
        for i in infos
    ]
    expand = Expand(job.storage, lane.expand, job.limits, lane.tasks_by_kind)
    infer = Infer(InferRecipe(job.engine.kind, lane.config, lane.asks, plan.schema, plan.run_id, job.limits))
    if during is not None:
        during(infer)

    async def run() -> pa.Table:
        parts = expand(pa.Table.from_pylist(rows, owing_schema(None)))
        return pa.concat_tables([table for part in parts async for table in infer(part)])

    try:
        return asyncio.run(run())
    finally:
        expand.close()
        infer.close()


def told(table: pa.Table) -> Tally:
    tally = Tally()
    tally.add(summarise(table), totals(table))
    return tally


def test_the_sample_is_as_large_as_asked_and_the_same_each_time() -> None:
    pages = [
        (document_id(f"s3://lake/{name}.pdf") + "/v1", page) for name in range(2_500) for page in (0, 1, 2, 3)
    ]
    drawn = {share: {page for page in pages if is_checked(*page, share)} for share in (0, 0.01, 0.3, 1)}
    # Four standard deviations of 10,000 throws.
    assert not drawn[0] and drawn[1] == set(pages)
    assert abs(len(drawn[0.01]) - 100) < 40 and abs(len(drawn[0.3]) - 3_000) < 184
    assert drawn[0.01] < drawn[0.3], "a larger share has the smaller one in it"
    assert drawn[0.3] == {page for page in pages if is_checked(*page, 0.3)}
    other = {page for page in pages if is_checked(page[0].replace("/v1", "/v2"), page[1], 0.3)}
    assert other != drawn[0.3], "another version has lots of its own"


@pytest.mark.parametrize(
    ("pages", "share", "trusted", "drawn", "besides"),
    [
        ("auto", 1, True, False, True),
        ("auto", 0, True, False, False),
        ("text", 1, None, False, False),
        ("image", 1, True, True, False),
        ("image", 0, None, True, False),
    ],
)
def test_which_pages_are_drawn_to_be_read(
    tmp_path: Path, pages: str, share: float, trusted: bool | None, drawn: bool, besides: bool
) -> None:
    uri = paper(tmp_path / "lease.pdf", LEASE)
    plan = planned(tmp_path, pages=pages, checked_share=share)
    lane = plan.lanes[0]
    stage = Expand(plan.job.storage, lane.expand, plan.job.limits, lane.tasks_by_kind)
    rows = [{"document_id": "d", "uri": uri, "version": "", "size": None, "kept": None}]
    try:
        (page,) = pa.concat_tables(stage(pa.Table.from_pylist(rows, owing_schema(None)))).to_pylist()
    finally:
        stage.close()
    assert page["page_text"] == LEASE and page["text_trusted"] is trusted
    assert (bool(page["content"]), bool(page["checked_content"])) == (drawn, besides)
    assert page["shown"] == ("image" if drawn else "text")


def test_a_page_that_is_drawn_is_held_against_its_text_as_evaluate_does(
    tmp_path: Path, server: Server
) -> None:
    server.script = reading(reads(BY_EYE))
    plan = planned(tmp_path, server)
    uri = paper(tmp_path / "lease.pdf", LEASE, "3")
    table = outcomes(plan, uri)
    first, number = table.sort_by("part_index").to_pylist()
    assert first["text"] == BY_EYE.strip() and first["text_layer_cer"] == ERRORS / len(LEASE)
    assert number["text_layer_cer"] is None, "too few letters to tell"
    assert len(server.questions) == 2, "a page that is drawn costs no question more"
    ParquetSink(plan.output, plan.job.storage, {}, None, plan.run_id, plan.metadata).write(table)
    quality = evaluate(plan.output, "text-layer", plan.job)
    (document,) = quality.documents
    assert document.references == 1 and document.scores["cer"] == first["text_layer_cer"]
    assert told(table).held == {
        "ocr": {"pages": 1, "not_read": 0, "errors": ERRORS, "characters": len(LEASE)}
    }


def test_a_page_shown_as_text_is_read_besides_and_answered_from_its_text(
    tmp_path: Path, server: Server
) -> None:
    server.script = reading(reads(BY_EYE))
    uri = paper(tmp_path / "lease.pdf", LEASE)
    table = outcomes(planned(tmp_path, server, ["ocr", "summarize"], pages="auto", checked_share=1), uri)
    rows = {row["task"]: row for row in table.to_pylist()}
    assert rows["ocr"]["text"] == MARKDOWN and rows["ocr"]["shown"] == "text"
    assert rows["ocr"]["text_layer_cer"] == ERRORS / len(LEASE)
    assert rows["summarize"]["text_layer_cer"] is None
    assert len(server.questions) == 3 and sum(map(is_by_eye, server.seen)) == 1
    tally = told(table)
    assert tally.held["ocr"]["errors"] == ERRORS and set(tally.held) == {"ocr"}
    assert tally.tasks["ocr"]["prompt_tokens"] == 2 * tally.tasks["summarize"]["prompt_tokens"] == 22
    assert tally.tasks["ocr"]["answers"] == 1 and rows["ocr"]["prompt_tokens"] == 11


@pytest.mark.parametrize("pages", ["auto", "image"])
def test_what_cannot_be_read_by_eye_is_counted_and_fails_nothing(
    tmp_path: Path, server: Server, pages: str
) -> None:
    server.script = reading(refuses)
    uri = paper(tmp_path / "lease.pdf", LEASE)
    table = outcomes(planned(tmp_path, server, pages=pages, checked_share=1), uri)
    (row,) = table.to_pylist()
    assert row["status"] == "record" and row["text_layer_cer"] is None
    assert row["text"] == (MARKDOWN if pages == "auto" else LEASE)
    assert told(table).held == {"ocr": {"pages": 0, "not_read": 1, "errors": 0, "characters": 0}}


def test_a_picture_that_kills_engines_leaves_the_answer_from_the_text(tmp_path: Path) -> None:
    uri = paper(tmp_path / "lease.pdf", LEASE)
    identity = f"{document_id(uri)}/{look_up(uri, StorageOptions()).version}/0"

    def deadly(plan: Plan, part: str) -> bool:
        lane = plan.lanes[0]
        request = build(lane.asks[0], Part(part, None, LEASE, PartKind.PAGE), Rung(0, 8, 0.0))
        return FaultEngine(lane.config)._meets("die", request)

    engine = {"kind": "fault", "options": {"die": 0.5}}
    plans = (
        planned(tmp_path, more={"engine": engine, "seed": seed}, pages="auto", checked_share=1)
        for seed in range(100)
    )
    plan = next(p for p in plans if deadly(p, f"{identity}/by-eye") and not deadly(p, identity))
    table = outcomes(plan, uri)
    (row,) = table.to_pylist()
    assert row["status"] == "record" and row["text"].endswith("to text") and row["text_layer_cer"] is None
    assert told(table).held["ocr"]["not_read"] == 1


def test_what_the_output_holds_is_not_read_again(tmp_path: Path, server: Server) -> None:
    server.script = reading(reads(BY_EYE))
    uri = paper(tmp_path / "lease.pdf", LEASE, NOTICE)
    table = outcomes(planned(tmp_path, server, pages="auto", checked_share=1), uri, kept=["0/ocr"])
    kept, asked = table.sort_by("part_index").to_pylist()
    assert (kept["status"], kept["text_layer_check"]) == ("kept", None)
    assert asked["text_layer_cer"] is not None and len(server.questions) == 2


def test_a_run_that_is_being_ended_reads_no_more_and_keeps_what_it_has(
    tmp_path: Path, server: Server
) -> None:
    def ends(infer: Infer) -> None:
        def script(asked: Asked) -> Said:
            if asked.body:
                infer._supervisor.draining = True
            return reading(reads(BY_EYE))(asked)

        server.script = script

    uri = paper(tmp_path / "lease.pdf", LEASE)
    table = outcomes(planned(tmp_path, server, pages="auto", checked_share=1), uri, during=ends)
    (row,) = table.to_pylist()
    assert (row["status"], row["text"], row["text_layer_cer"]) == ("record", MARKDOWN, None)
    assert len(server.questions) == 1 and not told(table).held


@pytest.mark.parametrize("pages", list(Pages))
def test_it_changes_no_answer(tmp_path: Path, pages: Pages) -> None:
    shares = [planned(tmp_path, pages=pages, checked_share=share) for share in (0, 0.5, 1)]
    assert len({plan.lanes[0].asks[0].fingerprint for plan in shares}) == 1


def test_only_tasks_that_copy_a_page_have_it_drawn_for_them(tmp_path: Path) -> None:
    shares = {
        tasks: planned(tmp_path, None, tasks, pages="auto").lanes[0].expand.checked_share
        for tasks in (("ocr",), ("summarize",), ("summarize", "ocr"))
    }
    assert shares == {("ocr",): 0.01, ("summarize",): 0, ("summarize", "ocr"): 0.01}
    assert ExpandOptions().checked_share == 0
