"""Files of references: whoever writes them, the same values come out; what makes no sense is told by row."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.evaluate import evaluate
from pipelines.quality import Quality
from schemas.errors import JobError
from schemas.job import make_job
from tests.pipelines.outputs import FIRST, answer, write
from workers.storage.factory import normalise

JOB = make_job({"input": ".", "output": ".", "tasks": ["ocr"]})
PAGE = 'two\nlines, "quoted"; 100 % & more'
ROWS: list[dict[str, Any]] = [
    {"uri": "a b%20.pdf", "part_index": 0, "text": PAGE, "number": "017", "total": 12.5, "note": "x"},
    {"uri": "c.pdf", "part_index": None, "text": "", "number": None, "total": None, "note": None},
]
"""A page, and a document as a whole; the second has nothing on it."""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    empty = dict.fromkeys(FIRST)
    rows = [
        answer("a b%20.pdf", "ocr", PAGE),
        answer("a b%20.pdf", "invoices", FIRST | {"number": "017"}),
        answer("c.pdf", "ocr", ""),
        answer("c.pdf", "invoices", empty),
        answer("deep/c2.pdf", "classify", "invoice", parts_total=2),
        answer("deep/c2.pdf", "classify", "letter", 1, parts_total=2),
        answer("one/x.pdf", "classify", "invoice"),
        answer("two/x.pdf", "classify", "invoice"),
    ]
    return write(normalise(str(tmp_path_factory.mktemp("output"))), rows)


def by_csv(path: Path) -> Path:
    with (path := path.with_suffix(".csv")).open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def by_jsonl(path: Path) -> Path:
    (path := path.with_suffix(".jsonl")).write_text("\n\n".join(json.dumps(row) for row in ROWS))
    return path


def by_arrow(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), path := path.with_suffix(".parquet"))
    return path


def by_pandas_csv(path: Path) -> Path:
    """Its part_index is a float, as one of them is missing."""
    pd.DataFrame(ROWS).to_csv(path := path.with_suffix(".csv"), index=False)
    return path


def by_pandas_parquet(path: Path) -> Path:
    pd.DataFrame(ROWS).to_parquet(path := path.with_suffix(".parquet"))
    return path


def by_pandas_jsonl(path: Path) -> Path:
    pd.DataFrame(ROWS).to_json(path := path.with_suffix(".jsonl"), orient="records", lines=True)
    return path


def by_duckdb(path: Path, ending: str) -> Path:
    path = path.with_suffix(ending)
    with duckdb.connect() as connection:
        connection.register("rows", pa.Table.from_pylist(ROWS))
        connection.sql(f"COPY rows TO '{path}'")
    return path


WRITERS = {writer.__name__: writer for writer in (by_csv, by_jsonl, by_arrow)}
WRITERS |= {writer.__name__: writer for writer in (by_pandas_csv, by_pandas_parquet, by_pandas_jsonl)}
WRITERS |= {
    f"by_duckdb{ending}": lambda path, e=ending: by_duckdb(path, e) for ending in (".csv", ".parquet")
}


def judge(output: str, path: Path, *tasks: str) -> Quality:
    return evaluate(output, str(path), JOB, tasks=tasks)


@pytest.mark.parametrize("writer", WRITERS)
def test_whoever_writes_them_the_same_values_come_out(output: str, tmp_path: Path, writer: str) -> None:
    quality = judge(output, WRITERS[writer](tmp_path / "of all.truth"))
    assert quality.unused == ("note",)
    assert {name: (task.references, task.missing) for name, task in quality.tasks.items()} == {
        "ocr": (2, 0),
        "invoices": (2, 0),
    }
    assert quality.tasks["ocr"].scores == {"cer": 0.0, "wer": 0.0}
    # By columns: of the fields, only these two are compared.
    assert quality.tasks["invoices"].scores == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert set(quality.tasks["invoices"].details) == {"number", "total"}


@pytest.mark.parametrize(
    "data",
    [
        FIRST | {"number": "017"},
        FIRST
        | {
            "number": " 017 ",
            "issued": "2024-02-29",
            "total": "12.50",
            "paid": "true",
            "vendor": '{"name": "Tea  & Co", "floors": 2.0}',
            "lines": [{"price": 10, "item": "milk"}, {"item": "tea", "price": "2.5"}],
        },
    ],
    ids=["typed", "spelled otherwise"],
)
def test_a_whole_object_is_right_however_it_is_spelled(output: str, tmp_path: Path, data: Any) -> None:
    row = {"uri": "a b%20.pdf", "task": "invoices", "data": data}
    (tmp_path / "truth.jsonl").write_text(json.dumps(row, default=str))
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["uri", "data"], [row["uri"], json.dumps(data, default=str)]])
    (tmp_path / "truth.csv").write_text(buffer.getvalue())
    for name in ("truth.jsonl", "truth.csv"):
        assert judge(output, tmp_path / name).tasks["invoices"].scores["f1"] == 1


def test_rows_about_tasks_that_were_not_asked_for_are_passed_over(output: str, tmp_path: Path) -> None:
    rows = "uri,task,text,label\nc.pdf,ocr,,\none/x.pdf,classify,,invoice\n"
    (tmp_path / "truth.csv").write_text(rows)
    assert set(judge(output, tmp_path / "truth.csv", "classify").tasks) == {"classify"}
    assert set(judge(output, tmp_path / "truth.csv").tasks) == {"classify", "ocr"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("truth.xlsx", b"PK", [".csv", ".jsonl", ".parquet"]),
        ("truth.csv", b"", ["no row"]),
        ("truth.csv", b"uri,text\n", ["no row"]),
        ("truth.csv", b"uri;text\na.pdf;x\n", ["no column 'uri'", "'uri;text'"]),
        ("truth.csv", b"uri,text,text\na.pdf,x,y\n", ["two columns", "'text'"]),
        ("truth.csv", b"uri,text\na.pdf,x,y\n", ["Expected 2 columns, got 3"]),
        ("truth.csv", b"uri,text\nc.pdf,\xff\n", ["utf-8"]),
        ("truth.csv", b"uri,text\nc.pdf,a\n,b\n", ["row 2", "uri"]),
        ("truth.csv", b"uri,part_index,text\nc.pdf,-1,a\n", ["row 1", "part_index", "'-1'"]),
        ("truth.csv", b"uri,part_index,text\nc.pdf,1.5,a\n", ["part_index"]),
        ("truth.csv", b"uri,task,text\nc.pdf,orc,a\n", ["row 1", "'orc'", "did you mean 'ocr'"]),
        ("truth.csv", b"uri,task,text\nc.pdf,classify,a\n", ["row 1", "'label'", "classify"]),
        ("truth.csv", b"uri,remark\nc.pdf,a\n", ["row 1", "data or label or text"]),
        ("truth.csv", b"uri,text\nc.pdf,a\nc.pdf,a\n", ["rows 1 and 2", "c.pdf"]),
        (
            "truth.csv",
            b"uri,part_index,text\nc.pdf,0,a\nc.pdf,,a\n",
            ["rows 1 and 2", "as a whole and in parts"],
        ),
        ("truth.csv", b"uri,text\nnever.pdf,a\nnor.pdf,b\n", ["'never.pdf'", "s3://lake/inbox/"]),
        ("truth.csv", b"uri,label\nx.pdf,invoice\n", ["2 documents", "one/x.pdf", "two/x.pdf"]),
        ("truth.csv", b"uri,label\nc2.pdf,invoice\n", ["row 1", "part_index"]),
        ("truth.csv", b"uri,total\nc.pdf,twelve\n", ["row 1", "total", "'twelve'", "decimal"]),
        ("truth.csv", b"uri,data\nc.pdf,{\n", ["row 1", "data is no JSON"]),
        ("truth.jsonl", b"{}\n{", ["line 2"]),
        ("truth.jsonl", b"[]", ["line 1", "object"]),
        ("truth.jsonl", b'{"uri": "c.pdf", "text": 5}', ["row 1", "5"]),
        ("truth.jsonl", b'{"uri": NaN, "text": "a"}', ["row 1", "uri", "nan"]),
        ("truth.jsonl", b'{"uri": "c.pdf", "text": NaN}', ["row 1", "text"]),
        (
            "truth.jsonl",
            b'{"uri": "c.pdf", "data": {"totl": 1}}',
            ["row 1", "'totl'", "did you mean 'total'"],
        ),
        (
            "truth.jsonl",
            b'{"uri": "c.pdf", "data": {"vendor": {"nam": 1}}}',
            ["vendor", "did you mean 'name'"],
        ),
        ("truth.jsonl", b'{"uri": "c.pdf", "data": {"lines": 3}}', ["lines", "list"]),
        ("truth.jsonl", b'{"uri": "c.pdf", "vendor": {}, "vendor.name": "x"}', ["vendor.name", "twice"]),
        ("truth.parquet", b"PAR1", ["references"]),
    ],
)
def test_what_makes_no_sense_is_told(
    output: str, tmp_path: Path, name: str, content: bytes, words: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(JobError) as refused:
        judge(output, tmp_path / name)
    assert [word for word in words if word not in refused.value.message] == [], refused.value.message


def test_no_file_and_no_output(output: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"nowhere\.csv"):
        judge(output, tmp_path / "nowhere.csv")
    (tmp_path / "truth.csv").write_text("uri,text\na.pdf,x\n")
    with pytest.raises(JobError, match="holds no records"):
        judge(str(tmp_path), tmp_path / "truth.csv")


def test_two_tasks_of_one_kind_must_be_told_apart(tmp_path: Path) -> None:
    rows = [answer("a.pdf", "ocr", "x"), answer("a.pdf", "translate", "y")]
    output = write(normalise(str(tmp_path / "out")), rows)
    (tmp_path / "truth.csv").write_text("uri,text\na.pdf,x\n")
    with pytest.raises(JobError, match="ocr or translate"):
        judge(output, tmp_path / "truth.csv")
    assert judge(output, tmp_path / "truth.csv", "ocr").tasks["ocr"].scores["cer"] == 0
