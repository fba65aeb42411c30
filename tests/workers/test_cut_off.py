"""What was cut off is not shown as a whole, and what lacks but its end marker is."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from schemas.errors import CorruptDocument
from schemas.limits import Limits
from workers.expand import ExpandOptions
from workers.expand.image import ImageExpander

LIMITS, OPTIONS = Limits(), ExpandOptions()


def expanded(path):
    opened = ImageExpander().open(path, path.parent, OPTIONS, LIMITS)
    return opened, ImageExpander().parts(path, path.parent, opened, 0, opened.parts_total, OPTIONS, LIMITS)


def shown(part):
    assert part.error is None
    return Image.open(io.BytesIO(part.content)).convert("RGB")


def striped():
    """Of another colour every 40 rows, to the last."""
    colours = np.random.default_rng(0).integers(0, 100, (20, 1, 3), np.uint8)
    return Image.fromarray(colours.repeat(40, 0).repeat(1_200, 1))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("end", [1, 2, 3])
def test_a_jpeg_that_lacks_but_its_end_is_whole(tmp_path, mode, end):
    path = tmp_path / "a.jpg"
    striped().convert(mode).save(path, quality=90)
    whole = path.read_bytes()
    _, [before] = expanded(path)
    path.write_bytes(whole[:-end])
    _, [part] = expanded(path)
    if end < 3:
        assert part.content == before.content
    else:
        difference = np.asarray(shown(part), np.int16) - np.asarray(shown(before), np.int16)
        assert np.abs(difference)[:-16].max() == 0, "of what is behind nobody knows whether it is there"


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_of_a_jpeg_no_more_than_its_end_may_lack(tmp_path, mode, progressive, share):
    path = tmp_path / "a.jpg"
    Image.effect_noise((1_200, 800), 40).convert(mode).save(path, quality=90, progressive=progressive)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises((CorruptDocument, OSError)):
        expanded(path)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("rows", [0, 40, 79, 80])
def test_a_png_with_fewer_rows_than_it_says_is_not_black_below(tmp_path, mode, rows):
    # Its stream ends as it should, but early. Black to the last row, so that its rows are counted.
    path = tmp_path / "a.png"
    Image.new(mode, (120, 80)).save(path)
    whole = path.read_bytes()
    begin, end = whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4
    data = zlib.decompress(whole[begin + 8 : end - 4])
    less = zlib.compress(data[: len(data) // 80 * rows])
    chunk = b"IDAT" + less
    body = len(less).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    path.write_bytes(whole[:begin] + body + whole[end:])
    try:
        _, [part] = expanded(path)
    except OSError:
        assert rows == 0, "of nothing at all Pillow says so"
        return
    if rows == 80:
        assert shown(part).size == (120, 80)
        return
    assert isinstance(part.error, CorruptDocument) and part.error.message.endswith(f"and has {rows:,}")
