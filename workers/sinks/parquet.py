"""Parquet files in folders that DuckDB, pandas, Spark and Ray read as they are.

`records/task=<name>/part-<hash>.parquet` (one schema per task), `errors/part-<hash>.parquet` and
`_runs/<run_id>/filtered/part-<hash>.parquet`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import JobError
from schemas.ids import digest
from schemas.rows import ERROR, ERRORS, IDENTITY, Status, data_column, records_schema, with_attributes
from workers.sinks import Receipt, ReceiptKind
from workers.storage.factory import join, normalise, open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.storage import StorageOptions

METADATA_KEY = b"gemstream"
"""Under it, in a file's key-value metadata, the job's facts as JSON."""

ZSTD_LEVEL = 3
"""3.6 MB of prose in 2,000 answers: 1.25 MB at level 1, 0.83 at 3, and 0.76 at 6, in twice the time."""

GROUP_BYTES = 64 * 1024 * 1024
"""Uncompressed bytes of a row group: what a reader holds at least per thread."""

RECORD_KEY = ("document_id", "version", "part_index", "task", "fingerprint")
ERROR_KEY = ("document_id", "version", "part_index", "task", "stage", "category", "run_id")
FILTERED_KEY = ("document_id", "version")
FILTERED_FOLDER = "filtered"
"""Below the folder of the run that had nothing to ask about them."""

FILTERED = pa.schema(
    [
        *IDENTITY,
        pa.field("media_type", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
    ]
)
"""A document that nothing in the job asks about, and why."""

DUPLICATES = pa.schema(
    [*IDENTITY, pa.field("media_type", pa.string()), pa.field("document_digest", pa.string())]
)
"""A document that waits for the answers of another with the same bytes."""

_TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ParquetSink:
    """Splits outcomes by status and task; each share becomes one file, published in one step."""

    def __init__(
        self,
        output: str,
        storage_options: StorageOptions,
        data_types: Mapping[str, pa.DataType],
        attributes: pa.DataType | None,
        run_id: str,
        metadata: Mapping[str, str],
    ) -> None:
        """Says where and what to write; nothing is opened yet.

        Args:
            output: the folder or prefix of the job's output.
            storage_options: how to reach it.
            data_types: the type of the `data` column, for each task that has one.
            attributes: the type of a manifest's own columns, if there is a manifest with any.
            run_id: names the folder of this run.
            metadata: facts of the job for every file's footer, its fingerprint among them.

        Raises:
            JobError: a task's name that cannot be a folder's.
        """
        for task in data_types:
            _refuse_odd_name(task)
        self.output = normalise(output)
        self.storage = open_storage(self.output, storage_options)
        self.data_types = dict(data_types)
        self.attributes = attributes
        self.run_id = run_id
        self.footer = footer(metadata)

    def write(self, outcomes: pa.Table) -> list[Receipt]:
        """One file per task with records, and one each of errors, of duplicates, of what was filtered.

        Writing the same rows again replaces what the first write left: a retry doubles nothing.

        Raises:
            GemstreamError: what `Storage.publish` raises. Some of the files may be in place.
        """
        receipts = [
            self._publish(rows, RECORD_KEY, f"records/task={task}", ReceiptKind.RECORDS, task)
            for task, rows in self._records(_with_status(outcomes, Status.RECORD))
        ]
        failed = _with_status(outcomes, Status.ERROR)
        if failed.num_rows:
            rows = _conform(_flat_errors(failed), with_attributes(ERRORS, self.attributes))
            receipts.append(self._publish(rows, ERROR_KEY, "errors", ReceiptKind.ERRORS))
        duplicate = _with_status(outcomes, Status.DUPLICATE)
        if duplicate.num_rows:
            receipts.append(self.write_duplicates(duplicate))
        filtered = _with_status(outcomes, Status.FILTERED)
        if filtered.num_rows:
            rows = _conform(_reasons(filtered), FILTERED)
            folder = f"_runs/{self.run_id}/{FILTERED_FOLDER}"
            receipts.append(self._publish(rows, FILTERED_KEY, folder, ReceiptKind.FILTERED))
        return receipts

    def write_rows(self, rows: pa.Table, task: str | None) -> Receipt:
        """One file of records, of that task, or of errors, as they lie in the output already."""
        if task is None:
            return self._publish(rows, ERROR_KEY, "errors", ReceiptKind.ERRORS)
        rows = rows.append_column("task", pa.repeat(pa.scalar(task), len(rows)))
        return self._publish(rows, RECORD_KEY, f"records/task={task}", ReceiptKind.RECORDS, task)

    def write_duplicates(self, rows: pa.Table) -> Receipt:
        """One file of documents that wait, whatever other columns there are."""
        rows = _conform(rows, with_attributes(DUPLICATES, self.attributes))
        return self._publish(rows, FILTERED_KEY, f"_runs/{self.run_id}/duplicates", ReceiptKind.DUPLICATES)

    def _records(self, answered: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        for task in pc.unique(answered["task"]).to_pylist():
            if task is None:
                raise ValueError("a record without a task: whoever made it must say what it answers")
            _refuse_odd_name(task)
            rows = answered.filter(pc.field("task") == task)
            data_type = self.data_types.get(task)
            if data_type is not None:
                rows = rows.append_column("data", rows[data_column(task)])
            schema = records_schema(data_type, self.attributes)
            # The key needs the task; the file has it in its folder's name.
            yield task, _conform(rows, schema).append_column("task", rows["task"])

    def _publish(
        self, rows: pa.Table, key: tuple[str, ...], folder: str, kind: ReceiptKind, task: str | None = None
    ) -> Receipt:
        order = [(name, "ascending") for name in _sorted_by(rows, key)]
        rows = rows.take(pc.sort_indices(rows, sort_keys=order))
        uri = join(self.output, folder, f"part-{_name(rows, key)}.parquet")
        if kind is ReceiptKind.RECORDS:
            rows = rows.drop_columns("task")
        content = encode(rows.replace_schema_metadata(self.footer))
        self.storage.publish(uri, content)
        return Receipt(uri=uri, kind=kind, task=task, rows=rows.num_rows, bytes=len(content))


def footer(facts: Mapping[str, str]) -> dict[bytes, bytes]:
    """A job's facts as the metadata of a file's schema."""
    return {METADATA_KEY: json.dumps(dict(facts), sort_keys=True).encode()}


def encode(rows: pa.Table) -> bytes:
    """The table as one Parquet file in memory.

    Statistics and the page index are kept for everything but the long texts, whose smallest and
    largest value nobody looks for.
    """
    import pyarrow.parquet as pq

    long_texts = {
        "text",
        "texts",
        "segments",
        "missing",
        "data",
        "attributes",
        "message",
        "document_metadata",
    }
    row_bytes = max(1, rows.nbytes // max(1, rows.num_rows))
    buffer = pa.BufferOutputStream()
    pq.write_table(
        rows,
        buffer,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        row_group_size=max(1_000, GROUP_BYTES // row_bytes),
        write_statistics=[name for name in rows.column_names if name not in long_texts],
        write_page_index=True,
    )
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def _with_status(outcomes: pa.Table, status: Status) -> pa.Table:
    return outcomes.filter(pc.field("status") == status.value)


def _flat_errors(failed: pa.Table) -> pa.Table:
    """The `error` struct's fields as columns of their own."""
    for index, field in enumerate(ERROR):
        failed = failed.append_column(field.name, pc.struct_field(failed["error"], [index]))
    return failed


def _reasons(filtered: pa.Table) -> pa.Table:
    flat = _flat_errors(filtered)
    return flat.append_column("reason", flat["category"])


def _conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of the schema, in its order, of its very types and nullability."""
    return pa.Table.from_arrays([rows[field.name].cast(field.type) for field in schema], schema=schema)


def _sorted_by(rows: pa.Table, key: tuple[str, ...]) -> list[str]:
    """Documents together and their parts in order; then the rest of the key, so that the order is one."""
    first = [name for name in ("document_id", "part_index") if name in rows.column_names]
    return [*first, *(name for name in key if name not in first)]


def _name(rows: pa.Table, key: tuple[str, ...]) -> str:
    """The digest of the rows' keys: the same rows have the same name, whoever writes them."""
    columns = [pc.fill_null(rows[name].cast(pa.string()), "\0") for name in key]
    return digest(*pc.binary_join_element_wise(*columns, "\x1f").to_pylist())


def _refuse_odd_name(task: str) -> None:
    if not _TASK_NAME.fullmatch(task):
        raise JobError(f"task {task!r} cannot name a folder: letters, digits, '.', '_', '-' can", key="tasks")
