"""Whatever a file holds, the model gets it upright, in true colours, over white, no larger than it sees."""

import io
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, TiffImagePlugin

from schemas.errors import CorruptDocument, LimitExceeded, UnsupportedMedia
from schemas.limits import Limits
from workers.expand import ExpandOptions
from workers.expand.image import ImageExpander, eight_bits

OPTIONS = ExpandOptions()
LIMITS = Limits()


def expanded(path, options=OPTIONS, limits=LIMITS):
    opened = ImageExpander().open(path, path.parent, options, limits)
    return opened, ImageExpander().parts(path, path.parent, opened, 0, opened.parts_total, options, limits)


def shown(part):
    assert part.error is None
    picture = Image.open(io.BytesIO(part.content))
    assert picture.format == "JPEG"
    return picture.convert("RGB")


def corners(picture):
    """Mean colours of the four quarters, coarse enough to survive JPEG and scaling."""
    means = [np.asarray(quarter).mean(axis=(0, 1)) for quarter in quarters(picture)]
    return [tuple(round(value / 64) for value in mean) for mean in means]


def quarters(picture):
    width, height = picture.size
    for left, top in ((0, 0), (width // 2, 0), (0, height // 2), (width // 2, height // 2)):
        yield picture.crop((left + 4, top + 4, left + width // 2 - 4, top + height // 2 - 4))


def flag(width=120, height=80):
    """Red, green over blue, white."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width // 2 - 1, height // 2 - 1), "red")
    draw.rectangle((width // 2, 0, width, height // 2 - 1), "lime")
    draw.rectangle((0, height // 2, width // 2 - 1, height), "blue")
    return picture


UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
CLOCKWISE = {1: 0, 2: 0, 3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("size", [(120, 80), (480, 320)])
def test_all_eight_orientations_give_the_same_upright_picture(tmp_path, kind, size):
    for orientation in range(1, 9):
        stored = flag(*size)
        if orientation in UNDO:
            stored = stored.transpose(UNDO[orientation])
        exif = Image.Exif()
        exif[274] = orientation
        path = tmp_path / f"{orientation}.{kind}"
        stored.save(path, kind, exif=exif, quality=95)
        [part] = expanded(path, ExpandOptions(image_size=224))[1]
        picture = shown(part)
        assert corners(picture) == corners(flag(*size)), orientation
        assert (part.width, part.height) == size
        assert part.rotation == CLOCKWISE[orientation]
        assert picture.size == ((224, 149) if max(size) > 224 else size)


@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)).filter(lambda size: size[0] * size[1] < 1_500_000),
    st.sampled_from([32, 224, 896]),
    st.sampled_from(["JPEG", "PNG"]),
)
def test_shape_is_kept_and_nothing_grows(tmp_path_factory, size, longest, kind):
    path = tmp_path_factory.getbasetemp() / f"shape.{kind}"
    Image.new("L", size, 128).save(path, kind)
    _, [part] = expanded(path, ExpandOptions(image_size=longest))
    width, height = shown(part).size
    assert max(width, height) == min(longest, max(size))
    assert (part.width, part.height) == size
    scale = max(width, height) / max(size)
    assert abs(width - max(1, size[0] * scale)) <= 1 and abs(height - max(1, size[1] * scale)) <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"])
def test_colour_spaces_come_out_as_seen(tmp_path, mode):
    picture = flag(240, 160)
    if mode == "LAB":
        from PIL import ImageCms

        transform = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        stored = ImageCms.applyTransform(picture, transform)
    else:
        stored = picture.convert(mode)
    kind = {"P": "PNG", "1": "TIFF", "LAB": "TIFF", "YCbCr": "JPEG"}.get(mode, "TIFF")
    stored.save(tmp_path / "a", kind)
    [part] = expanded(tmp_path / "a")[1]
    expected = picture.convert("L").convert("RGB") if mode == "L" else picture
    if mode == "1":
        assert shown(part).getextrema()[0] == (0, 255)
    else:
        for seen, meant in zip(quarters(shown(part)), quarters(expected), strict=True):
            assert np.abs(np.asarray(seen, int).mean((0, 1)) - np.asarray(meant, int).mean((0, 1))).max() < 40


def test_a_cmyk_jpeg_is_not_a_negative(tmp_path):
    Image.new("CMYK", (64, 64), (0, 0, 0, 0)).save(tmp_path / "white.jpg", quality=95)
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    assert np.asarray(shown(expanded(tmp_path / "white.jpg")[1][0])).min() > 240
    red = np.asarray(shown(expanded(tmp_path / "red.jpg")[1][0])).mean((0, 1))
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


@given(st.integers(0, 65535))
def test_sixteen_bits_are_scaled_not_clipped(value):
    deep = Image.fromarray(np.full((4, 4), value, np.uint16))
    assert deep.mode == "I;16"
    assert np.asarray(eight_bits(deep))[0, 0] == value >> 8


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_a_sixteen_bit_scan_keeps_its_greys(tmp_path, kind):
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[None, :].repeat(64, axis=0)
    Image.fromarray(ramp).save(tmp_path / "a", kind)
    seen = np.asarray(shown(expanded(tmp_path / "a")[1][0]).convert("L"), int)
    assert abs(seen.mean() - 127.5) < 2
    assert np.abs(seen[32] - np.arange(256)).max() < 8


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 127, 255]),
        (np.array([[0.0, 127.0, 255.0]], np.float32), [0, 127, 255]),
        (np.array([[np.nan, -3.0, 1000.0]], np.float32), [0, 0, 3]),
        (np.array([[0, 128, 255]], np.int32), [0, 128, 255]),
        (np.array([[0, 32896, 65535]], np.int32), [0, 128, 255]),
        (np.array([[0, 1 << 29, 1 << 30]], np.int32), [0, 127, 255]),
    ],
)
def test_deeper_samples_are_scaled_by_the_range_they_use(samples, expected):
    assert np.asarray(eight_bits(Image.fromarray(samples))).tolist() == [expected]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_what_is_transparent_is_white(tmp_path, mode):
    picture = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    ImageDraw.Draw(picture).rectangle((50, 0, 99, 99), (0, 0, 0, 255))
    if mode == "P":
        stored = picture.convert("P")
        stored.info["transparency"] = stored.getpixel((10, 10))
        stored.putpalette([255, 0, 0] * 256)
        ImageDraw.Draw(stored).rectangle((50, 0, 99, 99), (stored.getpixel((10, 10)) + 1) % 256)
    elif mode == "PA":
        stored = Image.new("P", (100, 100))
        stored.putpalette([0, 0, 0] * 256)
        stored.putalpha(picture.getchannel("A"))
        assert stored.mode == "PA"
    else:
        stored = picture.convert(mode)
    kind = "TIFF" if mode == "PA" else "PNG"
    stored.save(tmp_path / "a", kind)
    seen = np.asarray(shown(expanded(tmp_path / "a")[1][0]))
    assert seen[50, 20].min() > 245
    assert seen[50, 80].min() < 20


def test_pages_of_a_tiff_are_parts_and_its_thumbnails_are_not(tmp_path):
    pages = [Image.new("L", (200 + 10 * number, 100), 40 * number) for number in range(5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    opened, parts = expanded(tmp_path / "a.tif")
    assert opened.parts_total == 5
    assert [part.width for part in parts] == [200, 210, 220, 230, 240]
    assert [round(np.asarray(shown(part)).mean() / 40) for part in parts] == [0, 1, 2, 3, 4]
    middle = ImageExpander().parts(tmp_path / "a.tif", tmp_path, opened, 2, 4, OPTIONS, LIMITS)
    assert middle == parts[2:4]

    reduced = TiffImagePlugin.ImageFileDirectory_v2()
    reduced[254] = 1
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "b.tif"), True) as out:
        pages[3].save(out, "TIFF")
        out.newFrame()
        pages[3].resize((23, 10)).save(out, "TIFF", tiffinfo=reduced)
    opened, [part] = expanded(tmp_path / "b.tif")
    assert part.width == 230
    assert opened.warnings == ("smaller copies of its pages are left out",)


def copies(path, widths, behind=None, heights=(120,)):
    """A TIFF whose frames are all marked as smaller copies; `behind`, of a picture in a directory below."""
    reduced = TiffImagePlugin.ImageFileDirectory_v2()
    reduced[254] = 1
    if behind is not None:
        reduced[330] = behind
        reduced.tagtype[330] = 4
    with TiffImagePlugin.AppendingTiffWriter(str(path), True) as out:
        for number, width in enumerate(widths, 1):
            height = heights[(number - 1) % len(heights)]
            Image.new("RGB", (width, height), "red").save(out, "TIFF", tiffinfo=reduced)
            if number < len(widths):
                out.newFrame()
    return path


@pytest.mark.parametrize(("widths", "behind"), [([160], 8), ([160, 80], None), ([160, 160], 8)])
def test_the_thumbnail_of_a_raw_is_not_the_photo(tmp_path, widths, behind):
    """Under whatever name; a DNG, NEF or ARW has its picture in a directory below that of the thumbnail."""
    with pytest.raises(UnsupportedMedia, match=r"smaller copies.*convert it to PDF or PNG") as caught:
        expanded(copies(tmp_path / "a.tif", widths, behind))
    assert caught.value.fields["stage"] == "expand"


@pytest.mark.parametrize("count", [1, 3])
def test_pages_that_are_all_marked_as_copies_are_all_there_is(tmp_path, count):
    """Those of a fax may be of any length."""
    path = copies(tmp_path / "a.tif", [160] * count, heights=(220, 110))
    opened, parts = expanded(path)
    assert [(part.error, part.width) for part in parts] == [(None, 160)] * count
    assert opened.warnings == ("all its pages are marked as smaller copies of others; they are shown",)
    with pytest.raises(LimitExceeded, match=rf"limits\.pages = {count - 1}"):
        expanded(path, limits=LIMITS.model_copy(update={"pages": count - 1}))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "MPO", "AVIF"])
def test_of_animations_the_first_frame_is_shown(tmp_path, kind):
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:])
    opened, [part] = expanded(tmp_path / "a")
    red = np.asarray(shown(part)).mean((0, 1))
    assert red[0] > 200 and red[1] < 60 and red[2] < 60
    assert any("several frames" in warning for warning in opened.warnings)


def test_the_camera_is_metadata_and_the_place_is_not(tmp_path):
    exif = Image.Exif()
    exif[271], exif[272], exif[270] = "Canon", "EOS 5D", "a lease\0"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 30.0)
    flag().save(tmp_path / "a.jpg", exif=exif)
    opened, _ = expanded(tmp_path / "a.jpg")
    assert opened.metadata == {
        "format": "JPEG",
        "mode": "RGB",
        "make": "Canon",
        "model": "EOS 5D",
        "description": "a lease",
    }


def test_unreadable_exif_loses_no_picture(tmp_path):
    flag().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(200)))
    _, [part] = expanded(tmp_path / "a.jpg")
    assert shown(part).size == (120, 80)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF"])
def test_half_a_picture_is_not_a_picture(tmp_path, kind):
    noise = Image.frombytes("RGB", (200, 200), random.Random(1).randbytes(120_000))
    noise.save(tmp_path / "a", kind)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((CorruptDocument, OSError, ValueError, RuntimeError, SyntaxError, EOFError)):
        shown(expanded(tmp_path / "a")[1][0])


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), CorruptDocument, "it begins as PNG and is damaged"),
        (b"not a picture at all", CorruptDocument, "none of the image formats"),
        (b"BLP2\x01\x00\x00\x00" + bytes(300), CorruptDocument, "none of the image formats"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", CorruptDocument, "none of the image formats"),
    ],
)
def test_what_is_no_picture_says_so(tmp_path, content, error, words):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(error, match=words):
        expanded(tmp_path / "a")


def test_a_variant_nobody_reads_is_unsupported_not_corrupt(tmp_path):
    samples = TiffImagePlugin.ImageFileDirectory_v2()
    samples[339] = 3  # 8-bit floats
    Image.new("RGB", (10, 10)).save(tmp_path / "a.tif", tiffinfo=samples)
    with pytest.raises(UnsupportedMedia, match="variant of TIFF"):
        expanded(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "ICO"])
def test_too_many_pixels_are_refused_by_the_header(tmp_path, kind):
    Image.new("RGB", (256, 256)).save(tmp_path / "a", kind)
    with pytest.raises(LimitExceeded, match=r"65,536|256 x 256") as caught:
        opened, parts = expanded(tmp_path / "a", limits=Limits(pixels=20_000))
        raise parts[0].error
    assert caught.value.fields["limit"] == "limits.pixels"
    assert "limits.pixels = 20,000" in caught.value.message


def test_a_page_that_was_cut_off_a_tiff_is_an_error(tmp_path):
    pages = [Image.new("L", (100, 100), 40 * number) for number in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with Image.open(tmp_path / "a.tif") as image:
        image.seek(3)
        place = image._frame_pos[3]
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: place + 20])
    opened, parts = expanded(tmp_path / "a.tif")
    assert [type(part.error) for part in parts] == [type(None), type(None), type(None), CorruptDocument]
    assert any("after page 3" in warning for warning in opened.warnings)


def test_one_huge_page_of_a_tiff_costs_that_page(tmp_path):
    pages = [Image.new("L", (100, 100)), Image.new("L", (300, 300)), Image.new("L", (50, 100))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    _, parts = expanded(tmp_path / "a.tif", limits=Limits(pixels=20_000))
    assert [part.error is None for part in parts] == [True, False, True]
    assert isinstance(parts[1].error, LimitExceeded)
    with pytest.raises(LimitExceeded, match=r"limits\.pages = 2"):
        expanded(tmp_path / "a.tif", limits=Limits(pages=2))


@pytest.mark.parametrize("name", ["pillow_heif__zPug_3.heic", "torchcodec__gradient_rotated.heic"])
def test_heic_is_read_and_turned(corpus, name):
    opened, [part] = expanded(corpus / "image" / name)
    assert opened.metadata["format"] == "HEIF"
    assert shown(part).size == (part.width, part.height) or max(shown(part).size) == 896
    if "rotated" in name:
        assert (part.width, part.height, part.rotation) == (720, 1280, 90)
