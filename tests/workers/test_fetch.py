"""Documents on their way to this machine, by what their list says of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from schemas.errors import GemstreamError, ObjectMissing, StorageUnavailable
from schemas.limits import Limits
from schemas.rows import KEPT
from schemas.storage import StorageOptions
from workers.fetch import IN_DOUBT, Fetcher, documents_of


@pytest.mark.parametrize(
    ("name", "kept", "fault"),
    [
        ("a.txt", None, None),
        ("a.txt", ["0/ocr", "/ocr"], None),
        ("a.txt", [IN_DOUBT], StorageUnavailable),
        ("b.txt", [IN_DOUBT], ObjectMissing),
    ],
)
def test_what_may_have_been_answered_is_not_asked_about(
    tmp_path: Path, name: str, kept: list[str] | None, fault: type[GemstreamError] | None
) -> None:
    (tmp_path / "a.txt").write_text("a")
    row = {"document_id": "d", "uri": f"file://{tmp_path}/{name}", "version": "", "size": None}
    listed = pa.Table.from_pylist([row]).append_column("kept", pa.array([kept], KEPT))
    [document] = documents_of(listed)
    assert document.kept == ({0: ("ocr",)} if kept == ["0/ocr", "/ocr"] else {})
    fetcher = Fetcher(StorageOptions(), Limits(), lambda sniffed: True)
    try:
        [found] = fetcher.stream([document])
    finally:
        fetcher.close()
    assert type(found.fault) is (fault or type(None))
    assert bool(found.document.version) is (fault is None)
