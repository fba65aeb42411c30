"""What a part looks or sounds like, small: a JPEG of our own making, or the outline of a sound."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from schemas.errors import CorruptDocument

if TYPE_CHECKING:
    from PIL import Image

SIZE = (460, 560)
QUALITIES = (74, 60, 45, 30)
THUMBNAIL_BYTES = 48_000
"""Twelve of them are 0.8 MB of page at most; one of print takes 20 to 30 kB at the best quality."""
PIXELS = 4096 * 4096
COLUMNS, HEIGHT = 240, 100


def thumbnail(content: bytes) -> str:
    """A JPEG, from a process that hostile bytes may have taken over, as the data URI of another one.

    Raises:
        CorruptDocument: it is none.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            if image.width * image.height > PIXELS:
                raise CorruptDocument(f"a picture of {image.width} x {image.height} pixels")
            image.draft("RGB", (2 * SIZE[0], 2 * SIZE[1]))
            small = image.convert("RGB")
            small.thumbnail(SIZE)
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptDocument(f"the picture does not open: {error}") from error
    return f"data:image/jpeg;base64,{base64.b64encode(_encoded(small)).decode()}"


def _encoded(image: Image.Image) -> bytes:
    """As good as there is room for."""
    body = b""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        body = buffer.getvalue()
        if len(body) <= THUMBNAIL_BYTES:
            break
    return body


def outline(content: bytes) -> str:
    """Samples as float32 -> the path of their highest and lowest in each of some columns, in a box of COLUMNS
    by HEIGHT; the loudest reaches its edges."""
    import numpy as np

    samples = np.nan_to_num(np.frombuffer(content[: len(content) // 4 * 4], np.float32), posinf=0, neginf=0)
    if not len(samples):
        return ""
    starts = np.linspace(0, len(samples), min(COLUMNS, len(samples)), endpoint=False).astype(np.int64)
    high, low = np.maximum.reduceat(samples, starts), np.minimum.reduceat(samples, starts)
    peak = max(float(np.abs(samples).max()), 1e-6)
    middle, reach = HEIGHT / 2, HEIGHT / 2 - 2
    across = np.linspace(0, COLUMNS, len(starts))
    # Half a unit apart at least, so that silence is a line.
    tops = list(zip(across, middle - np.maximum(high / peak * reach, 0.5), strict=True))
    bottoms = list(zip(across, middle - np.minimum(low / peak * reach, -0.5), strict=True))
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in [*tops, *reversed(bottoms)]) + "Z"
