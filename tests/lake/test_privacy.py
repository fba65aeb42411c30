"""Nothing below an output shows what a job hides: not in answers, errors, lists, reports or pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pymupdf
import pytest
from rich.console import Console

from schemas.job import JobSpec
from schemas.names import NAMES
from schemas.rows import Shown

MAIL, CARD, PHONE, IBAN = (
    "jo.blyth@example.org",
    "4111 1111 1111 1111",
    "+49 30 123456",
    "GB29NWBK60161331926819",
)
SECRETS = (
    MAIL,
    CARD,
    PHONE,
    IBAN,
    "jo.blyth",
    "Blyth-dossier",
    "Moss-broken",
    "Jo Customer",
    "not to be guessed",
)
KEY = "GEMSTREAM_TEST_KEY"


def letter(folder: Path) -> None:
    """A PDF of two pages that names its writer in every way, and one that does not open."""
    document = pymupdf.open()
    for lines in (
        f"Dear Sir or Madam,\nplease write to {MAIL} or call {PHONE} about the invoice of last month.",
        f"It was paid with the card {CARD}.\nThe rest of the amount goes to {IBAN} within thirty days.",
    ):
        document.new_page().insert_text((72, 72), lines)
    document.set_metadata({"title": f"Letter of {MAIL}"})
    folder.mkdir()
    document.save(folder / "Blyth-dossier.pdf")
    (folder / "Moss-broken.pdf").write_bytes(b"%PDF-1.7 and no more")


def everything_below(folder: Path) -> dict[str, str]:
    """What each file says, Parquet decoded."""
    said = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.suffix == ".parquet":
            table = pq.read_table(file, partitioning=None)
            metadata = {
                key.decode(): value.decode("utf-8", "replace")
                for key, value in (table.schema.metadata or {}).items()
            }
            said[str(file)] = json.dumps([table.to_pylist(), metadata], default=str, ensure_ascii=False)
        else:
            said[str(file)] = file.read_bytes().decode("utf-8", "replace")
    return said


def test_an_output_shows_nothing_of_what_is_hidden(
    ray_cluster: None, fault_job: Callable[..., JobSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.runner import run

    monkeypatch.setenv(KEY, "not to be guessed")
    letter(tmp_path / "in")
    rows = [
        f"{tmp_path}/in/{name},Jo Customer"
        for name in ("Blyth-dossier.pdf", "Moss-broken.pdf", "Moss-broken-gone.pdf")
    ]
    (tmp_path / "list.csv").write_text("\n".join(["uri,customer", *rows]))
    job = fault_job(
        {"loop": 1.0},  # so that the pages' own text stands in for answers
        manifest=str(tmp_path / "list.csv"),
        tasks=["ocr", {"task": "ask", "name": "whose", "prompt": "Whose is $file_name of $customer?"}],
        privacy={
            "redact": "all",
            "language": True,
            "hash_uris": True,
            "hash_columns": "customer",
            "key_env": KEY,
        },
    )
    report = run(job, Console(stderr=True, quiet=True))
    assert (report.counts.partial, report.counts.failed, report.counts.listed) == (1, 2, 3)
    assert report.redactions == {"email": 1, "phone": 1, "credit_card": 1, "iban": 1}

    said = everything_below(tmp_path / "output")
    found = [(file, secret) for file, text in said.items() for secret in SECRETS if secret in text]
    assert not found
    assert any(file.endswith("report.html") for file in said)
    pages = pq.read_table(
        tmp_path / "output" / "records", columns=["text", "language", "redactions"]
    ).to_pylist()
    texts = " ".join(row["text"] for row in pages)
    assert all(f"[{kind}]" in texts for kind in report.redactions)
    assert {row["language"] for row in pages} == {"en"}
    errors = pq.read_table(tmp_path / "output" / "errors").to_pylist()
    assert {row["uri"][:5] for row in errors} == {"hmac:"}
    assert report.exit_code == 0


def test_names_are_asked_for_in_a_run(
    ray_cluster: None, fault_job: Callable[..., JobSpec], tmp_path: Path
) -> None:
    from pipelines.runner import run

    letter(tmp_path / "in")
    where = {"input": str(tmp_path / "in"), "include": "*dossier*"}
    job = fault_job(**where, tasks=["ocr"], privacy={"redact": "name"})
    report = run(job, Console(stderr=True, quiet=True))
    assert (report.counts.ok, report.exit_code) == (1, 0)
    rows = pq.read_table(tmp_path / "output" / "records", columns=["text", "prompt_tokens"]).to_pylist()
    words = len(NAMES.question(Shown.TEXT).split())
    assert rows and all(row["prompt_tokens"] > words and row["text"] for row in rows)
    [facts] = pq.read_table(tmp_path / "output" / "documents", columns=["document_metadata"]).to_pylist()
    assert "format" in json.loads(facts["document_metadata"]) and MAIL not in facts["document_metadata"]
