"""outcomes -> one row per document: how many of its answers are settled, and how."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.rows import TEXT_LAYER_CHECK, Shown, Status

TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")
HELD = ("pages", "not_read", "errors", "characters")
"""Of pages held against their text layer, `pages` were read by eye, with `errors` in so many `characters`."""
PARTS = ("records", "asked", "drawn")
"""Of a task's new records about a kind of part: all, those that a model was asked for, and those of them with
a picture or clip shown."""
CHECKS = (*HELD, *(f"check_{name}" for name in (*TOKENS, "seconds")))
TALLY = pa.schema(
    [
        pa.field("document_id", pa.string()),
        pa.field("media_type", pa.string()),
        pa.field("expected", pa.int64()),
        *(pa.field(status.value, pa.int64()) for status in Status),
    ]
)

REDACTED = pa.list_(pa.struct([pa.field("kind", pa.string(), nullable=False), pa.field("count", pa.int32())]))


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
    """What the report counts, as plain numbers: answers, tokens and how pages were read per task, failures
    per category. What was asked to hold a page against its text layer is part of what the task cost."""
    answers = outcomes.filter(
        pc.is_in(outcomes["status"], pa.array([Status.RECORD.value, Status.KEPT.value]))
    )
    off = pc.fill_null(pc.invert(answers["valid"]), False).cast(pa.int64())
    answers = answers.append_column("off", off)
    for name, column in _checks(answers["text_layer_check"]).items():
        answers = answers.append_column(name, column)
    summed = ("settled", "off", *TOKENS, "seconds", *CHECKS)
    per_task = answers.group_by("task").aggregate([(name, "sum") for name in summed])
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
                **{name: _cost(row, name) for name in (*TOKENS, "seconds")},
                **{name: row[f"{name}_sum"] or 0 for name in HELD},
            }
            for row in per_task.to_pylist()
        ],
        "parts": _parts(outcomes),
        "redactions": _redactions(outcomes["redactions"]),
        "statuses": outcomes.group_by(["task", "status"]).aggregate([("settled", "sum")]).to_pylist(),
        "faults": flat.group_by(["status", "stage", "category"]).aggregate([([], "count_all")]).to_pylist(),
    }


def _redactions(column: pa.ChunkedArray) -> list[dict[str, Any]]:
    """What was taken out of texts, by kind."""
    pairs = pc.list_flatten(column.cast(REDACTED))
    flat = pa.table({name: pc.struct_field(pairs, name) for name in ("kind", "count")})
    rows: list[dict[str, Any]] = flat.group_by("kind").aggregate([("count", "sum")]).to_pylist()
    return rows


def _parts(outcomes: pa.Table) -> list[dict[str, Any]]:
    """PARTS by task, part kind, and whether it is about whole documents."""
    records = outcomes.filter(pc.equal(outcomes["status"], Status.RECORD.value))
    asked = pc.is_valid(records["prompt_tokens"])
    drawn = pc.fill_null(pc.not_equal(records["shown"], Shown.TEXT.value), False)
    flat = pa.table(
        {
            "task": records["task"],
            "part_kind": records["part_kind"],
            "whole": pc.is_null(records["part_index"]),
            "records": pa.repeat(pa.scalar(1, pa.int64()), len(records)),
            "asked": asked.cast(pa.int64()),
            "drawn": pc.and_(asked, drawn).cast(pa.int64()),
        }
    )
    grouped = flat.group_by(["task", "part_kind", "whole"]).aggregate([(name, "sum") for name in PARTS])
    rows: list[dict[str, Any]] = grouped.rename_columns({f"{name}_sum": name for name in PARTS}).to_pylist()
    return rows


def _checks(checks: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """CHECKS, of a column of `TEXT_LAYER_CHECK`."""
    flat = {name: pc.struct_field(checks, name) for name in TEXT_LAYER_CHECK.names}
    read = pc.is_valid(flat["errors"])
    return {
        "pages": read.cast(pa.int64()),
        "not_read": pc.and_not(pc.is_valid(checks), read).cast(pa.int64()),
        "errors": flat["errors"],
        "characters": flat["length"],
        **{f"check_{name}": flat[name] for name in (*TOKENS, "seconds")},
    }


def _cost(row: dict[str, Any], name: str) -> Any:
    return (row[f"{name}_sum"] or 0) + (row[f"check_{name}_sum"] or 0)
