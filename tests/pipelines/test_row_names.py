"""How rows name their documents: each key its own name, the same in every format that it may be read of."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipelines.sources.row_names import RowNaming, row_naming
from pipelines.sources.table_place import place_of
from schemas.ids import document_id
from schemas.storage import StorageOptions
from schemas.tables import Place, TableFormat, TableOptions

S3 = StorageOptions()
PLACE = Place(format=TableFormat.DELTA, uri="s3://lake/documents")


def naming(**options: object) -> RowNaming:
    return row_naming(TableOptions.model_validate({"uri": PLACE.uri, **options}), PLACE, S3)


def test_without_a_key_a_row_goes_by_its_address() -> None:
    rows = pa.table({"uri": ["S3://lake/a.pdf", None, "", "/data/b.pdf", "https://host/c.pdf"]})
    assert naming().columns == ["uri"]
    assert naming().uris(rows) == [
        "s3://lake/a.pdf",
        None,
        None,
        "file:///data/b.pdf",
        "https://host/c.pdf",  # refused, and listed by that name
    ]
    assert naming().ids(rows).to_pylist()[0] == document_id("s3://lake/a.pdf")


def test_with_a_key_the_same_object_is_two_documents() -> None:
    rows = pa.table({"id": [1, 2, None], "at": ["s3://lake/a.pdf"] * 3})
    named = naming(uri_column="at", key="id")
    assert named.columns == ["id", "at"]
    assert named.uris(rows) == ["s3://lake/a.pdf#id=1", "s3://lake/a.pdf#id=2", None]


def test_a_row_with_its_document_in_it_goes_by_the_table() -> None:
    rows = pa.table({"region": ["eu", "a&b=c#%"], "id": [1, 2], "body": [b"x", b"y"]})
    named = naming(bytes_column="body", key=["region", "id"])
    assert named.columns == ["region", "id"], "the bytes are never read for it"
    assert named.uris(rows) == [
        "s3://lake/documents#region=eu&id=1",
        "s3://lake/documents#region=a%26b%3Dc%23%25&id=2",
    ]


def test_a_key_of_bytes_of_one_length_is_spelled_as_any_bytes_are() -> None:
    values = [bytes(range(16)), b"\xff" * 16, None]
    named = naming(key="id", uri_column="at")
    at = ["s3://lake/a.pdf"] * 3
    kinds = (pa.binary(), pa.binary(16), pa.uuid())
    spelled = [named.uris(pa.table({"id": pa.array(values, kind), "at": at})) for kind in kinds]
    assert spelled[0] == spelled[1] == spelled[2]
    assert spelled[0][0] == "s3://lake/a.pdf#id=000102030405060708090a0b0c0d0e0f"


def test_a_key_is_spelled_the_same_whatever_type_the_format_has_for_it() -> None:
    named = naming(key=["a", "b", "c"])
    when = [datetime(2026, 1, 1, tzinfo=UTC)]
    one = {"a": pa.array(["x"], pa.string()), "b": pa.array([1], pa.int16()), "c": when}
    other = {
        "a": pa.array(["x"], pa.large_string()).dictionary_encode(),
        "b": pa.array([1], pa.int64()),
        "c": pa.array(when, pa.timestamp("ns", tz="UTC")),
    }
    uris = [named.uris(pa.table({**columns, "uri": ["s3://lake/a"]})) for columns in (one, other)]
    assert uris[0] == uris[1]


def test_a_uuid_is_a_key_in_each_of_its_types() -> None:
    number = bytes(range(240, 256))
    kinds = (pa.binary(), pa.binary(16), pa.uuid())
    columns = [pa.array([number, None], kind) for kind in kinds]
    uris = [naming(key=["a"]).uris(pa.table({"a": each, "uri": ["s3://lake/a"] * 2})) for each in columns]
    assert uris == [[f"s3://lake/a#a={number.hex()}", None]] * 3


def test_a_hidden_name_is_known_by_who_has_the_key() -> None:
    rows = pa.table({"uri": ["s3://lake/a.pdf"]})
    table = TableOptions(uri=PLACE.uri)
    ids = {
        secret: row_naming(table, PLACE, S3, SecretStr(secret)).ids(rows)[0].as_py()
        for secret in ("one", "two")
    }
    assert len({*ids.values(), document_id("s3://lake/a.pdf")}) == 3


TEXT = st.text(st.sampled_from("a&=#%2600"), max_size=4)


@given(st.lists(st.tuples(TEXT, TEXT), unique=True, min_size=2, max_size=8))
def test_two_keys_have_two_names(keys: list[tuple[str, str]]) -> None:
    rows = pa.table({"a": [key[0] for key in keys], "b": [key[1] for key in keys]})
    rows = rows.append_column("uri", pa.array(["s3://lake/x"] * len(keys)))
    assert len(set(naming(key=["a", "b"]).uris(rows))) == len(keys)


def test_the_format_is_found_out_by_what_lies_there(tmp_path: Path) -> None:
    for name, mark in (("delta", "_delta_log"), ("lance", "_versions"), ("parquet", "year=2026")):
        (tmp_path / name / mark).mkdir(parents=True)
        (tmp_path / name / mark / "0.json").write_text("{}")
        found = place_of(TableOptions(uri=str(tmp_path / name)), S3)
        assert (found.format, found.uri) == (TableFormat(name), f"file://{tmp_path}/{name}")
    catalog = {"type": "sql", "uri": "sqlite://"}
    iceberg = place_of(TableOptions(uri="lake.documents", catalog=catalog), S3)
    assert (iceberg.format, iceberg.uri) == (TableFormat.ICEBERG, "lake.documents")
