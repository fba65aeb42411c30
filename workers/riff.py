"""WAV files by their chunks: what lies behind the sound that a header admits to."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 8
"""Bytes of a chunk's name and size."""


def seconds_behind(path: Path) -> float:
    """Sound behind a WAV's `data` chunk, as that says its size: what a recorder wrote after it wrote its
    header for the last time. Zero where other chunks follow, or nothing, or where it is no such file.

    Source: *Multimedia Programming Interface and Data Specifications 1.0*, IBM and Microsoft, 1991: chunks
    of a name of four characters, a size and as many bytes, filled up to an even number.
    """
    whole, rate = path.stat().st_size, 0
    with path.open("rb") as file:
        if file.read(4) != b"RIFF" or file.read(HEAD)[4:] != b"WAVE":
            return 0.0
        while (chunk := _chunk(file.read(HEAD))) is not None:
            name, size = chunk
            begin = file.tell()
            if name == b"fmt ":
                rate = int.from_bytes(file.read(12)[8:], "little")
            if name == b"data":
                break
            file.seek(begin + size + size % 2)
        else:
            return 0.0
        # Not all writers fill up.
        for end in {begin + size, begin + size + size % 2}:
            file.seek(end)
            following = _chunk(file.read(HEAD))
            if following is not None and end + HEAD + following[1] <= whole + 1:
                return 0.0
    return max(0, whole - begin - size) / rate if rate else 0.0


def _chunk(head: bytes) -> tuple[bytes, int] | None:
    """A chunk's name and size; None if there is none, or its name is none."""
    if len(head) < HEAD or not all(0x20 <= byte < 0x7F for byte in head[:4]):
        return None
    name, size = struct.unpack("<4sI", head)
    return name, size
