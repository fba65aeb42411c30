"""What a commit brings makes the table hold what its folder holds, whatever either held before."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.lake import changes, committing
from pipelines.lake.changes import find_change
from pipelines.lake.committing import Change, Committer, gathered
from pipelines.lake.tables import LakeTable, refuse_foreign, table_name, tables_of
from pipelines.plan import Plan
from schemas.errors import JobError, ObjectChanged, StorageUnavailable
from schemas.ids import document_id
from schemas.job import make_job
from schemas.selection import Selection
from schemas.shard import Shard
from schemas.tables import Place
from workers.sinks.parquet import encode
from workers.tables import DataFile
from workers.tables.shapes import evolved

Row = tuple[str, str, int | None, str]
"""Document, version, part, and what is said of it."""
NAMES = ("a", "b", "c", "d")
ROWS = st.tuples(st.sampled_from(NAMES), st.just("v"), st.sampled_from([None, 0, 1]), st.sampled_from("xy"))
FILES = st.lists(st.lists(ROWS, min_size=1, max_size=6), max_size=3)


@dataclass
class InMemory:
    """A snapshot of tables of Arrow."""

    schema: pa.Schema
    tables: Sequence[pa.Table]
    version: str = "1"
    properties: Mapping[str, str] = field(default_factory=dict)

    def files(self, where: str | None = None, since: str | None = None) -> list[DataFile]:
        return [DataFile(str(place), len(table), table.nbytes) for place, table in enumerate(self.tables)]

    def read(
        self, file: DataFile, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        table = self.tables[int(file.path)]
        yield from (table if columns is None else table.select(columns)).to_batches(2)

    def origin(self, version: str) -> str:
        return version

    def address(self, file: DataFile, row: int, column: str) -> str:
        raise NotImplementedError

    def after(self, change: Change) -> InMemory:
        gone = {file.path for file in change.remove}
        kept = [table for place, table in enumerate(self.tables) if str(place) not in gone]
        written = [table for portion in change.portions for table in gathered(portion.rows(change.schema))]
        columns = [
            pa.Table.from_arrays(
                [
                    table[one.name].cast(one.type)
                    if one.name in table.column_names
                    else pa.nulls(len(table), one.type)
                    for one in change.schema
                ],
                schema=change.schema,
            )
            for table in [*kept, *written]
        ]
        return InMemory(change.schema, columns)


def plan_of(output: str, shard: Shard | None = None, **settings: Any) -> Plan:
    values = {"input": "s3://lake/in", "output": output, "tasks": ["ocr"], "sink": {"kind": "delta"}}
    return Plan(make_job(values | settings), "run", (), None, Selection(shard=shard))


def rows_of(rows: Sequence[Row], table: LakeTable) -> pa.Table:
    said = "fingerprint" if "fingerprint" in table.schema.names else "category"
    values = [
        {
            "document_id": document_id(name),
            "uri": name,
            "version": version,
            "part_index": part,
            said: what,
            "run_id": "run",
            "answered_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for name, version, part, what in rows
    ]
    return pa.Table.from_pylist(values, table.schema)


def published(folder: Path, table: LakeTable, files: Sequence[Sequence[Row]]) -> None:
    (folder / table.folder).mkdir(parents=True, exist_ok=True)
    for place, rows in enumerate(files):
        (folder / table.folder / f"part-{place}.parquet").write_bytes(encode(rows_of(rows, table)))


def told(snapshot: InMemory) -> Counter[Row]:
    """Every row that is there, and how often."""
    found: Counter[Row] = Counter()
    for table in snapshot.tables:
        said = "fingerprint" if "fingerprint" in table.column_names else "category"
        found.update((row["uri"], row["version"], row["part_index"], row[said]) for row in table.to_pylist())
    return found


@given(
    FILES,
    FILES,
    st.sets(st.sampled_from(NAMES)),
    st.sampled_from(["records_ocr", "errors"]),
    st.sampled_from([None, Shard(index=1, count=2), Shard(index=2, count=2)]),
    st.sampled_from([1, 3, 1_000]),
)
@settings(max_examples=40)
def test_a_table_comes_to_hold_its_folder(
    folder: list[list[Row]],
    there: list[list[Row]],
    listed: set[str],
    which: str,
    shard: Shard | None,
    at_once: int,
) -> None:
    with tempfile.TemporaryDirectory() as output, pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "ROWS_AT_ONCE", at_once)
        plan = plan_of(output, shard)
        table = next(table for table in tables_of(plan) if table.name == which)
        published(Path(output), table, folder)
        before = InMemory(table.schema, [rows_of(rows, table) for rows in there])
        ids = pa.array([document_id(name) for name in sorted(listed)], pa.string())
        change = find_change(plan, table, before, ids)
        after = before.after(change)
        assert find_change(plan, table, after, ids).is_empty, "all is said already"
    ours = {row for rows in folder for row in rows}
    known = {name for name, *_ in ours} | (listed if which == "errors" else set())
    mine = {name for name in known if shard is None or shard.holds([document_id(name)])[0]}
    wanted = Counter(row for row in ours if row[0] in mine)
    wanted += Counter({row: times for row, times in told(before).items() if row[0] not in mine})
    assert told(after) == wanted
    changed = told(after) != told(before)
    assert changed is not change.is_empty
    assert change.added - change.removed == told(after).total() - told(before).total()


def test_answers_of_a_lost_folder_stay_and_errors_that_are_made_good_go(tmp_path: Path) -> None:
    plan = plan_of(str(tmp_path))
    rows: list[Row] = [("a", "v", 0, "x"), ("b", "v", 0, "x")]
    listed = pa.array([document_id("a")])
    left = {}
    for table in tables_of(plan)[:2]:
        before = InMemory(table.schema, [rows_of(rows, table)])
        left[table.name] = told(before.after(find_change(plan, table, before, listed)))
    assert left == {"records_ocr": Counter(rows), "errors": Counter(rows[1:])}


def test_a_part_file_that_was_swept_meanwhile_is_looked_at_again(tmp_path: Path) -> None:
    plan = plan_of(str(tmp_path))
    table = tables_of(plan)[0]
    published(tmp_path, table, [[("a", "v", 0, "x"), ("a", "v", 1, "x")]])
    change = find_change(plan, table, InMemory(table.schema, []), pa.array([], pa.string()))
    published(tmp_path, table, [[("a", "v", 0, "x")]])
    with pytest.raises(ObjectChanged):
        list(change.portions[0].rows(change.schema))


def invoices(kind: pa.DataType) -> pa.Schema:
    return pa.schema([("uri", pa.string()), ("data", pa.struct([("number", pa.string()), ("total", kind)]))])


def test_a_field_more_is_taken_in_and_another_type_is_refused_with_both_named() -> None:
    there = invoices(pa.int64())
    more = pa.schema(
        [
            ("uri", pa.large_string()),
            (
                "data",
                pa.struct([("total", pa.int32()), ("lines", pa.list_(pa.struct([("item", pa.string())])))]),
            ),
            ("attributes", pa.struct([("year", pa.int64())])),
        ]
    )
    found = evolved(there, more, "lake.invoices")
    assert found.names == ["uri", "data", "attributes"]
    assert found.field("uri").type == pa.string(), "the table's own kind of string stays"
    assert [(one.name, one.type) for one in found.field("data").type] == [
        ("number", pa.string()),
        ("total", pa.int64()),
        ("lines", more.field("data").type.field("lines").type),
    ]
    assert evolved(found, more, "again").equals(found) and evolved(found, there, "again").equals(found)
    with pytest.raises(
        JobError, match=r"lake.invoices: column data.total is int64, and .* decimal128\(38, 9\)"
    ):
        evolved(there, invoices(pa.decimal128(38, 9)), "lake.invoices")


def test_answers_of_an_earlier_schema_keep_their_fields(tmp_path: Path) -> None:
    task = {"task": "extract", "name": "invoices"}
    old, new = (
        plan_of(str(tmp_path), tasks=[{**task, "fields": fields}])
        for fields in ({"number": "text"}, {"total": "integer"})
    )
    table = tables_of(old)[0]
    rows = rows_of([("a", "v", 0, "x")], table).to_pylist()
    rows[0]["data"] = {"number": "17"}
    (tmp_path / table.folder).mkdir(parents=True)
    (tmp_path / table.folder / "part-0.parquet").write_bytes(encode(pa.Table.from_pylist(rows, table.schema)))
    there = InMemory(tables_of(new)[0].schema, [])
    after = there.after(find_change(new, tables_of(new)[0], there, pa.array([], pa.string())))
    assert [row["data"] for row in after.tables[0].to_pylist()] == [{"total": None, "number": "17"}]


@settings(max_examples=30)
@given(st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._x-]{0,6}", fullmatch=True), unique=True))
def test_no_two_tasks_have_one_table(tasks: list[str]) -> None:
    names = [table_name(task) for task in tasks]
    assert len(set(names)) == len(tasks)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") for name in names)


def test_a_table_of_another_output_is_told_whose_it_is() -> None:
    place = Place(format="delta", uri="s3://lake/tables/errors")  # type: ignore[arg-type]
    refuse_foreign("s3://lake/out", place, "s3://lake/out")
    with pytest.raises(
        JobError, match="s3://lake/tables/errors is one that holds the rows of s3://lake/other"
    ):
        refuse_foreign("s3://lake/out", place, "s3://lake/other")
    with pytest.raises(JobError, match="no run of Gemstream made"):
        refuse_foreign("s3://lake/out", place, None)


def test_a_commit_that_others_come_before_each_time_is_no_wrong_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "ATTEMPTS", 1)
    plan = plan_of(str(tmp_path))

    def find() -> Change:
        raise committing._Overtaken

    with pytest.raises(StorageUnavailable, match="other writers committed each time"):
        Committer(plan, tables_of(plan)[0].place, {}, lambda: None).bring(find)
