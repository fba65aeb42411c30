"""What a publisher may write, and when."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.publish import Publisher
from schemas.errors import LeaseLost


def test_a_run_that_lost_its_lease_begins_no_more_files() -> None:
    """It was paused, say, and woke with a block in hand and its lease run out."""

    def check() -> None:
        raise LeaseLost("another run may write there now")

    nothing: Any = None
    publisher = Publisher(nothing, nothing, check)
    publisher._take([(object(), 1)])
    with pytest.raises(LeaseLost):
        publisher._write()
    assert not publisher._writing
