"""Holds a run's output against truth.json: `python -m deploy.demo.evaluate demo-output examples`.

What was read stands beside what is true, document by document, with the error rates of the run.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table

from deploy.demo.documents import read_truth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deploy.demo.documents import Truth

PAGE_TASKS = ("ocr", "extract", "caption", "classify")
SHOWN_PARTS = 3
"""Of a document with more, the rest is said in one line."""
LOG_WIDTH = 130


@dataclass(frozen=True)
class Finding:
    """One answer beside the right one, both as text."""

    document: str
    part: int
    task: str
    read: str
    true: str

    @property
    def right(self) -> bool:
        """Whether they are the same."""
        return self.read == self.true


@dataclass(frozen=True)
class Rates:
    """How well a run was read. Shares from 0 to 1; None where there was nothing of the kind."""

    pages: int
    character_errors: float | None
    extract: float | None
    caption: float | None
    classify: float | None
    recordings: int
    digit_errors: float | None
    invented: int
    """Digits heard where nobody spoke."""


def findings(output: Path, truth: Truth, prefix: str) -> list[Finding]:
    """Every answer of a run beside the right one; a missing answer reads as `(no answer)`.

    Args:
        output: a local copy of the run's output.
        truth: what the documents hold.
        prefix: what the documents' URIs begin with, before their names in `truth`.
    """
    read = {task: _read(output, task, prefix) for task in (*PAGE_TASKS, "transcribe")}
    return [finding for name, entry in truth.items() for finding in _document(name, entry, read)]


def rates(found: Iterable[Finding]) -> Rates:
    """The error rates over all documents."""
    import jiwer

    by_task: dict[str, list[Finding]] = {}
    for finding in found:
        by_task.setdefault(finding.task, []).append(finding)
    pages = [finding for finding in by_task.get("ocr", ()) if finding.true]
    speech = by_task.get("transcribe", [])
    spoken = [finding for finding in speech if finding.true]
    return Rates(
        pages=len(pages),
        character_errors=jiwer.cer([f.true for f in pages], [f.read for f in pages]) if pages else None,
        extract=_right(by_task.get("extract")),
        caption=_right(by_task.get("caption")),
        classify=_right(by_task.get("classify")),
        recordings=len(speech),
        digit_errors=jiwer.wer([f.true for f in spoken], [f.read for f in spoken]) if spoken else None,
        invented=sum(len(f.read.split()) for f in speech if not f.true),
    )


def show(found: list[Finding], console: Console) -> None:
    """Prints the documents, then the rates.

    Of a page it shows the fields, of a drawing the caption, and any other answer only where it is wrong.
    """
    table = Table("document", "task", "read", "true", "", box=None, pad_edge=False)
    blank = {(f.document, f.part) for f in found if f.task == "ocr" and not f.true}
    for document in dict.fromkeys(finding.document for finding in found):
        parts = [f for f in found if f.document == document and f.task == _headline(f, blank)]
        for finding in parts[:SHOWN_PARTS]:
            _row(table, finding, len(parts) > 1)
        if rest := parts[SHOWN_PARTS:]:
            table.add_row(document, "", f"and {len(rest)} pages more")
        for finding in found:
            if finding.document == document and not finding.right and finding not in parts[:SHOWN_PARTS]:
                _row(table, finding, len(parts) > 1)
    console.print(table)
    total = rates(found)
    console.print(
        f"{total.pages} pages: {_percent(total.character_errors)} of characters wrong; exactly right: "
        f"{_percent(total.extract)} of extracts, {_percent(total.caption)} of captions, "
        f"{_percent(total.classify)} of labels\n"
        f"{total.recordings} recordings: {_percent(total.digit_errors)} of digits wrong, "
        f"{total.invented} heard where nobody spoke",
        highlight=False,
    )


def console() -> Console:
    """Where the table goes: as wide as the terminal, or wide enough for it in a log."""
    return Console(width=None if sys.stdout.isatty() else LOG_WIDTH)


def _headline(finding: Finding, blank: set[tuple[str, int]]) -> str:
    if finding.task == "transcribe":
        return finding.task
    return "caption" if (finding.document, finding.part) in blank else "extract"


def _row(table: Table, finding: Finding, numbered: bool) -> None:
    name = f"{finding.document}#{finding.part + 1}" if numbered else finding.document
    mark = "[green]=[/]" if finding.right else "[red]differs[/]"
    table.add_row(name, finding.task, _one_line(finding.read), _one_line(finding.true), mark)


def _read(output: Path, task: str, prefix: str) -> dict[str, list[dict[str, Any]]]:
    """Document -> its answers, in the order of its parts."""
    folder = output / "records" / f"task={task}"
    rows: dict[str, list[dict[str, Any]]] = {}
    if folder.is_dir():
        for row in ds.dataset(folder, format="parquet").to_table().sort_by("part_index").to_pylist():
            rows.setdefault(row["uri"].removeprefix(prefix), []).append(row)
    return rows


def _document(
    name: str, entry: dict[str, Any], read: dict[str, dict[str, list[dict[str, Any]]]]
) -> Iterator[Finding]:
    if entry["media"] == "audio":
        rows = read["transcribe"].get(name)
        heard = "(no answer)" if rows is None else digits(" ".join(row["text"] for row in rows))
        yield Finding(name, 0, "transcribe", heard, entry["transcribe"])
    for task in PAGE_TASKS:
        rows_by_part = {row["part_index"]: row for row in read[task].get(name, ())}
        for part, page in enumerate(entry.get("pages", ())):
            row = rows_by_part.get(part)
            yield Finding(name, part, task, _said(row, task), _spelled(page[task]))


def digits(text: str) -> str:
    """The digits of a transcript, with one space between them, as truth has them."""
    return " ".join(re.findall(r"\d", text))


def _said(row: dict[str, Any] | None, task: str) -> str:
    if row is None:
        return "(no answer)"
    return _spelled(row["data"]) if task == "extract" else row["text"]


def _spelled(value: Any) -> str:
    """Fields as one text that two spellings of a value share: 12.5 and 12.500000000 are one amount."""
    if isinstance(value, str):
        return value
    total = value["total"] and Decimal(value["total"]).quantize(Decimal("0.01"))
    fields = (value["kind"], value["number"], value["date"], total)
    return ", ".join("-" if field is None else str(field) for field in fields)


def _right(found: list[Finding] | None) -> float | None:
    return sum(finding.right for finding in found) / len(found) if found else None


def _one_line(text: str) -> str:
    return " / ".join(text.splitlines()) or "(nothing)"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def main(arguments: list[str] | None = None) -> int:
    """Command line: prints the table of a run that is done."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.evaluate", description=__doc__)
    parser.add_argument("output", type=Path, help="local copy of a run's output")
    parser.add_argument("documents", type=Path, help="folder with truth.json")
    parser.add_argument("--prefix", required=True, help="what the documents' URIs begin with")
    options = parser.parse_args(arguments)
    found = findings(options.output, read_truth(options.documents), options.prefix)
    show(found, console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
