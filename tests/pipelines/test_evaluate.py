"""`gemstream evaluate`: every reference is counted once, what is missing is wrong, and bad files are told."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.evaluate import evaluate
from pipelines.quality import Quality, save
from schemas.errors import JobError
from schemas.job import JobSpec, make_job
from schemas.storage import StorageOptions
from tests.pipelines.outputs import FIRST, RUN, answer, write
from tests.workers.places import Place, place
from workers.storage.factory import join, look_up, normalise

__all__ = ["place"]

ANSWERS = [
    answer("a.pdf", "ocr", "# Invoice 17\n\n- tea", parts_total=2),
    answer("a.pdf", "ocr", "thank you", 1, parts_total=2),
    answer("b.pdf", "ocr", "Invoice 18"),
    answer("c d.pdf", "ocr", "unasked"),
    answer("a.pdf", "classify", "invoice"),
    answer("b.pdf", "classify", "receipt"),
    answer("a.pdf", "invoices", FIRST),
    answer("b.wav", "transcribe", "Good", parts_total=2, start_seconds=0.0, end_seconds=20.0),
    answer("b.wav", "transcribe", "morning", 1, parts_total=2, start_seconds=20.0, end_seconds=22.0),
]
WANTED: list[dict[str, Any]] = [
    {"uri": "a.pdf", "part_index": 0, "task": "ocr", "text": "Invoice 17\ntea"},
    {"uri": "s3://lake/inbox/b.pdf", "part_index": 0, "task": "ocr", "text": "Invoice 19"},
    {"uri": "inbox/c d.pdf", "part_index": 7, "task": "ocr", "text": "nobody read this"},
    {"uri": "elsewhere.pdf", "part_index": 0, "task": "ocr", "text": "nor this"},
    {"uri": "a.pdf", "task": "classify", "label": "invoice"},
    {"uri": "b.pdf", "task": "classify", "label": "invoice"},
    {"uri": "a.pdf", "task": "invoices", "data": {"number": "17", "total": "12.5", "paid": True}},
    {"uri": "b.wav", "task": "transcribe", "text": "Good morning"},
]
OPTIONS = StorageOptions()


def job(options: StorageOptions | None = None, **settings: Any) -> JobSpec:
    storage = (options or StorageOptions()).model_dump()
    return make_job({"input": ".", "output": ".", "tasks": ["ocr"], "storage": storage, **settings})


def judge(output: str, references: str, options: StorageOptions | None = None, **more: Any) -> Quality:
    return evaluate(output, references, job(options), **more)


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(normalise(str(tmp_path_factory.mktemp("output"))), ANSWERS)


def test_an_output_beside_its_references(place: Place) -> None:
    output = write(join(place.root, "out"), ANSWERS, place.options)
    quality = judge(output, place.put("truth.jsonl", jsonl(WANTED)), place.options)
    ocr = quality.tasks["ocr"]
    assert (ocr.documents, ocr.references, ocr.missing, ocr.unreferenced) == (4, 4, 2, 2)
    lengths = [len("Invoice 17 tea"), len("Invoice 19"), len("nobody read this"), len("nor this")]
    assert ocr.scores["cer"] == pytest.approx((1 + lengths[2] + lengths[3]) / sum(lengths))
    assert ocr.scores["wer"] == pytest.approx((1 + 3 + 2) / (3 + 2 + 3 + 2))
    assert quality.tasks["classify"].scores == {"accuracy": 0.5}
    assert quality.tasks["transcribe"].scores == {"cer": 0.0, "wer": 0.0}
    fields = quality.tasks["invoices"]
    assert fields.kind == "extract", "a job may name a task as it likes"
    # In `data`, what is not there is null: the date, the vendor and the lines were made up.
    assert fields.scores["recall"] == 1 and fields.scores["precision"] == pytest.approx(3 / 10)
    assert fields.details["number"]["f1"] == 1 and fields.details["vendor.name"]["f1"] == 0
    assert quality.unknown == ("elsewhere.pdf",)
    worst = [document for document in quality.documents if document.task == "ocr"]
    assert [document.scores["cer"] for document in worst] == [1.0, 1.0, pytest.approx(0.1), 0.0]
    assert worst[-1].uri == "s3://lake/inbox/a.pdf"
    kept = save(quality, place.options)
    assert kept == join(output, f"_runs/{RUN}/quality.json")
    assert Quality.model_validate_json(place.storage.read(kept)) == quality


def test_a_document_as_a_whole(output: str, tmp_path: Path) -> None:
    whole = [{"uri": "a.pdf", "text": "Invoice 17 tea thank you"}, {"uri": "b.pdf", "text": "Invoice 18"}]
    (tmp_path / "truth.jsonl").write_bytes(jsonl(whole))
    quality = judge(output, str(tmp_path / "truth.jsonl"), tasks=["ocr"])
    assert quality.tasks["ocr"].scores == {"cer": 0.0, "wer": 0.0}
    assert (quality.tasks["ocr"].missing, quality.tasks["ocr"].unreferenced) == (0, 1)


def test_of_two_answers_the_later_counts(tmp_path: Path) -> None:
    later = datetime(2026, 1, 2, tzinfo=UTC)
    rows = [
        answer("a.pdf", "ocr", "wrong", fingerprint="0"),
        answer("a.pdf", "ocr", "right", answered_at=later),
        answer("a.pdf", "ocr", "wrong", fingerprint="z"),
    ]
    output = write(normalise(str(tmp_path / "out")), rows)
    (tmp_path / "truth.jsonl").write_bytes(jsonl([{"uri": "a.pdf", "part_index": 0, "text": "right"}]))
    quality = judge(output, str(tmp_path / "truth.jsonl"))
    assert quality.tasks["ocr"].scores["cer"] == 0 and quality.tasks["ocr"].unreferenced == 0


@settings(max_examples=20)
@given(st.permutations(WANTED))
def test_the_order_of_rows_is_nothing(
    output: str, tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("order") / "truth.jsonl"
    path.write_bytes(jsonl(WANTED))
    first = judge(output, str(path))
    path.write_bytes(jsonl(rows))
    again = judge(output, str(path))
    assert again.tasks == first.tasks and again.documents == first.documents


def page(path: Path, *texts: str) -> str:
    """A PDF with a page for each text; an empty one stands for a scan."""
    with pymupdf.open() as document:
        for text in texts:
            sheet = document.new_page()
            if text:
                sheet.insert_text((72, 72), text)
            else:
                sheet.draw_rect((72, 72, 200, 200), fill=(0, 0, 0))
        document.save(path)
    return normalise(str(path))


def test_pages_are_held_against_their_own_text(tmp_path: Path) -> None:
    """What is drawn and what is read meet in the characters alone, whatever marks the model put there."""
    lines = "Minutes of the board\n1. Tea is bought\n2. Milk is not"
    read = page(tmp_path / "read well.pdf", lines, "", "3", lines)
    off = page(tmp_path / "off.pdf", "The quick brown fox jumps")
    changed, gone = page(tmp_path / "changed.pdf", lines), page(tmp_path / "gone.pdf", lines)
    markdown = "# Minutes of the **board**\n\n1. Tea is bought\n2. Milk is not\n"

    def told(uri: str, text: str, part: int = 0, **more: Any) -> dict[str, Any]:
        return answer(uri, "ocr", text, part, **{"version": look_up(uri, OPTIONS).version} | more)

    rows = [
        *(told(read, markdown, part) for part in range(3)),
        told(read, lines, 3, text_source="text_layer"),
        told(off, "The quick brown fax jumps"),
        told(changed, markdown, version="another"),
        told(gone, markdown),
    ]
    output = write(normalise(str(tmp_path / "out")), rows)
    (tmp_path / "gone.pdf").unlink()
    quality = judge(output, "text-layer")
    ocr = quality.tasks["ocr"]
    assert (ocr.references, ocr.missing, ocr.unreferenced) == (2, 0, 5)
    assert [(document.uri, document.scores["cer"]) for document in quality.documents] == [
        (off, pytest.approx(1 / 25)),
        (read, 0.0),
    ]
    reasons = dict(quality.left_out)
    assert [reason for reason in reasons if reason.startswith("missing: ")], reasons
    assert sum(reasons.values()) == 5
    assert set(reasons) >= {
        "it has no text layer",
        "its text layer is too short, no text, or a scanner's",
        "the answer was made from the text layer",
        "the document has changed since it was read",
    }


def test_a_sample_is_of_documents_to_open(output: str, tmp_path: Path) -> None:
    uris = [page(tmp_path / f"{name}.pdf", "Minutes of the board", "The next page of them") for name in "abc"]
    rows = [answer(uri, "ocr", "Minutes of the board", version=look_up(uri, OPTIONS).version) for uri in uris]
    read = write(normalise(str(tmp_path / "out")), rows)
    quality = judge(read, "text-layer", sample=2)
    assert len(quality.documents) == 2 and quality.tasks["ocr"].unreferenced == 1
    # A page that has no answer is missing, like any other.
    assert quality.tasks["ocr"].missing == 2
    assert judge(read, "text-layer", sample=2) == quality
    (tmp_path / "truth.jsonl").write_bytes(jsonl(WANTED))
    with pytest.raises(JobError, match="text-layer"):
        judge(output, str(tmp_path / "truth.jsonl"), sample=3)


def gemstream(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "evaluate", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_command(tmp_path: Path) -> None:
    output = write(normalise(str(tmp_path / "out")), ANSWERS)
    truth = tmp_path / "truth.jsonl"
    truth.write_bytes(jsonl(WANTED))
    flags = [output, "--references", str(truth), "--json"]
    done = gemstream(*flags, "--at-least", "invoices.recall=1", "--at-most", "transcribe.wer=0", "--save")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == json.loads((tmp_path / "out" / "_runs" / RUN / "quality.json").read_text())
    assert told["tasks"]["ocr"]["missing"] == 2
    low = gemstream(*flags, "--at-least", "invoices.f1=0.9", "--at-most", "ocr.cer=0.1")
    assert low.returncode == 3 and json.loads(low.stdout) == told
    assert "invoices.f1" in low.stderr and "ocr.cer" in low.stderr
    shown = gemstream(*flags[:-1])
    assert shown.returncode == 0
    for words in (
        "s3://lake/inbox/b.pdf ocr: cer 0.1000",
        "'elsewhere.pdf'",
        "1 of 1 missing",
        "vendor.name",
    ):
        assert words in shown.stdout, shown.stdout


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--at-most", "ocr.f1=1"], ["ocr.f1=1", "ocr.cer"]),
        (["--at-least", "ocr.cer"], ["task.score=0.95"]),
        (["--task", "orc"], ["'orc'", "did you mean 'ocr'"]),
        (["--save", "--run", "yesterday"], ["no run yesterday"]),
        (["--references", "text-layer"], ["text layer", "lake"]),
    ],
)
def test_a_wrong_flag_is_told(output: str, tmp_path: Path, flags: list[str], words: list[str]) -> None:
    (tmp_path / "truth.jsonl").write_bytes(jsonl(WANTED))
    # Nothing is asked of the lake's own store: there is none where it would be.
    away = ["--set", "storage.endpoint_url=http://127.0.0.1:9", "--set", "storage.outage_seconds=0"]
    done = gemstream(output, "--references", str(tmp_path / "truth.jsonl"), *away, *flags)
    assert done.returncode == 2, done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_library_names_the_extra(tmp_path: Path) -> None:
    output = write(normalise(str(tmp_path / "out")), [answer("a.pdf", "translate", "Rechnung 17")])
    (tmp_path / "truth.jsonl").write_bytes(jsonl([{"uri": "a.pdf", "part_index": 0, "text": "Rechnung"}]))
    code = "import sys; sys.modules['sacrebleu'] = None; from pipelines.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", output, "--references", str(tmp_path / "truth.jsonl")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "gemstream[evaluate]" in done.stderr and "sacrebleu" in done.stderr
