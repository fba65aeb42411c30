"""A commit that a client has made twice, its first answer being lost, and that others have built on since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import pytest

from schemas.storage import StorageOptions
from tests.workers.tables.lakes import lake_of, some
from tests.workers.tables.test_laws import made
from workers.storage.factory import normalise


def test_rows_that_can_no_more_be_taken_back_are_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = made(lake_of("lance", normalise(str(tmp_path / "lake")), StorageOptions(), tmp_path))
    staged, plainly, calls = lake.stage(some(1)), lance.LanceDataset.commit, [0]

    def twice(dataset: Any, change: Any, *told: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            plainly(dataset, change, *told)
        elif calls[0] == 2:  # what is to be taken back, written anew by somebody else
            lance.dataset(lake.place.uri.removeprefix("file://")).optimize.compact_files()
        return plainly(dataset, change, *told)

    with monkeypatch.context() as patched:
        patched.setattr(lance.LanceDataset, "commit", twice)
        assert not lake.commit([staged], key="first")

    assert lake.keys() == [1, 1]
    assert lake.commit([lake.stage(some(1))], lake.newest.files(), key="what is there too much")
    assert lake.keys() == [1]
