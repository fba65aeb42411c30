"""outcomes -> one row per document: how many of its answers are settled, and how."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.rows import Status

TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")
TALLY = pa.schema(
    [
        pa.field("document_id", pa.string()),
        pa.field("media_type", pa.string()),
        pa.field("expected", pa.int64()),
        *(pa.field(status.value, pa.int64()) for status in Status),
    ]
)


def summarise(outcomes: pa.Table) -> pa.Table:
    """OUTCOMES to TALLY: per document, what it owes in all and what these rows settle."""
    settled = {
        status.value: pc.if_else(pc.equal(outcomes["status"], status.value), outcomes["settled"], 0)
        for status in Status
    }
    facts = {name: outcomes[name] for name in ("document_id", "media_type", "expected")}
    grouped = (
        pa.table({**facts, **settled})
        .group_by("document_id")
        .aggregate([("media_type", "min"), ("expected", "max"), *((name, "sum") for name in settled)])
    )
    columns = {"document_id": grouped["document_id"]}
    columns |= {"media_type": grouped["media_type_min"], "expected": grouped["expected_max"]}
    columns |= {name: grouped[f"{name}_sum"] for name in settled}
    return pa.table({field.name: columns[field.name].cast(field.type) for field in TALLY}, TALLY)


def totals(outcomes: pa.Table) -> dict[str, Any]:
    """What the report counts, as plain numbers: answers and tokens per task, failures per category."""
    answers = outcomes.filter(
        pc.is_in(outcomes["status"], pa.array([Status.RECORD.value, Status.KEPT.value]))
    )
    off = pc.fill_null(pc.invert(answers["valid"]), False).cast(pa.int64())
    per_task = (
        answers.append_column("off", off)
        .group_by("task")
        .aggregate([(name, "sum") for name in ("settled", "off", *TOKENS, "seconds")])
    )
    faults = outcomes.filter(
        pc.is_in(outcomes["status"], pa.array([Status.ERROR.value, Status.FILTERED.value]))
    )
    flat = pa.table(
        {
            "status": faults["status"],
            "stage": pc.struct_field(faults["error"], "stage"),
            "category": pc.struct_field(faults["error"], "category"),
        }
    )
    return {
        "tasks": [
            {
                "task": row["task"],
                "answers": row["settled_sum"],
                "invalid": row["off_sum"] or 0,
                **{name: row[f"{name}_sum"] or 0 for name in TOKENS},
                "seconds": row["seconds_sum"] or 0.0,
            }
            for row in per_task.to_pylist()
        ],
        "faults": flat.group_by(["status", "stage", "category"]).aggregate([([], "count_all")]).to_pylist(),
    }
