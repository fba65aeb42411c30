"""Documents with the same bytes are asked about once, and each of them has the answers."""

from __future__ import annotations

import io
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pymupdf
import pytest
from PIL import Image

from deploy.demo.objectstore import ObjectStore
from schemas.job import JobSpec, make_job
from tests.fixtures.runs import GEMMA3, RunJob
from workers.sinks.reading import read_columns


def picture(shade: int) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 90, 90)).save(body, "PNG")
    return body.getvalue()


def pages() -> bytes:
    with pymupdf.open() as document:
        for index in range(3):
            document.new_page(width=200, height=200).insert_text((20, 60), f"page {index}")
        body: bytes = document.tobytes(no_new_id=True)
        return body


@dataclass(frozen=True)
class Place:
    store: ObjectStore
    prefix: str

    def put(self, **documents: bytes) -> None:
        for name, content in documents.items():
            key = f"{self.prefix}/in/{name.replace('_', '.')}"
            self.store.client().put_object(Bucket=self.store.bucket, Key=key, Body=content)

    def job(self, **settings: Any) -> JobSpec:
        values = {
            "input": self.store.url(f"{self.prefix}/in/"),
            "output": self.store.url(f"{self.prefix}/out"),
            "tasks": ["caption"],
            "models": {"vision": str(GEMMA3)},
            "engine": {"kind": "fault"},
            "expand": {"pages": "image"},
            "limits": {"failed_share": 1.0},
            "report": {"page": False},
        }
        return make_job(values | settings)


@pytest.fixture
def place(object_store: ObjectStore, request: pytest.FixtureRequest) -> Place:
    return Place(object_store, f"duplicates/{request.node.name}")


def read(job: JobSpec, folder: str, *columns: str) -> list[dict[str, Any]]:
    return [
        row for rows in read_columns(job.output, job.storage, folder, columns) for row in rows.to_pylist()
    ]


def names(job: JobSpec, folder: str) -> Counter[str]:
    return Counter(row["uri"].rpartition("/")[2] for row in read(job, folder, "uri"))


def test_same_content_is_asked_about_once(run_job: RunJob, place: Place) -> None:
    same, broken, pdf = picture(10), picture(20)[:40], pages()
    place.put(a_png=same, b_png=same, c_png=same, d_png=picture(30))
    place.put(e_png=broken, f_png=broken, g_pdf=pdf, h_pdf=pdf)
    job = place.job()
    report = run_job(job)
    assert report.counts.model_dump() == {
        "listed": 8, "ok": 6, "partial": 0, "failed": 2, "filtered": 0, "skipped": 0,
    }  # fmt: skip
    assert report.duplicates == 4
    assert report.tasks["caption"].answers == 5, "one of the pictures, the fourth, and three pages"
    assert report.unsettled == ()
    records = read(
        job,
        "records/task=caption",
        "uri",
        "part_index",
        "text",
        "document_digest",
        "prompt_tokens",
        "answered_at",
    )
    assert names(job, "records/task=caption") == Counter(
        {"a.png": 1, "b.png": 1, "c.png": 1, "d.png": 1, "g.pdf": 3, "h.pdf": 3}
    )
    said = {(row["document_digest"], row["part_index"]): row["text"] for row in records}
    assert all(said[row["document_digest"], row["part_index"]] == row["text"] for row in records)
    assert sum(row["prompt_tokens"] is not None for row in records) == 5, "what it cost is told once"
    assert names(job, "errors") == Counter({"e.png": 1, "f.png": 1})
    documents = read(job, "documents", "uri", "status", "answers", "document_digest")
    assert len(documents) == 8 and len({row["document_digest"] for row in documents}) == 4

    again = run_job(job)
    assert again.counts.skipped == 6 and again.tasks == {}, "what is broken is looked at again"
    assert again.duplicates == 1

    place.put(i_png=same)
    later = run_job(job)
    assert (later.counts.ok, later.duplicates, later.tasks) == (1, 2, {})
    assert names(job, "records/task=caption")["i.png"] == 1

    more = run_job(place.job(tasks=["caption", "ocr"]))
    paid = [row["prompt_tokens"] for row in read(job, "records/task=ocr", "prompt_tokens")]
    assert len(paid) - paid.count(None) == 5, "copies have answers to something, and are given these"
    assert (more.counts.ok, more.counts.failed, more.unsettled) == (7, 2, ())
    assert names(job, "records/task=ocr") == names(job, "records/task=caption")


@pytest.mark.parametrize("is_there", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_copies_of_what_has_its_parts_are_asked_about_the_whole_alone(
    run_job: RunJob, place: Place, is_there: bool
) -> None:
    """Whether the one that has them is still in the source or not."""
    place.put(g_pdf=pages())
    run_job(place.job(tasks=[{"task": "summarize", "whole": False}]))
    place.put(h_pdf=pages(), i_pdf=pages())
    if not is_there:
        place.store.client().delete_object(Bucket=place.store.bucket, Key=f"{place.prefix}/in/g.pdf")
    job = place.job(tasks=["summarize"])
    report = run_job(job)
    assert (report.tasks["summarize"].answers, report.unsettled) == (1, ())
    assert (report.counts.ok, report.duplicates) == (2 + is_there, 2)
    assert names(job, "records/task=summarize") == Counter({"g.pdf": 3 + is_there, "h.pdf": 4, "i.pdf": 4})
    assert run_job(job).counts.skipped == 2 + is_there


@pytest.mark.thorough
def test_a_job_may_have_each_asked_about(run_job: RunJob, place: Place) -> None:
    place.put(a_png=picture(10), b_png=picture(10))
    report = run_job(place.job(duplicates={"attach": False}))
    assert (report.tasks["caption"].answers, report.duplicates) == (2, 0)


def test_questions_that_name_the_document_are_asked_about_each(run_job: RunJob, place: Place) -> None:
    place.put(a_png=picture(10), b_png=picture(10))
    by_name = {"task": "ask", "prompt": "What is in $file_name?"}
    report = run_job(place.job(tasks=[by_name]))
    assert (report.tasks["ask"].answers, report.duplicates) == (2, 0)


def test_copies_say_of_themselves_what_is_theirs() -> None:
    from pipelines.attach import attached
    from schemas.rows import records_schema
    from workers.sinks.parquet import DUPLICATES

    schema = records_schema(None, None)
    rows = pa.Table.from_pylist(
        [
            {
                "document_id": "o",
                "uri": "o",
                "version": "1",
                "document_digest": "x",
                "text": "one",
                "seconds": 2.0,
            },
            {
                "document_id": "p",
                "uri": "p",
                "version": "1",
                "document_digest": "y",
                "text": "two",
                "seconds": 1.0,
            },
        ],
        schema,
    )
    waiting = [("a", "y"), ("b", "x"), ("c", "y"), ("d", "z")]
    duplicates = pa.Table.from_pylist(
        [
            {"document_id": name, "uri": name, "version": "9", "document_digest": digest}
            for name, digest in waiting
        ],
        DUPLICATES,
    )
    tables = list(attached(rows, duplicates, "run", 2))
    assert [len(table) for table in tables] == [2, 1]
    copies = pa.concat_tables(tables)
    assert copies.schema == schema
    told = {
        (row["uri"], row["version"], row["text"], row["run_id"], row["seconds"]) for row in copies.to_pylist()
    }
    assert told == {
        ("a", "9", "two", "run", None),
        ("b", "9", "one", "run", None),
        ("c", "9", "two", "run", None),
    }


def test_what_is_nearly_the_same_is_grouped(run_job: RunJob, place: Place) -> None:
    from typer.testing import CliRunner

    from pipelines.cli import app

    def shapes(seed: int, side: int) -> bytes:
        rng, image, body = random.Random(seed), Image.new("RGB", (400, 400), "white"), io.BytesIO()
        for _ in range(10):
            left, top = rng.randrange(320), rng.randrange(320)
            image.paste((rng.randrange(200), 40, 90), (left, top, left + 80, top + 70))
        image.resize((side, side)).save(body, "JPEG", quality=60)
        return body.getvalue()

    place.put(a_jpg=shapes(1, 400), b_jpg=shapes(1, 300), c_jpg=shapes(2, 400), d_jpg=shapes(1, 250))
    job = place.job(duplicates={"images": 6}, include=["[abc].jpg"])
    assert run_job(job).near == 1

    def found() -> list[tuple[str, int, list[str]]]:
        groups: dict[tuple[str, str, int], list[str]] = {}
        for row in read(job, "near", "kind", "group_id", "members", "uri"):
            key = (row["kind"], row["group_id"], row["members"])
            groups.setdefault(key, []).append(row["uri"].rpartition("/")[2])
        return sorted((kind, members, uris) for (kind, _, members), uris in groups.items())

    assert found() == [("image", 2, ["a.jpg", "b.jpg"])]
    assert read(job, "documents", "fingerprints") and len(names(job, "records/task=caption")) == 3

    # Whoever comes later joins the group, and asking for it changes no answer that is there.
    assert run_job(place.job(duplicates={"images": 6})).tasks["caption"].answers == 1
    assert found() == [("image", 3, ["a.jpg", "b.jpg", "d.jpg"])]

    told = CliRunner().invoke(app, ["duplicates", job.output, "--images", "0", "--text", "1"])
    assert told.exit_code == 0, told.output
    assert all(members >= 2 for _, members, _ in found())


def test_what_is_the_same_is_grouped(run_job: RunJob, place: Place) -> None:
    from typer.testing import CliRunner

    from pipelines.cli import app

    broken = picture(20)[:40]
    place.put(a_png=picture(10), b_png=picture(10), c_png=picture(11), e_png=broken, f_png=broken)
    job = place.job()
    run_job(job)
    told = CliRunner().invoke(app, ["duplicates", job.output])
    assert told.exit_code == 0, told.output
    assert told.output.count("content, 2 the same:") == 2 and "2 groups, in" in told.output
    groups: dict[str, set[str]] = {}
    for row in read(job, "near", "kind", "group_id", "uri"):
        assert row["kind"] == "content"
        groups.setdefault(row["group_id"], set()).add(row["uri"].rpartition("/")[2])
    assert sorted(map(sorted, groups.values())) == [["a.png", "b.png"], ["e.png", "f.png"]]
