"""A table goes in, its answers come out as tables of the same format and into the table itself (of a folder
of Parquet, into one beside it); the run is killed twice on the way. Then rows are added and others change,
and the next run asks about those alone.

The tables are made, changed and read back by their formats' own libraries and DuckDB, as their owner would.
"""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image, ImageDraw

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import Bucket, part_files
from tests.chaos.process import run_to_end, started
from tests.fixtures.runs import GEMMA3

pytestmark = pytest.mark.timeout(900)

SEED = 46
FEW, MANY = (120, 20, 5), (5_000, 200, 50)
"""Rows of the table; rows that are added, and rows that change."""
CASES = [
    pytest.param("delta", FEW, id="delta-120"),
    *(
        pytest.param(kind, MANY, id=f"{kind}-5000", marks=pytest.mark.thorough)
        for kind in ("delta", "iceberg", "lance", "parquet")
    ),
]
SCHEMA = pa.schema(
    [("id", pa.int64()), ("uri", pa.string()), ("supplier", pa.string()), ("change", pa.int64())]
)
RECORDS, DOCUMENTS = "records_invoice", "documents"


@dataclass
class Owner:
    """Whoever owns the table: by the format's own library.

    Args:
        kind: the format.
        store: where everything lies.
        prefix: of all that is this owner's.
        folder: for a catalog.
    """

    kind: str
    store: ObjectStore
    prefix: str
    folder: Path

    @property
    def table(self) -> str:
        return "lake.invoices" if self.kind == "iceberg" else self.store.url(f"{self.prefix}/invoices")

    @property
    def catalog(self) -> dict[str, str]:
        if self.kind != "iceberg":
            return {}
        warehouse = self.store.url(f"{self.prefix}/warehouse")
        return {"type": "sql", "uri": f"sqlite:///{self.folder}/catalog.db", "warehouse": warehouse}

    @property
    def output(self) -> Bucket:
        return Bucket(self.store, f"{self.prefix}/out")

    def put(self, numbers: list[int], change: int) -> None:
        """Pictures, each of its number and of how often it has changed."""
        client = self.store.client(max_pool_connections=8)

        def put(number: int) -> None:
            body = io.BytesIO()
            picture = Image.new("RGB", (48, 32), (number % 256, number // 256, change * 80))
            ImageDraw.Draw(picture).text((2, 2), f"{number}", (255, 255, 255))
            picture.save(body, "PNG")
            client.put_object(Bucket=self.store.bucket, Key=self._key(number), Body=body.getvalue())

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, numbers))

    def rows(self, numbers: list[int], change: int = 0) -> pa.Table:
        return pa.table(
            {
                "id": numbers,
                "uri": [self.store.url(self._key(number)) for number in numbers],
                "supplier": [f"supplier {number % 7}" for number in numbers],
                "change": [change] * len(numbers),
            },
            schema=SCHEMA,
        )

    def append(self, rows: pa.Table) -> None:
        """In four files the first time, so that a change touches some of them."""
        step = max(1, len(rows) // 4)
        for start in range(0, len(rows), step):
            self._append(rows.slice(start, step))

    def _append(self, rows: pa.Table) -> None:
        if self.kind == "parquet":
            body = io.BytesIO()
            pq.write_table(rows, body)
            key = f"{self.prefix}/invoices/{rows['id'][0].as_py():05}.parquet"
            self.store.client().put_object(Bucket=self.store.bucket, Key=key, Body=body.getvalue())
        elif self.kind == "delta":
            from deltalake import write_deltalake

            write_deltalake(
                self.table, rows, mode="append", schema_mode="merge", storage_options=self._options
            )
        elif self.kind == "lance":
            import lance

            lance.write_dataset(rows, self.table, mode="append", storage_options=self._options)
        else:
            catalog = self._opened()
            catalog.create_namespace_if_not_exists("lake")
            table = catalog.create_table_if_not_exists(self.table, SCHEMA)
            table.append(rows.cast(pa.schema([rows.schema.field(name) for name in SCHEMA.names])))

    def change(self, numbers: list[int]) -> None:
        """Another document in the place of each, which the row says as well."""
        self.put(numbers, 1)
        chosen = f"id IN ({', '.join(map(str, numbers))})"
        if self.kind == "parquet":
            for rows in self._folder():
                ones = pc.is_in(rows["id"], pa.array(numbers)).cast(pa.int64())
                self._append(rows.set_column(3, "change", ones))
        elif self.kind == "delta":
            from deltalake import DeltaTable

            DeltaTable(self.table, storage_options=self._options).update({"change": "1"}, predicate=chosen)
        elif self.kind == "lance":
            import lance

            lance.dataset(self.table, storage_options=self._options).update({"change": "1"}, chosen)
        else:
            table = self._opened().load_table(self.table)
            rows = table.scan(row_filter=chosen).to_arrow()
            place = rows.column_names.index("change")
            ones = pa.array([1] * len(rows), pa.int64())
            table.overwrite(rows.set_column(place, rows.schema.field("change"), ones), chosen)

    def read(self, name: str | None = None) -> pa.Table:
        """The table, or one of the output's."""
        if self.kind == "parquet":
            return self._read_folders(name)
        where = self.table if name is None else self._answers(name)
        if self.kind == "delta":
            from deltalake import DeltaTable

            return DeltaTable(where, storage_options=self._options).to_pyarrow_table()
        if self.kind == "lance":
            import lance

            return lance.dataset(where, storage_options=self._options).to_table()
        return self._opened().load_table(where).scan().to_arrow()

    def _folder(self) -> list[pa.Table]:
        client, bucket = self.store.client(), self.store.bucket
        found = client.list_objects_v2(Bucket=bucket, Prefix=f"{self.prefix}/invoices/")["Contents"]
        bodies = [client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read() for entry in found]
        return [pq.read_table(io.BytesIO(body)) for body in bodies]

    def _read_folders(self, name: str | None) -> pa.Table:
        """The table with what is beside it, which is Delta's; or part files, which are all that there is."""
        if name is not None:
            folder = "documents" if name == DOCUMENTS else "records"
            return pa.concat_tables(
                pq.ParquetFile(io.BytesIO(self.output.read(part))).read()
                for part in self.output.names(folder)
            )
        from deltalake import DeltaTable

        beside = DeltaTable(self._beside, storage_options=self._options).to_pyarrow_table()
        rows = pa.concat_tables(self._folder())
        return rows.join(beside.select(["id", "gemstream_version"]), "id", join_type="inner")

    @property
    def _beside(self) -> str:
        return self.store.url(f"{self.prefix}/beside")

    def job(self, folder: Path, seconds: float, rows: int, seats: int = 16) -> Path:
        sink = {"tables": "answers", "catalog": self.catalog} if self.kind == "iceberg" else {}
        values: dict[str, Any] = {
            "table": {
                "uri": self.table,
                "format": self.kind,
                "catalog": self.catalog,
                "key": "id",
                "into": self._beside if self.kind == "parquet" else "same",
            },
            "output": self.output.url,
            "tasks": [
                {"task": "extract", "name": "invoice", "fields": {"number": "text", "total": "decimal"}}
            ],
            "models": {"vision": str(GEMMA3)},
            "engine": {"kind": "fault", "options": {"seconds": seconds}, "max_num_seqs": seats},
            "sink": {"kind": self.kind, "rows": rows, "seconds": 2, **sink},
            "expand": {"workers": 1},
            "report": {"page": False},
        }
        path = folder / f"job-{seconds:g}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def report(self) -> dict[str, Any]:
        """Of the last run that ended."""
        reports = [name for name in self.output.names("_runs") if name.endswith("/report.json")]
        found: dict[str, Any] = json.loads(self.output.read(max(reports)))
        return found

    def _answers(self, name: str) -> str:
        return f"answers.{name}" if self.kind == "iceberg" else f"{self.output.url}/tables/{name}"

    def _key(self, number: int) -> str:
        return f"{self.prefix}/documents/{number:05}.png"

    @property
    def _options(self) -> dict[str, str]:
        return {"aws_endpoint": os.environ["AWS_ENDPOINT_URL"], "allow_http": "true"}

    def _opened(self) -> Any:
        from pyiceberg.catalog import load_catalog

        return load_catalog(**self.catalog, **{"s3.endpoint": os.environ["AWS_ENDPOINT_URL"]})


@pytest.fixture
def way_in(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    yield


def assert_answered(owner: Owner, changes: dict[int, int]) -> None:
    """Every row has its answer once, of the document as it is now, in each of the three places.

    Args:
        owner: of the table.
        changes: id -> how often the row has changed.
    """
    table, records, documents = owner.read(), owner.read(RECORDS), owner.read(DOCUMENTS)
    count = len(changes)
    assert dict(zip(table["id"].to_pylist(), table["change"].to_pylist(), strict=True)) == changes
    assert len(table) == len(records) == len(documents) == count
    asked = """
        SELECT count(*), count(DISTINCT t.id), count(DISTINCT r.document_id), count(r.data.number),
               count(*) FILTER (t.gemstream_version = d.version AND r.version = d.version AND d.status = 'ok')
        FROM "table" t
        JOIN records r ON r.attributes.id = t.id
        JOIN documents d ON d.attributes.id = t.id AND d.document_id = r.document_id
    """
    assert duckdb.sql(asked).fetchall() == [(count,) * 5]
    kinds = {each.name: each.type for each in records.schema.field("data").type}
    assert pa.types.is_decimal(kinds["total"]), kinds
    parts = {
        name: pq.ParquetFile(io.BytesIO(owner.output.read(name))).read() for name in part_files(owner.output)
    }
    assert sum(map(len, parts.values())) == count


@pytest.mark.usefixtures("way_in")
@pytest.mark.parametrize(("kind", "sizes"), CASES)
def test_a_table_killed_twice_and_then_changed(
    kind: str, sizes: tuple[int, int, int], object_store: ObjectStore, tmp_path: Path
) -> None:
    rows, more, changed = sizes
    rng = random.Random(f"{SEED} {kind}")
    owner = Owner(kind, object_store, f"chaos/table-{kind}-{rows}", tmp_path)
    owner.put(list(range(rows)), 0)
    owner.append(owner.rows(list(range(rows))))
    environment = object_store.environment()
    # Of few rows 20 s of answers: the first writer may take half of that to start, then writes all at once.
    seconds, seats = (1.0, 4) if rows < 1_000 else (0.1, 16)
    slow = owner.job(tmp_path, seconds, rows // 12, seats)
    killed = []
    for _ in range(2):
        files = len(part_files(owner.output)) + rng.randint(1, 2)
        with started(slow, environment) as run:
            assert run.until(lambda files=files: len(part_files(owner.output)) >= files), run.said
            run.kill()
        killed.append(f"at {len(part_files(owner.output))} files")
    print(f"seed {SEED} {kind}: killed {killed}")
    quick = owner.job(tmp_path, seconds=0.0, rows=rows)
    run_to_end(quick, environment)
    changes = dict.fromkeys(range(rows), 0)
    assert_answered(owner, changes)
    first = owner.report()
    assert first["counts"]["listed"] == rows and 0 < first["counts"]["skipped"] < rows

    if rows == MANY[0]:
        run_to_end(quick, environment)
        again = owner.report()
        assert again["run_id"] != first["run_id"] and again["tasks"] == {}
        assert {table["added"] + table["removed"] for table in again["tables"].values()} == {0}

    owner.put(list(range(rows, rows + more)), 0)
    owner.append(owner.rows(list(range(rows, rows + more))))
    owner.change(picked := sorted(rng.sample(range(rows), changed)))
    run_to_end(quick, environment)
    assert_answered(owner, changes | dict.fromkeys(range(rows, rows + more), 0) | dict.fromkeys(picked, 1))
    last = owner.report()
    print(last["counts"], last["tasks"], last["tables"])
    assert last["tasks"]["invoice"]["answers"] == more + changed
    # Files that were written anew for the change, and those that were added: not the table.
    assert last["counts"]["listed"] <= rows + more and last["counts"]["ok"] == more + changed
