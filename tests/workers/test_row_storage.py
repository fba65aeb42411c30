"""Documents that lie in a table: each value is an object, and nobody else names one."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import (
    AccessDenied,
    AddressRefused,
    CorruptDocument,
    GemstreamError,
    JobError,
    ObjectChanged,
    ObjectMissing,
)
from schemas.storage import StorageOptions
from workers.storage.factory import admit, look_up, open_storage
from workers.storage.rows import refused_address, row_address, version_of

OPTIONS = StorageOptions()
VALUES = [None if number % 7 == 3 else bytes([number]) * (number * 10) for number in range(100)]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "a b&c.parquet"
    columns = {"id": list(range(100)), "body=?": pa.array(VALUES, pa.large_binary())}
    pq.write_table(pa.table(columns), path, row_group_size=30)
    return f"file://{path}"


def test_every_value_in_any_order(file: str) -> None:
    order = [*range(100), *range(99, -1, -1), *random.Random(5).sample(range(100), 100)]
    storage = open_storage("row://", OPTIONS)
    for row in order:
        uri, value = row_address(file, row, "body=?"), VALUES[row]
        if value is None:
            with pytest.raises(ObjectMissing):
                storage.read(uri)
            continue
        assert storage.read(uri) == value
        info = storage.info(uri)
        assert (info.size, info.version) == (len(value), version_of(value))


def test_ranges_of_one_version(file: str) -> None:
    storage, uri = open_storage("row://", OPTIONS), row_address(file, 50, "body=?")
    version = storage.info(uri).version
    assert storage.read(uri, version=version, start=490, length=100) == bytes([50]) * 10
    assert storage.read(uri, version=version, start=500) == b""
    with pytest.raises(ObjectChanged):
        storage.read(uri, version=version_of(b"other"))


def test_a_file_written_anew_is_read_anew(file: str) -> None:
    storage, uri = open_storage("row://", OPTIONS), row_address(file, 1, "body=?")
    before = storage.info(uri).version
    pq.write_table(pa.table({"body=?": [b"0", b"changed"]}), file.removeprefix("file://"))
    assert storage.read(uri) == b"changed"
    with pytest.raises(ObjectChanged):
        storage.read(uri, version=before)
    with pytest.raises(ObjectMissing):
        storage.read(row_address(file, 2, "body=?"))


def test_a_row_that_is_no_document_says_why() -> None:
    with pytest.raises(CorruptDocument, match="its key & all is null"):
        open_storage("row://", OPTIONS).read(refused_address("its key & all is null"), version="refused")


def test_no_list_of_documents_can_name_one(file: str) -> None:
    for uri in (row_address(file, 1, "body=?"), "ROW://parquet?file=a&row=0&column=b", refused_address("x")):
        with pytest.raises(AddressRefused):
            admit(uri, OPTIONS)
        with pytest.raises(AddressRefused):
            look_up(uri, OPTIONS)


def test_it_is_read_only(file: str) -> None:
    storage, uri = open_storage("row://", OPTIONS), row_address(file, 1, "body=?")
    with pytest.raises(AccessDenied):
        storage.publish(uri, b"")
    with pytest.raises(AccessDenied):
        storage.delete(uri)
    with pytest.raises(AccessDenied):
        storage.list(uri)
    with pytest.raises(JobError, match="no address of a row"):
        storage.read("row://parquet?file=a&row=x&column=b")


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ({"other": [b"0", b"1"]}, ObjectChanged),
        ({"body=?": ["0", "1"]}, ObjectChanged),
        ({"body=?": [10**12, 10**12]}, ObjectChanged),
        (b"", CorruptDocument),
        (b"no table at all", CorruptDocument),
    ],
)
def test_a_file_written_anew_as_something_else_is_told_of_each_row(
    file: str, written: dict[str, list[object]] | bytes, fault: type[GemstreamError]
) -> None:
    storage, uri, path = open_storage("row://", OPTIONS), row_address(file, 1, "body=?"), Path(file[7:])
    version = storage.info(uri).version
    if isinstance(written, bytes):
        path.write_bytes(written)
    else:
        pq.write_table(pa.table(written), path)
    for _ in range(2):
        with pytest.raises(fault):
            storage.read(uri, version=version)


def test_a_damaged_page_is_told_of_each_row_in_it(file: str) -> None:
    path = Path(file[7:])
    pq.write_table(pa.table({"body=?": [bytes([n]) * 1000 for n in range(9)]}), path, compression="none")
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)
    for row in (0, 1, 0):
        with pytest.raises(CorruptDocument, match="cannot be read as Parquet"):
            open_storage("row://", OPTIONS).read(row_address(file, row, "body=?"))
