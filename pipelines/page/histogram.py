"""Distributions of a hundred million values in some kilobytes: counted in fine bins, shown in coarse ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.page.model import Distribution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

SHOWN = 24
"""Bins of a chart, about."""
FINE = 64
"""Bins of a decade of seconds: a percentile is off by 3.7% at most."""
SHORTEST, DECADES = 1e-3, 7
TOKENS = 131_072
"""Longer answers than Gemma's context there are none."""


class Logarithmic:
    """Of times, from a millisecond to some hours; what is shorter or longer counts in the outermost bins."""

    def __init__(self) -> None:
        self._counts = np.zeros(FINE * DECADES, np.int64)
        self._most = 0.0

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Count values in, none of which is NaN."""
        if not len(values):
            return
        self._most = max(self._most, float(values.max()))
        place = np.log10(np.maximum(values, SHORTEST) / SHORTEST) * FINE
        self._counts += _counted(place.astype(np.int64), len(self._counts))

    def distribution(self) -> Distribution | None:
        """In bins that are as many times as wide as they need be; None where nothing was counted."""

        def edge(place: float) -> float:
            return float(SHORTEST * 10 ** (place / FINE))

        return _shown(self._counts, edge, (1, 2, 4, 8, 16, 32), most=self._most, log=True)


class Whole:
    """Of whole numbers, each counted exactly.

    Args:
        most: what is more than that counts as it.
    """

    def __init__(self, most: int = TOKENS) -> None:
        self._counts = np.zeros(most + 1, np.int64)

    def add(self, values: npt.NDArray[np.int64]) -> None:
        """Count values in."""
        self._counts += _counted(values, len(self._counts))

    def distribution(self) -> Distribution | None:
        """In bins of 1, 2, 5, 10, … each; None where nothing was counted."""
        steps = [step * 10**power for power in range(5) for step in (1, 2, 5)]
        return _shown(self._counts, float, steps, exact=True)


class Shares:
    """Of values from 0 to 1."""

    def __init__(self) -> None:
        self._counts = np.zeros(1_000, np.int64)

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Count values in, none of which is NaN."""
        self._counts += _counted((values * 1_000).astype(np.int64), 1_000)

    def distribution(self) -> Distribution | None:
        """In bins of a twentieth; None where nothing was counted."""
        return _shown(self._counts, lambda place: place / 1_000, (50,))


def _counted(places: npt.NDArray[np.int64], bins: int) -> npt.NDArray[np.int64]:
    return np.bincount(np.clip(places, 0, bins - 1), minlength=bins)


def _shown(
    counts: npt.NDArray[np.int64],
    edge: Callable[[float], float],
    widths: Sequence[int],
    *,
    most: float = float("inf"),
    exact: bool = False,
    log: bool = False,
) -> Distribution | None:
    """Fine bins, several as one.

    Args:
        counts: of the fine bins.
        edge: where a fine bin begins, by its number.
        widths: how many may be taken as one: the first that makes few enough of them, or the last.
        most: the largest value, where it is known better than by its bin.
        exact: a bin holds one value alone, its edge.
        log: see `Distribution`.
    """
    found = np.flatnonzero(counts)
    if not len(found):
        return None
    low, high = int(found[0]), int(found[-1])
    wide = next((width for width in widths if high // width - low // width < SHOWN), widths[-1])
    first, last = low // wide, high // wide + 1
    coarse = np.pad(counts, (0, -len(counts) % wide)).reshape(-1, wide).sum(1)[first:last]
    upto = np.cumsum(counts)

    def share(part: float) -> float:
        place = int(np.searchsorted(upto, max(1, np.ceil(int(upto[-1]) * part))))
        return round(min(most, edge(place) if exact else (edge(place) + edge(place + 1)) / 2), 6)

    return Distribution(
        edges=tuple(round(edge(place * wide), 6) for place in range(first, last + 1)),
        counts=tuple(coarse.tolist()),
        total=int(upto[-1]),
        median=share(0.5),
        p95=share(0.95),
        most=round(min(most, edge(high) if exact else edge(high + 1)), 6),
        log=log,
    )
