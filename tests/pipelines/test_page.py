"""The page of a run: true to its rows, whole in one file, and deaf to what documents would like it to do."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from rich.console import Console

from pipelines.history import POINTS, Recorder
from pipelines.page.facts import Watch
from pipelines.page.histogram import Logarithmic, Shares, Whole
from pipelines.page.make import NAME, make_page, publish_page
from pipelines.page.media import outline, thumbnail
from pipelines.page.model import Distribution, Page
from pipelines.page.render import headline, render
from pipelines.page.sample import Sample
from pipelines.reckoning import Reckoning, Spent
from pipelines.report import Counts
from pipelines.reporting import report
from pipelines.runner import with_page
from pipelines.verdict import Bottleneck
from schemas.errors import CorruptDocument, JobError, PageError
from schemas.ids import digest
from schemas.job import ReportOptions, make_job
from schemas.selection import ONLY, Selection
from schemas.shard import Shard
from tests.flow.test_cli import gemstream
from tests.pipelines.outputs import RUN
from tests.pipelines.pages import HOSTILE, LONG, SECRETS, Ended, ended
from workers.storage import ObjectInfo


class Seen(HTMLParser):
    """The elements of a page, and its words."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return ended(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(run: Ended) -> Page:
    return make_page(run.plan, run.report)


@pytest.fixture(scope="module")
def body(page: Page) -> bytes:
    return render(page)


def test_nothing_of_a_document_is_more_than_text(body: bytes) -> None:
    seen = Seen(body)
    assert {"script", "iframe", "object", "base", "form"}.isdisjoint(tag for tag, _ in seen.elements)
    for tag, attributes in seen.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:image/jpeg;base64,", "data:,")), address
    assert seen.words.count("document.title='owned'") >= 4, "answers, messages and names are there, as text"
    assert not [sign for sign in ("\x00", "\x1b") if sign in body.decode()]
    policy = next(attributes["content"] for _, attributes in seen.elements if "http-equiv" in attributes)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_long_answer_is_cut_and_says_so(page: Page, body: bytes) -> None:
    said = {said.task: said for said in page.gallery[0].answers}
    assert len(said["ocr"].text) + said["ocr"].more == len(HOSTILE) + LONG
    assert f"{said['ocr'].more:,} characters more" in Seen(body).words
    assert len(body) < 200_000


def test_a_part_is_shown_with_all_that_was_said_of_it(page: Page) -> None:
    (piece,) = page.gallery
    assert piece.picture and piece.note is None
    told = {said.task: (said.valid, said.error) for said in piece.answers}
    assert told == {"ocr": (None, None), "translate": (False, None), "classify": (None, "looping")}


def test_only_what_the_run_did_counts(page: Page) -> None:
    facts = page.facts
    assert {name: task.records for name, task in facts.tasks.items()} == {"ocr": 1, "translate": 1}
    assert facts.tasks["translate"].invalid == 1
    assert facts.tasks["ocr"].confidence == Distribution(
        edges=(0.75, 0.8), counts=(1,), total=1, median=0.7505, p95=0.7505, most=0.751
    )
    assert [(group.category, group.rows, len(group.examples)) for group in facts.errors] == [
        ("looping", 1, 1)
    ]
    assert sum(facts.tokens_over_time) == 18


def test_a_document_that_is_gone_or_replaced_leaves_its_answers(tmp_path: Path) -> None:
    run = ended(tmp_path)
    run.document.write_bytes(run.document.read_bytes() + b"more")
    (replaced,) = make_page(run.plan, run.report).gallery
    run.document.unlink()
    (gone,) = make_page(run.plan, run.report).gallery
    assert replaced.note and "replaced" in replaced.note
    assert gone.note and "not to be had any more" in gone.note
    assert [said.task for said in gone.answers] == ["classify", "ocr", "translate"]


def test_without_samples_there_is_no_content_on_the_page(run: Ended) -> None:
    job = run.plan.job.model_copy(update={"report": ReportOptions(gallery=0)})
    page = make_page(replace(run.plan, job=job), run.report)
    assert page.gallery == ()
    seen = Seen(render(page))
    assert "xxxx" not in seen.words and not [tag for tag, _ in seen.elements if tag == "img"]


def test_no_secret_is_on_the_page(run: Ended, page: Page) -> None:
    job = make_job({"input": "s3://a/b", "output": "s3://a/c", "tasks": ["ocr"], **SECRETS})
    assert "hunter2" not in json.dumps(job.public())
    assert json.dumps(job.public()).count("**********") == 3


def test_a_page_that_cannot_be_made_costs_the_run_nothing(tmp_path: Path) -> None:
    run = ended(tmp_path)
    (run.folder / NAME).mkdir()  # where the page is to go
    said = io.StringIO()
    assert with_page(run.plan, run.report, Console(file=said)) == run.report
    assert said.getvalue().count("\n") == 1
    assert "the run has no page: " in said.getvalue() and f"--run {RUN} --html" in said.getvalue()
    with pytest.raises(PageError, match="given up after 0.01 s"):
        publish_page(run.plan, run.report, seconds=0.01)
    (run.folder / NAME).rmdir()
    for file in (run.folder.parent.parent / "records" / "task=ocr").iterdir():
        file.write_bytes(b"no Parquet")
    with pytest.raises(PageError, match="is no Parquet file"):
        publish_page(run.plan, run.report)


def test_a_signal_while_the_page_is_made_ends_the_page_and_not_the_run(run: Ended) -> None:
    before = set(psutil.Process().children())

    def tell() -> None:
        while not set(psutil.Process().children()) - before:
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    telling = threading.Thread(target=tell)
    telling.start()
    said = io.StringIO()
    try:
        assert with_page(run.plan, run.report, Console(file=said)) == run.report
    finally:
        telling.join()
    assert "SIGTERM ended it, when the run was over" in said.getvalue()
    assert not set(psutil.Process().children()) - before


def test_the_command_shows_a_run_again(run: Ended, tmp_path: Path) -> None:
    output = run.report.output
    asked = json.dumps(run.plan.job.public())
    (run.folder / "job.yaml").write_text(asked)
    told = gemstream("report", output, "--json", "--html", str(tmp_path / "page.html"))
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == json.loads(run.report.model_dump_json())
    assert Seen((tmp_path / "page.html").read_bytes()).words.count("owned") >= 4
    text = gemstream("report", f"{output}/_runs/{RUN}")
    assert text.returncode == 0 and "partial" in text.stdout and "looping" in text.stdout
    refused = gemstream("report", output, "--run", "20200101T000000-000000")
    assert refused.returncode == 2 and "it did not come to its end" in refused.stderr
    with pytest.raises(JobError, match="holds no run of Gemstream that came to its end"):
        report(str(tmp_path))


def test_what_it_took_and_what_held_it_up_are_told(page: Page) -> None:
    spent = Spent(
        **{"prompt_tokens": 9, "cached_tokens": 0, "output_tokens": 9, "output_bytes": 4_096},
        **{"engine_seconds": 5.0, "engine_hours": 0.5, "expand_seconds": 1.0, "cpu_hours": 0.25},
        **{"cost": 1.25, "currency": "EUR"},
    )
    held_up = Bottleneck(
        expand={"working": 60.0, "handing": 40.0},
        infer={"full": 75.0, "loading": 25.0},
        occupancy=1.2,
        queued=0.1,
        over_time=((2.0, 1.2, 0.1), (4.0, 1.1, 0.0)),
        sentence="the engines: add engines",
    )
    update = {"reckoning": Reckoning(spent=spent), "bottlenecks": {"vision": held_up}}
    seen = Seen(render(page.model_copy(update={"report": page.report.model_copy(update=update)})))
    for words in (
        *("1.25 EUR", "engines, held", "1,800.0 s", "the engines: add engines"),
        *("Requests in the vision engines", "every place taken 75%", "waits for room behind it 40%"),
    ):
        assert words in seen.words, words
    labels = [attributes.get("aria-label") or "" for _, attributes in seen.elements]
    assert "Requests in the vision engines over their places, over time: 120% on average." in labels


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (Counts(listed=3, ok=3), "All 3 documents are answered in full."),
        (Counts(listed=1_500, ok=1, skipped=1_499), "All 1 document are answered in full."),
        (
            Counts(listed=9, ok=5, partial=2, failed=1, filtered=1),
            "5 of 8 documents are answered in full, 2 partly and 1 failed.",
        ),
        (Counts(), "Nothing to do: no document under the input."),
        (Counts(listed=3, ok=2), "1 documents are unaccounted for: run it again."),
    ],
)
def test_the_verdict_is_one_sentence(run: Ended, counts: Counts, says: str) -> None:
    assert headline(run.report.model_copy(update={"counts": counts})) == says


def test_how_to_run_it_again_is_told_with_its_flags(run: Ended) -> None:
    narrowed = Selection(only=ONLY["failed"] | ONLY["new"], shard=Shard(index=2, count=8))
    page = make_page(run.plan, run.report.model_copy(update={"selection": narrowed}))
    assert page.command == "gemstream run job.yaml --shard 2/8 --only new --only failed"


def test_a_day_of_history_is_as_short_as_an_hour_of_it() -> None:
    recorder = Recorder()
    for tick in range(1, 200_001):
        recorder.add(
            tick / 2, {("expand", "done"): tick, ("infer", "done"): 4 * tick, ("infer", "failed"): 1}, tick, 3
        )
    history = recorder.history()
    assert POINTS / 4 < len(history.seconds) <= POINTS + 1
    assert (history.seconds[-1], history.answered[-1], history.unanswered[-1]) == (100_000.0, 800_000, 1)
    apart = np.diff(history.seconds[:-1])
    assert apart.max() / apart.min() < 2.5
    assert len(history.model_dump_json()) < 40_000


def test_distributions_are_as_if_all_values_were_kept() -> None:
    values = np.random.default_rng(0).lognormal(0, 1.5, 50_000)
    counted = Logarithmic()
    for some in np.split(values, 50):
        counted.add(some)
    found = counted.distribution()
    assert found is not None and found.total == sum(found.counts) == len(values) and len(found.counts) <= 24
    assert found.median == pytest.approx(np.median(values), rel=0.04)
    assert found.p95 == pytest.approx(np.quantile(values, 0.95), rel=0.04)
    assert found.most == pytest.approx(values.max())
    for low, high, count in zip(found.edges[:-1], found.edges[1:], found.counts, strict=True):
        assert count == np.sum((values >= low * (1 + 1e-5)) & (values < high * (1 + 1e-5))), (low, high)


def test_distributions_of_whole_numbers_and_shares() -> None:
    tokens = Whole()
    tokens.add(np.array([3, 3, 3, 5]))
    few = tokens.distribution()
    assert few is not None and (few.edges, few.counts) == ((3, 4, 5, 6), (3, 0, 1))
    assert (few.median, few.p95, few.most) == (3, 5, 5)
    tokens.add(np.array([4_096, 500_000]))
    many = tokens.distribution()
    assert many is not None and many.total == 6 and len(many.counts) <= 24
    assert Shares().distribution() is None
    shares = Shares()
    shares.add(np.array([0.0, 1.0, 1.0]))
    found = shares.distribution()
    assert found is not None and (found.counts[0], found.counts[-1], len(found.counts)) == (1, 2, 20)


def test_reading_ends_in_time_and_says_so() -> None:
    watch, patient = Watch(0.0), Watch(60.0)
    assert list(watch.over(iter(range(5)))) == [0] and watch.cut
    assert list(patient.over(iter(range(5)))) == [0, 1, 2, 3, 4] and not patient.cut


def test_parts_are_drawn_of_every_kind_and_outcome_and_of_many_documents() -> None:
    sample = Sample(12)
    info = ObjectInfo("file:///x", "v", 1)
    for task in ("a", "b"):
        for kind, media in (("page", "application/pdf"), ("image", "image/png"), ("audio", "audio/wav")):
            rows = [
                {
                    **{
                        "document_id": digest(kind, str(document)),
                        "version": "v",
                        "uri": f"{kind}{document}",
                    },
                    **{"part_index": part, "parts_total": 50, "part_kind": kind, "media_type": media},
                    **{"start_seconds": None, "end_seconds": None, "text_source": "model"},
                    "valid": None if part % 10 else False,
                }
                for document in range(20)
                for part in range(50)
            ]
            sample.add(info, task, pa.Table.from_pylist(rows), np.arange(len(rows)))
    chosen = sample.chosen()
    assert len(chosen) == 12 and len({drawn.facts["uri"] for drawn in chosen}) == 12
    kinds = [drawn.facts["part_kind"] for drawn in chosen]
    assert {kinds.count(kind) for kind in ("page", "image", "audio")} == {4}
    assert any(drawn.facts["part_index"] % 10 == 0 for drawn in chosen)
    assert all([place.task for place in drawn.places] == ["a", "b"] for drawn in chosen), (
        "all tasks of a part"
    )
    assert sum(map(len, sample._drawn.values())) <= 12 * 6


def test_pictures_come_from_pictures_alone() -> None:
    for content in (b"", b"<svg onload=alert(1)>", b"\xff\xd8\xff" + b"\x00" * 100, b"GIF89a" + b"\x00" * 50):
        with pytest.raises(CorruptDocument):
            thumbnail(content)


def test_a_wave_is_inside_its_box_whatever_the_samples() -> None:
    nasty = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0], np.float32)
    for samples in (nasty, np.zeros(16_000, np.float32), np.sin(np.arange(5_000, dtype=np.float32))):
        points = outline(samples.tobytes()).strip("MZ").split("L")
        heights = [float(point.partition(",")[2]) for point in points]
        assert all(0 <= height <= 100 for height in heights)
    assert outline(b"") == ""


def test_what_is_there_more_than_once_is_told(page: Page, body: bytes) -> None:
    found = page.report.model_copy(update={"duplicates": 1_234, "near": 56})
    told = render(page.model_copy(update={"report": found})).decode()
    assert "documents with the bytes of others" in told and "56</dd>" in told
    assert b"bytes of others" not in body
