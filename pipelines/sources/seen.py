"""Which documents a manifest has named already."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt


class SeenSet:
    """A set of 128-bit ids at 16 bytes each; a Python set of them takes 91 bytes each.

    Sorted runs, each at least twice the length of the next, merged as they grow: ten million ids
    lie in 160 MB, and for a moment while two runs merge in twice that.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self._runs: list[npt.NDArray[np.bytes_]] = []

    def __len__(self) -> int:
        """How many ids it holds."""
        return sum(len(run) for run in self._runs)

    def add(self, ids: Sequence[bytes]) -> list[bool]:
        """Add the ids; True for each that was not there, and not earlier among `ids` either."""
        import numpy as np

        if not ids:
            return []
        block = np.array(ids, dtype="S16")
        fresh = np.zeros(len(block), dtype=bool)
        fresh[np.unique(block, return_index=True)[1]] = True
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, block), len(run) - 1)
            fresh &= run[at] != block
        if fresh.any():
            self._runs.append(np.sort(block[fresh]))
            self._merge()
        return [bool(new) for new in fresh]

    def _merge(self) -> None:
        import numpy as np

        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            merged = np.concatenate((self._runs[-2], self._runs[-1]))
            del self._runs[-2:]
            merged.sort(kind="stable")  # which makes use of the two runs being sorted
            self._runs.append(merged)
