"""`documents/` is made of what the part files hold: the current answers, whatever lies beside them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.assemble import write_group
from pipelines.plan import Plan, make_plan
from schemas.documents import documents_schema
from schemas.job import make_job
from schemas.rows import outcomes_schema
from schemas.storage import StorageOptions
from tests.pipelines.outputs import answer
from workers.sinks import ReceiptKind
from workers.sinks.parquet import ParquetSink


def planned(output: Path, fields: dict[str, Any]) -> Plan:
    tasks = ["ocr", {"task": "extract", "name": "invoice", "fields": fields}]
    job = {"input": str(output), "output": str(output), "tasks": tasks}
    return make_plan(make_job(job), None, 0)


def publish(plan: Plan, rows: list[dict[str, Any]]) -> dict[str | None, list[str]]:
    """Task -> the files that the answers of this plan are in."""
    sink = ParquetSink(plan.output, StorageOptions(), plan.data_types, None, plan.run_id, plan.metadata)
    values = [{**row, "fingerprint": plan.fingerprints[row["task"]][0]} for row in rows]
    receipts = sink.write(pa.Table.from_pylist(values, outcomes_schema(plan.data_types, None)))
    return {each.task: [each.uri] for each in receipts if each.kind is ReceiptKind.RECORDS}


def said(task: str, part: int, **values: Any) -> dict[str, Any]:
    data = {f"data:{task}": values} if values else {}
    return answer("a.pdf", task, None, part, parts_total=2, text="{}", **data)


def test_answers_of_an_earlier_schema_lie_beside_and_are_left_out(tmp_path: Path) -> None:
    before = planned(tmp_path, {"total": "text", "issued": "text"})
    old = publish(before, [said("invoice", part, total="12", issued="May") for part in (0, 1)])
    now = planned(tmp_path, {"issued": "date?", "lines": [{"item": "text"}]})
    rows = [
        said("invoice", 1, issued=date(2024, 5, 1), lines=[{"item": "nut"}]),
        said("invoice", 0, issued=None, lines=[{"item": "bolt"}]),
        *(said("ocr", part) for part in (0, 1)),
    ]
    files = publish(now, rows)
    files["invoice"] += old["invoice"]
    name = f"{rows[0]['document_id']}/v1"
    uri = write_group(now, pa.array([name]), files)
    table = pq.read_table(uri.removeprefix("file://"))
    assert table.schema.remove_metadata() == documents_schema(None, {"invoice": now.data_types["invoice"]})
    [row] = table.to_pylist(maps_as_pydicts="strict")
    assert (row["status"], row["answers"]) == ("ok", 4)
    assert row["data"]["invoice"] == {
        "value": {"issued": date(2024, 5, 1), "lines": [{"item": "bolt"}, {"item": "nut"}]},
        "parts": {"/issued": [1], "/lines/0": [0], "/lines/1": [1]},
        "conflicts": {},
    }


def test_a_job_that_merges_nothing_has_no_such_column(tmp_path: Path) -> None:
    job = {
        "input": "/in",
        "output": str(tmp_path),
        "tasks": ["ocr", {"task": "classify", "labels": ["a", "b"]}],
    }
    plan = make_plan(make_job(job), None, 0)
    uri = write_group(plan, pa.array([], pa.string()), {})
    assert pq.read_schema(uri.removeprefix("file://")).remove_metadata() == documents_schema(None)
