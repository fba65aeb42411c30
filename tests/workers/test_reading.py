"""The key columns back, and little else moved."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from schemas.errors import JobError, ObjectChanged, ObjectMissing
from schemas.storage import StorageOptions
from tests.workers.places import Place, place
from tests.workers.test_parquet_sink import outcomes, row, sink
from workers.sinks.reading import WHOLE_BYTES, part_files, read_columns, read_latest, read_part
from workers.storage.factory import join
from workers.storage.local import LocalStorage

__all__ = ["place"]

KEYS = ["document_id", "version", "part_index", "fingerprint"]


def test_the_columns_asked_for_come_back_from_every_part_file(place: Place) -> None:
    ours = sink(place.root, place.options)
    rows = [row(document, part) for document in range(20) for part in range(3)]
    for start in range(20):
        ours.write(outcomes(rows[start::20]))
    place.put("records/task=ocr/_SUCCESS")
    place.put("records/task=ocr/notes.parquet", b"not ours")
    place.put("records/task=ocrx/part-1.parquet", b"another task's")
    tables = list(read_columns(place.root, place.options, "records/task=ocr", KEYS[::-1]))
    assert len(tables) == 20
    assert {tuple(table.column_names) for table in tables} == {tuple(KEYS[::-1])}
    found = sorted((key["document_id"], key["part_index"]) for table in tables for key in table.to_pylist())
    assert found == sorted((made["document_id"], made["part_index"]) for made in rows)


def test_an_output_that_is_not_there_yet_holds_nothing(place: Place) -> None:
    assert list(read_columns(place.root, place.options, "records/task=ocr", KEYS)) == []
    assert list(part_files(place.storage, join(place.root, "errors"))) == []


def test_a_file_that_others_sweep_is_read_as_it_is_now(place: Place) -> None:
    ours = sink(place.root, place.options)
    for document in range(3):
        ours.write(outcomes([row(document, 0)]))
    kept, swept, gone = part_files(place.storage, join(place.root, "records/task=ocr"))
    place.storage.publish(swept.uri, place.storage.read(kept.uri))
    place.storage.delete(gone.uri)
    for info in (swept, gone):
        with pytest.raises((ObjectChanged, ObjectMissing)):
            read_part(place.storage, info, KEYS)
    latest = read_latest(place.storage, swept, KEYS)
    assert latest is not None and latest.info == place.storage.info(swept.uri) != swept
    assert latest.rows == read_part(place.storage, kept, KEYS).rows
    assert read_latest(place.storage, gone, KEYS) is None


def test_of_a_large_file_only_columns_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"{random.getrandbits(40):x}" for _ in range(4_000)]
    ours = sink(str(tmp_path))
    [receipt] = ours.write(
        outcomes([row(document, text=" ".join(random.choices(words, k=120))) for document in range(4_000)])
    )
    moved: list[int] = []
    real = LocalStorage.read

    def read(self: LocalStorage, uri: str, **options: object) -> bytes:
        content = real(self, uri, **options)  # type: ignore[arg-type]
        moved.append(len(content))
        return content

    monkeypatch.setattr(LocalStorage, "read", read)
    [table] = read_columns(str(tmp_path), StorageOptions(), "records/task=ocr", KEYS)
    assert table.num_rows == 4_000
    assert receipt.bytes > WHOLE_BYTES
    assert sum(moved) < 250_000  # the footer is guessed at 64 kB; the document ids are all different here
    assert len(moved) <= 5


def test_a_foreign_file_in_the_output_is_named(tmp_path: Path) -> None:
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors" / "part-1.parquet").write_bytes(b"PAR1 in name only")
    with pytest.raises(JobError, match=r"part-1.parquet is no Parquet file"):
        list(read_columns(str(tmp_path), StorageOptions(), "errors", KEYS))


@pytest.mark.parametrize("what", ["footer", "page"])
def test_a_damaged_file_in_the_output_is_named(tmp_path: Path, what: str) -> None:
    [receipt] = sink(str(tmp_path)).write(outcomes([row(document) for document in range(100)]))
    file = Path(receipt.uri.removeprefix("file://"))
    content = bytearray(file.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for byte in range(40):
        content[{"footer": footer, "page": 4}[what] + byte] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(JobError, match=f"{file.name} is no Parquet file, or a damaged one"):
        list(read_columns(str(tmp_path), StorageOptions(), "records/task=ocr", KEYS))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    sink(str(tmp_path)).write(outcomes([row(1)]))
    with pytest.raises(JobError, match="no column 'data'"):
        list(read_columns(str(tmp_path), StorageOptions(), "records/task=ocr", ["uri", "data"]))


def test_the_reader_may_stop_early(place: Place) -> None:
    ours = sink(place.root, place.options)
    for document in range(12):
        ours.write(outcomes([row(document)]))
    tables = read_columns(place.root, place.options, "records/task=ocr", KEYS)
    assert next(tables).num_rows == 1
    del tables
