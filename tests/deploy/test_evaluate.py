"""The demo's own judge: what is right counts as right, what is wrong or missing as wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.demo.evaluate import Finding, console, findings, rates, show

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = {"date": "2024-02-29", "kind": "invoice", "number": "1234", "total": "12.50"}
"""In the order of truth.json, which is not that of the columns."""
TRUTH: dict[str, dict[str, Any]] = {
    "a.pdf": {
        "media": "pdf",
        "pages": [{"ocr": "INVOICE", "extract": FIELDS, "caption": "an invoice", "classify": "invoice"}],
    },
    "b.wav": {"media": "audio", "transcribe": "1 2 3"},
    "quiet.wav": {"media": "audio", "transcribe": ""},
    "broken": {"media": "broken"},
}


def _write(folder: Path, task: str, rows: list[dict[str, Any]]) -> None:
    place = folder / "records" / f"task={task}"
    place.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), place / "part-0.parquet")


def _row(name: str, text: str, part: int = 0, **more: Any) -> dict[str, Any]:
    return {"uri": f"s3://lake/{name}", "part_index": part, "text": text, **more}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run that was right about everything, its values typed as the sink types them."""
    data = {
        "kind": "invoice",
        "number": "1234",
        "date": date(2024, 2, 29),
        "total": Decimal("12.500000000"),
    }
    _write(tmp_path, "ocr", [_row("a.pdf", "INVOICE")])
    _write(tmp_path, "extract", [_row("a.pdf", "{}", data=data)])
    _write(tmp_path, "caption", [_row("a.pdf", "an invoice")])
    _write(tmp_path, "classify", [_row("a.pdf", "invoice")])
    # Written out of order, as an engine answers.
    spoken = [_row("b.wav", "3", 1), _row("b.wav", "1 2", 0), _row("quiet.wav", "")]
    _write(tmp_path, "transcribe", spoken)
    return tmp_path


def test_right_is_right(output: Path) -> None:
    found = findings(output, TRUTH, "s3://lake/")
    assert [finding for finding in found if not finding.right] == []
    total = rates(found)
    assert (total.pages, total.recordings, total.invented) == (1, 2, 0)
    assert (total.character_errors, total.digit_errors) == (0, 0)
    assert (total.extract, total.caption, total.classify) == (1, 1, 1)


@pytest.mark.parametrize(
    ("document", "task", "read", "rate", "value"),
    [
        ("a.pdf", "ocr", "INVOIC", "character_errors", 1 / 7),
        ("a.pdf", "extract", "invoice, 1234, 2024-02-29, -", "extract", 0),
        ("a.pdf", "caption", "a receipt", "caption", 0),
        ("a.pdf", "classify", "(no answer)", "classify", 0),
        ("b.wav", "transcribe", "1 3", "digit_errors", 1 / 3),
        ("quiet.wav", "transcribe", "7 7", "invented", 2),
    ],
)
def test_wrong_is_wrong(output: Path, document: str, task: str, read: str, rate: str, value: float) -> None:
    found = [
        replace(finding, read=read) if (finding.document, finding.task) == (document, task) else finding
        for finding in findings(output, TRUTH, "s3://lake/")
    ]
    assert getattr(rates(found), rate) == pytest.approx(value)


def test_what_is_missing_is_wrong(tmp_path: Path) -> None:
    found = findings(tmp_path, TRUTH, "s3://lake/")
    assert {finding.read for finding in found} == {"(no answer)"}
    assert rates(found).extract == 0


def test_the_table_names_every_document_and_what_was_misread(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Finding("a.pdf", 0, "caption", "a red circle", "an invoice")
    found = [
        wrong if finding.task == "caption" else finding for finding in findings(output, TRUTH, "s3://lake/")
    ]
    show(found, console())
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("a.pdf", "b.wav", "quiet.wav", "a red circle", "differs"))
    assert "0.0% of captions" in printed and "100.0% of labels" in printed
