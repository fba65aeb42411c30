"""`auto`: the model of a pool's family that suits the memory there is. Pure: who asks has measured it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from schemas.errors import JobError
from schemas.models.cards import CARDS, WIDTHS, Card

if TYPE_CHECKING:
    from schemas.models.base import Model
    from schemas.models.cards import Pool, Width

AUTO = "auto"
Precision = Literal["efficiency", "balanced", "quality"]
WIDTH: dict[Precision, Width] = {"efficiency": "int4", "balanced": "fp8", "quality": "bf16"}
FAMILY: dict[Pool, str] = {"vision": "Gemma 3", "audio": "Gemma 3n"}

ROOM = 1.3
"""Memory over that of the weights. Red Hat's validated minima are 28.1 GB for Gemma 3 12B (24.0 GB of
weights) and 13.6 for Gemma 3n E4B in FP8 (11.9): at most 1.17; and an engine takes no more than 0.85 to
0.92 of its GPU."""


def choose(pool: Pool, gigabytes: float, precision: Precision, *, smallest: bool = False) -> Model:
    """The largest model of the pool's family that fits, of the weights of this precision.

    Args:
        pool: which kind of part it is for.
        gigabytes: memory of the device that it is to live on, in 10^9 bytes.
        precision: `efficiency` is int4 (W4A16), `balanced` FP8, `quality` bf16.
        smallest: the smallest that fits instead.

    Raises:
        JobError: none fits.
    """
    width = WIDTH[precision]
    fitting = _fitting(pool, gigabytes, width)
    if not fitting:
        raise _nothing(pool, gigabytes, precision)
    card = fitting[0] if smallest else fitting[-1]
    return card.model(card.weights[width] or "")


def needs(card: Card, width: Width) -> float:
    """Memory that it needs, in 10^9 bytes. Of weights whose size nobody says, that of wider ones, for fewer
    bits never take more; infinite where nobody says that either."""
    sizes = [card.gigabytes[wider] for wider in WIDTHS[: WIDTHS.index(width) + 1]]
    known = [size for size in sizes if size is not None]
    return ROOM * known[-1] if known else math.inf


def _offered(pool: Pool, width: Width) -> list[Card]:
    """The family's models of which there are such weights, from the smallest to the largest."""
    family = [card for card in CARDS if card.pool == pool and card.family == FAMILY[pool]]
    return sorted((card for card in family if card.weights[width]), key=lambda card: card.billions)


def _fitting(pool: Pool, gigabytes: float, width: Width) -> list[Card]:
    return [card for card in _offered(pool, width) if needs(card, width) <= gigabytes]


def _nothing(pool: Pool, gigabytes: float, precision: Precision) -> JobError:
    width = WIDTH[precision]
    least = min(_offered(pool, width), key=lambda card: needs(card, width))
    others = [name for name in WIDTH if _fitting(pool, gigabytes, WIDTH[name])]
    way_out = f"set models.precision to {' or '.join(others)}" if others else "name a model that fits"
    return JobError(
        f"models.{pool}: auto finds no {FAMILY[pool]} for {gigabytes:.1f} GB at {precision} ({width}), since "
        f"{least.size}, which needs least, needs {needs(least, width):.1f} GB; {way_out}",
        key=f"models.{pool}",
    )
