"""A question that takes no engine down that takes anything: about a grey picture, silence, or nothing."""

from __future__ import annotations

import io

from schemas.rows import PartKind
from workers.engines import Media, Request

SIDE = 224
"""Pixels of the picture. Engines bring it to the size that they see."""
SILENCE = bytes(4 * 16_000)
"""A second of it, as engines are handed sound."""


def harmless(kind: PartKind | None) -> Request:
    """It asks for one token about a part of this kind, or about none."""
    media = None
    if kind is not None:
        content = SILENCE if kind is PartKind.AUDIO else _grey()
        media = Media(kind, content, f"harmless {kind.value}")
    return Request("harmless", "Say yes.", media, max_tokens=1)


def _grey() -> bytes:
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "grey").save(picture, "JPEG")
    return picture.getvalue()
