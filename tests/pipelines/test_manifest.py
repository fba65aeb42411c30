"""Documents by name: four formats, columns carried through, addresses held to what is allowed."""

from __future__ import annotations

import io
import json
import pickle
import random
import tracemalloc
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources import open_source
from pipelines.sources.seen import SeenSet
from schemas.errors import AddressRefused, JobError
from schemas.rows import DOCUMENTS, with_attributes
from schemas.storage import StorageOptions
from tests.workers.places import Place, place
from workers.storage.factory import join, look_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipelines.sources import Source

__all__ = ["place"]

Rows = list[dict[str, Any]]


def as_txt(rows: Rows) -> bytes:
    return "".join(f"{row['uri']}\n" for row in rows).encode()


def as_csv(rows: Rows) -> bytes:
    import csv

    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def twice(name: str) -> bytes:
    """A Parquet file with two columns of one name, which most of its readers make nothing of."""
    sink = io.BytesIO()
    column = pa.array(["a"])
    pq.write_table(pa.Table.from_arrays([column, column, column], names=["uri", name, name][-3:]), sink)
    return sink.getvalue()


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "txt": as_txt,
    "csv": as_csv,
    "jsonl": as_jsonl,
    "parquet": as_parquet,
}


def read(source: Source) -> pa.Table:
    """All of it, once the tables agree with what was promised."""
    tables = list(source.documents())
    for table in tables:
        assert table.schema == with_attributes(DOCUMENTS, source.attributes)
    return pa.concat_tables(tables) if tables else pa.table({}).cast(pa.schema([]))


def manifest(folder: Path, name: str, content: bytes, **options: Any) -> Source:
    """A manifest in a folder of its own."""
    (folder / name).write_bytes(content)
    return open_source([], options.pop("storage", StorageOptions()), manifest=str(folder / name), **options)


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_names_documents_beside_it_or_anywhere(place: Place, ending: str) -> None:
    here = place.put("lists/scans/a ü#1.pdf", b"12345")
    there = place.put("elsewhere/b.pdf", b"123")
    above = place.put("c.pdf", b"1")
    rows = [{"uri": "scans/a ü#1.pdf"}, {"uri": there}, {"uri": "../c.pdf"}]
    uri = place.put(f"lists/list.{ending}", FORMATS[ending](rows))
    source = open_source([], place.options, manifest=uri)
    table = read(pickle.loads(pickle.dumps(source)))
    assert table["uri"].to_pylist() == [here, there, above]
    assert table["size"].to_pylist() == [5, 3, 1]
    versions = [place.storage.info(found).version for found in (here, there, above)]
    assert table["version"].to_pylist() == versions
    assert source.attributes is None


def test_what_cannot_be_looked_up_is_listed_all_the_same(place: Place) -> None:
    there = place.put("there.pdf")
    missing = join(place.root, "missing.pdf")
    web = "http://169.254.169.254/latest/meta-data/"
    uri = place.put("list.txt", f"{missing}\n{there}\n{web}\n".encode())
    table = read(open_source([], place.options, manifest=uri))
    assert table["uri"].to_pylist() == [missing, there, web]
    assert [bool(version) for version in table["version"].to_pylist()] == [False, True, False]
    assert table["size"].to_pylist() == [None, 1, None]
    with pytest.raises(AddressRefused):
        look_up(web, place.options)


def test_local_files_are_listed_but_not_looked_at_where_they_are_not_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    source = manifest(
        tmp_path, "list.txt", f"{tmp_path}/a\na\n".encode(), storage=StorageOptions(allow_local=False)
    )
    assert read(source)["version"].to_pylist() == ["", ""]


def test_parquet_columns_keep_their_types(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    columns = pa.table(
        {
            "score": pa.array([1.5, None], pa.float32()),
            "uri": pa.array(["a", "b"], pa.large_string()).dictionary_encode(),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "box": pa.array(
                [{"w": 1, "tags": ["t"]}, None],
                pa.struct([("w", pa.int16()), ("tags", pa.list_(pa.string()))]),
            ),
            "day": pa.array([None, 1], pa.date32()),
        }
    )
    pq.write_table(columns, tmp_path / "list.parquet", row_group_size=1)
    source = open_source([], StorageOptions(), manifest=str(tmp_path / "list.parquet"))
    assert source.attributes == pa.struct(
        [
            ("score", pa.float32()),
            ("label", pa.string()),
            ("box", columns.schema.field("box").type),
            ("day", pa.date32()),
        ]
    )
    expected = columns.drop_columns("uri").to_pylist()
    assert read(source)["attributes"].to_pylist() == expected


def test_csv_columns_are_strings(tmp_path: Path) -> None:
    content = '\ufeffid,uri,note\r\n007,a.pdf,"two\nlines, ""quoted"""\r\n\r\n8,b.pdf,\r\n'.encode()
    source = manifest(tmp_path, "list.csv", content)
    table = read(source)
    assert [uri.rpartition("/")[2] for uri in table["uri"].to_pylist()] == ["a.pdf", "b.pdf"]
    assert table["attributes"].to_pylist() == [
        {"id": "007", "note": 'two\nlines, "quoted"'},
        {"id": "8", "note": ""},
    ]


def test_json_columns_are_strings_or_json(tmp_path: Path) -> None:
    lines = [
        '{"uri": "a", "n": 7, "s": "7"}',
        "",
        '{"late": {"x": [1, "\\u00fc"]}, "uri": "b", "n": null}',
        '{"uri": "c", "s": "\\ud800"}',
    ]
    source = manifest(tmp_path, "list.jsonl", "\n".join(lines).encode())
    assert source.attributes == pa.struct([("n", pa.string()), ("s", pa.string()), ("late", pa.string())])
    assert read(source)["attributes"].to_pylist() == [
        {"n": "7", "s": "7", "late": None},
        {"n": None, "s": None, "late": '{"x": [1, "ü"]}'},
        {"n": None, "s": "\\ud800", "late": None},
    ]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_document_named_twice_is_listed_once_with_its_first_columns(tmp_path: Path, ending: str) -> None:
    rows = [
        {"uri": name, "n": str(number)}
        for number, name in enumerate(["a", "b", "./a", "b", "c", f"{tmp_path}/a"])
    ]
    source = manifest(tmp_path, f"list.{ending}", FORMATS[ending](rows), rows=2)
    table = read(source)
    assert [uri.rpartition("/")[2] for uri in table["uri"].to_pylist()] == ["a", "b", "c"]
    assert source.duplicates == 3
    if source.attributes is not None:
        assert [value["n"] for value in table["attributes"].to_pylist()] == ["0", "1", "4"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_row_that_names_nothing_fails_by_its_number(tmp_path: Path, ending: str) -> None:
    rows: Rows = [
        {"uri": "a", "n": "1"},
        {"uri": "", "n": "2"},
        {"uri": "b", "n": "3"},
        {"uri": None, "n": "4"},
    ]
    table = read(manifest(tmp_path, f"list.{ending}", FORMATS[ending](rows), rows=2))
    assert [uri.removeprefix(f"file://{tmp_path}/") for uri in table["uri"].to_pylist()] == [
        "a",
        f"list.{ending}#row-2",
        "b",
        f"list.{ending}#row-4",
    ]


def test_globs_and_limit_apply(tmp_path: Path) -> None:
    names = ["a.pdf", "b.png", "old/c.pdf", "/srv/d.pdf", "s3://lake/x/e.pdf", "f.pdf"]
    content = as_txt([{"uri": name} for name in names])
    (tmp_path / "sub").mkdir()
    source = manifest(
        tmp_path / "sub", "list.txt", content, include=["*.pdf", "!/x/*"], exclude=["old/"], limit=2, rows=2
    )
    assert read(source)["uri"].to_pylist() == [f"file://{tmp_path}/sub/a.pdf", "file:///srv/d.pdf"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_row_that_names_nothing_is_no_matter_of_globs(tmp_path: Path, ending: str) -> None:
    rows = [{"uri": "a.pdf", "n": "1"}, {"uri": None, "n": "2"}, {"uri": "b.png", "n": "3"}]
    source = manifest(tmp_path, f"list.{ending}", FORMATS[ending](rows), include=["*.pdf"], exclude=["list*"])
    assert [uri.removeprefix(f"file://{tmp_path}/") for uri in read(source)["uri"].to_pylist()] == [
        "a.pdf",
        f"list.{ending}#row-2",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.csv", b"path;label\na;b\n", r"no column 'uri'; its columns: 'path;label'"),
        ("list.csv", b"", "no column 'uri'; its columns: none"),
        ("list.csv", b"uri,n,n\na,1,2\n", "two columns named 'n'"),
        ("list.jsonl", b'{"path": "a"}\n', "no column 'uri'; its columns: 'path'"),
        ("list.jsonl", b'{"uri": "a"}\n{"uri"\n', "line 2: no JSON"),
        ("list.jsonl", b'"a"\n', "line 1: no JSON object"),
        ("list.jsonl", b'{"uri": "a", "n": ' + b"[" * 10_000 + b"]" * 10_000 + b"}\n", "line 1: no JSON"),
        ("list.parquet", b"PAR?", "no Parquet file"),
        ("list.parquet", as_parquet([{"path": "a", "n": 1}]), "no column 'uri'; its columns: 'path', 'n'"),
        ("list.parquet", as_parquet([{"uri": 1}]), "column 'uri' is int64"),
        ("list.parquet", twice("n"), "two columns named 'n'"),
        ("list.parquet", twice("uri"), "two columns named 'uri'"),
        ("list.xlsx", b"", "write it as .txt, .csv, .jsonl, .parquet"),
    ],
)
def test_a_wrong_manifest_is_refused_before_the_first_document(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(JobError, match=said):
        manifest(tmp_path, name, content)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.csv", b"uri,n\na,1\nb\n", "line 3: 1 fields under a header of 2"),
        ("list.csv", b'uri\n"a\n', "line 2"),
        ("list.txt", b"a\n\xff\n", "not UTF-8"),
    ],
)
def test_what_is_wrong_further_down_names_its_line(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(JobError, match=said):
        read(manifest(tmp_path, name, content))


def test_a_damaged_parquet_is_the_job_s_fault(tmp_path: Path) -> None:
    whole = pa.table({"uri": [f"{number:040}" for number in range(99)]})
    buffer = io.BytesIO()
    pq.write_table(whole, buffer, compression="none", use_dictionary=False)
    content = buffer.getvalue()
    not_text = content.replace(b"\0" * 3 + b"0" * 40, b"\0" * 3 + b"\xff" + b"0" * 39)
    assert not_text != content
    for damaged in (content[:4] + b"\xff" * 60 + content[64:], not_text):
        source = manifest(tmp_path, "list.parquet", damaged)
        with pytest.raises(JobError, match=r"list\.parquet cannot be read"):
            read(source)


def test_a_manifest_that_is_not_there_is_the_job_s_fault(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="nothing is there"):
        open_source([], StorageOptions(), manifest=str(tmp_path / "list.txt"))


@pytest.mark.parametrize("ending", FORMATS)
def test_an_empty_manifest_lists_nothing(tmp_path: Path, ending: str) -> None:
    none = io.BytesIO()
    pq.write_table(pa.table({"uri": pa.array([], pa.string())}), none)
    empty = {"txt": b"\n \n", "csv": b"uri\n", "jsonl": b"\n", "parquet": none.getvalue()}[ending]
    assert list(manifest(tmp_path, f"list.{ending}", empty).documents()) == []


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_are_streamed(tmp_path: Path, ending: str) -> None:
    """Traced: a manifest of 30 MB is read in a few."""
    rows = [{"uri": f"{number:07d}-{random.randbytes(480).hex()}"} for number in range(30_000)]
    (tmp_path / f"list.{ending}").write_bytes(FORMATS[ending](rows))
    del rows
    source = open_source([], StorageOptions(), manifest=str(tmp_path / f"list.{ending}"))
    chunks = source._rows.chunks(1000)  # type: ignore[attr-defined]
    tracemalloc.start()
    try:
        assert sum(len(uris) for uris, _ in chunks) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


@given(st.lists(st.lists(st.integers(0, 40))))
def test_the_seen_set_is_a_set(chunks: list[list[int]]) -> None:
    seen, model = SeenSet(), set()
    for chunk in chunks:
        expected = []
        for number in chunk:
            expected.append(number not in model)
            model.add(number)
        # Zero bytes at the end are where a fixed-width text could go wrong.
        assert seen.add([number.to_bytes(16, "little") for number in chunk]) == expected
    assert len(seen) == len(model)


def test_the_seen_set_takes_16_bytes_an_id() -> None:
    seen = SeenSet()
    for _ in range(100):
        assert all(seen.add([random.randbytes(16) for _ in range(1000)]))
    assert sum(run.nbytes for run in seen._runs) == 16 * 100_000
