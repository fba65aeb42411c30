"""Which pages and pictures Gemma 3 is shown in tiles besides the whole, and how large they are drawn for it.

Gemma 3 sees a square, whatever it is given. Its processor's pan-and-scan adds crops along the longer side,
each a square of its own at the full number of tokens: a page in two tiles costs three times what it costs
whole. So a page gets tiles only where it needs them, and is drawn large enough that they show more than the
whole does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from schemas.rows import Tiling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from schemas.limits import Limits
    from workers.expand import ExpandOptions

MOST = 4
"""Tiles of one part, Google's own number; with the whole that is five times the tokens."""
NARROWEST = 16
"""Pixels of a tile's shorter side: in less there is no line of text."""
ELONGATED = 1.8
"""Longer side over shorter. Sheets (1.29 to 1.65) and screens of 16:9 (1.78) lie below it: they are squashed
by less than half, and a tile of two would be about as far from a square as the whole."""
SMALL_PIXELS = 9.5
"""Of a font's height as the model sees it: 9 pt on A4 at 896 pixels is 9.6 and 8 pt is 8.5. Of 98 pages with
text of 28 real PDFs, 39 in 10 documents have their most in smaller ones."""
WORTHWHILE = 1.5
"""A picture has to have so many times the pixels that the model sees of it whole: tiles of one that has not
would show the same again."""

STRIP = 32
"""Pixels. In a strip this wide a line of text that runs uphill by 2 degrees rises one pixel."""
LIGHT = 41
"""Rows over which the light is evened out."""
LAGS = 40
FINER = 4
"""Steps of a quarter of a pixel."""
BANDS = (3.75, 6.0)
"""Pixels from a line of small text to the gap beside it, which is 0.68 of the font's height; what is thinner
are rules and grain."""
REGULAR = 0.4
"""How much more alike rows are that are a line apart than rows that are half a line apart, as correlations.
Photos and drawings that are as regular are so at greater distances."""

Size = tuple[float, float]


def processor_arguments() -> dict[str, Any]:
    """What Gemma 3's image processor is told, so that it makes as many tiles as `tiles_of` says."""
    return {
        "do_pan_and_scan": True,
        "pan_and_scan_min_crop_size": NARROWEST,
        "pan_and_scan_max_num_crops": MOST,
        "pan_and_scan_min_ratio_to_activate": 1.0,
    }


def tiles_of(width: int, height: int) -> int:
    """How many tiles the processor makes of a picture; the formula of transformers' `pan_and_scan`."""
    longer, shorter = max(width, height), min(width, height)
    count = min(MOST, max(2, min(longer // NARROWEST, _along(longer, shorter))))
    return count if min(math.ceil(longer / count), shorter) >= NARROWEST else 0


def prompt_tokens(media_tokens: int, tiles: int = MOST) -> int:
    """What tiles add to a prompt at most: their own tokens, and the words that the processor puts around
    them, of which a token is at least a character. Each picture has a mark and two newlines at both ends."""
    words = "Here is the original image  and here are some crops to help you see better "
    return len(words) + tiles * (media_tokens + len(" ") + 6) if tiles else 0


def in_tiles(size: Size, is_dense: Callable[[], bool], options: ExpandOptions, limits: Limits) -> int:
    """The longest side at which a page or picture of this shape is drawn for tiles; 0 where it gets none.

    Args:
        size: width and height, in any unit.
        is_dense: whether its text is too small for the model when it is shown whole; asked only of what is
            not elongated, for it costs a look.
        options: the job's.
        limits: what its bitmap may hold.
    """
    longer, shorter = max(size), min(size)
    if options.tiling is not Tiling.AUTO or not (longer >= ELONGATED * shorter or is_dense()):
        return 0
    side = options.image_size * min(MOST, max(2, _along(longer, shorter)))
    drawn = (max(1, round(size[0] * side / longer)), max(1, round(size[1] * side / longer)))
    return side if drawn[0] * drawn[1] <= limits.pixels and tiles_of(*drawn) else 0


def is_small(heights: Iterable[tuple[float, int]], scale: float) -> bool:
    """Whether at least half of a page's characters are smaller than the model can read them.

    Args:
        heights: font size in points, and characters of that size.
        scale: pixels per point at which the page is shown whole.
    """
    counted = list(heights)
    small = sum(count for height, count in counted if height * scale < SMALL_PIXELS)
    return 2 * small >= sum(count for _, count in counted) > 0


def looks_dense(grey: Any) -> bool:
    """Whether a picture, at the size at which the model sees it whole, is one of small text.

    Lines of text are bands at regular distances. Each narrow strip of the picture has its profile of rows,
    and the mean autocorrelation of these has its first minimum where line and gap lie on one another. Over
    300 generated pages (prose, columns, tables and letters of 5.5 to 14 pt, 7 of 10 worn as by a scanner, a
    third skewed by up to 2 degrees) it finds 72 of 113 whose font is under 8.3 pixels and 24 of 43 from there
    to 9.5; of 38 from there to 10.5 it takes 7 for small, and 2 of 106 above, whose lines are tight; of 38
    photos and drawings none. It takes 0.8 ms at 896 pixels.

    Args:
        grey: two-dimensional array of 8-bit values.
    """
    import numpy as np

    rows, strips = len(grey), grey.shape[1] // STRIP
    if rows < 2 * LIGHT or not strips:
        return False
    profiles = grey[:, : strips * STRIP].reshape(rows, strips, STRIP).mean(2, dtype=np.float32).T
    padded = np.pad(profiles, ((0, 0), (LIGHT // 2 + 1, LIGHT // 2)), mode="edge")
    summed = np.cumsum(padded, axis=1, dtype=np.float64)
    profiles = profiles - (summed[:, LIGHT:] - summed[:, :-LIGHT]) / LIGHT
    # Rules and frames are few rows of much ink; without a bound they would speak for the page.
    bound = 3 * np.abs(profiles).mean()
    length = 1 << (rows + LAGS).bit_length()
    power = (np.abs(np.fft.rfft(np.clip(profiles, -bound, bound), length)) ** 2).sum(0)
    alike = np.fft.irfft(power, length * FINER)[: LAGS * FINER]
    if alike[0] <= 0:
        return False
    alike = alike / alike[0]
    minima = np.flatnonzero((alike[1:-1] <= alike[:-2]) & (alike[1:-1] < alike[2:])) + 1
    if not len(minima):
        return False
    gap = int(minima[0])
    return bool(BANDS[0] < gap / FINER <= BANDS[1] and alike[gap:].max() - alike[gap] > REGULAR)


def _along(longer: float, shorter: float) -> int:
    """Squares along the longer side, to the nearest whole number, halves up."""
    return math.floor(longer / shorter + 0.5)
