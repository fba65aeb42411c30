"""Images: upright, in 8-bit RGB over white, no larger than the model sees, as JPEG.

A file of pages (TIFF) gives one part per page. Of animations (GIF, WebP, APNG) and of files that
hold variants of one picture (MPO, HEIF bursts, PSD layers) the first, or primary, picture is shown.
"""

from __future__ import annotations

import io
import itertools
import re
import struct
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from schemas.errors import CorruptDocument, GemstreamError, LimitExceeded, UnsupportedMedia
from schemas.rows import PartKind
from workers.cut_off import load
from workers.expand import ExpandOptions, Opened, Part
from workers.tiles import WORTHWHILE, in_tiles, looks_dense, tiles_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL.Image import Image

    from schemas.limits import Limits

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF", "HEIF", "ICO", "PSD", "PPM")
"""What Pillow is allowed to open. It knows some 40 more, among them BLP, of which a file of 284
bytes took 661 MB, and EPS, which starts Ghostscript. MPO comes with JPEG."""

ROTATIONS = {3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}
"""EXIF orientation -> clockwise degrees that turn it upright; 2, 4, 5 and 7 are mirrored besides."""

TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""EXIF orientation -> Pillow's name of what turns it upright (its angles are counter-clockwise).
ImageOps.exif_transpose would do it at full size; after scaling it is a tenth of the work."""
REDUCED = 1
"""Bit of TIFF's NewSubfileType that marks a smaller copy of another page."""
SUB_IFDS = 330
"""TIFF tag: directories below this page's own; a raw's photo is in one."""

DESCRIBED = {270: "description", 271: "make", 272: "model", 305: "software", 306: "modified", 315: "artist"}
"""EXIF tags kept as metadata. Where a picture was taken is not among them."""


class ImageExpander:
    """Opens with Pillow, and pi-heif for HEIC; shrinks JPEGs while they decode."""

    media_types: ClassVar[tuple[str, ...]] = (
        "image/jpeg",
        "image/png",
        "image/gif",
        "image/webp",
        "image/tiff",
        "image/bmp",
        "image/jp2",
        "image/avif",
        "image/heic",
        "image/x-icon",
        "image/vnd.adobe.photoshop",
        "image/x-portable-anymap",
    )
    part_kind: ClassVar[PartKind] = PartKind.IMAGE
    chunk: ClassVar[int] = 4
    libraries: ClassVar[tuple[str, ...]] = ("PIL.Image", "PIL.ImageCms", "pi_heif", "numpy")

    def open(self, path: Path, scratch: Path, options: ExpandOptions, limits: Limits) -> Opened:
        """Read the header; no pixel is decoded yet.

        Raises:
            LimitExceeded: more pixels than `limits.pixels`, more frames than `limits.pages`.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with _opened(path, limits) as image:
                frames, notes = _frames(image, limits)
                metadata = {"format": image.format or "", "mode": image.mode, **_described(image, notes)}
        notes += [str(warning.message) for warning in caught]
        return Opened(
            parts_total=len(frames),
            plan={"frames": frames},
            metadata=metadata,
            warnings=tuple(dict.fromkeys(notes)),
        )

    def parts(
        self,
        path: Path,
        scratch: Path,
        opened: Opened,
        start: int,
        stop: int,
        options: ExpandOptions,
        limits: Limits,
    ) -> list[Part]:
        """Decode frames `start` to `stop`. Sizes are those of the upright picture, before scaling."""
        frames = opened.plan["frames"]
        with warnings.catch_warnings():
            # What they have to say was kept when the document was opened.
            warnings.simplefilter("ignore")
            with _opened(path, limits) as image:
                return [_part(image, index, frames[index], options, limits) for index in range(start, stop)]


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[Image]:
    import pi_heif
    from PIL import Image as images
    from PIL import UnidentifiedImageError

    pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    usual = images.MAX_IMAGE_PIXELS
    # Pillow raises at twice this number, here and at every frame or embedded picture that it meets.
    images.MAX_IMAGE_PIXELS = max(1, limits.pixels // 2)
    try:
        with images.open(path, formats=FORMATS) as image:
            _check_size(image, limits)
            yield image
    except images.DecompressionBombError as error:
        raise _too_many_pixels(error, limits) from error
    except UnidentifiedImageError as error:
        raise _why_not(path) from error
    finally:
        images.MAX_IMAGE_PIXELS = usual


def _why_not(path: Path) -> CorruptDocument | UnsupportedMedia:
    """What is wrong with a file that begins like an image. Pillow's `open` only says that it is wrong."""
    from PIL import Image as images

    with path.open("rb") as file:
        head = file.read(16)
        for name in FORMATS:
            factory, accept = images.OPEN[name]
            if accept is None or accept(head) is not True:
                continue
            file.seek(0)
            try:
                factory(file, str(path))
            except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, struct.error) as error:
                if "unknown" in str(error):
                    return UnsupportedMedia(f"this variant of {name} cannot be read: {error}", stage="expand")
                return CorruptDocument(f"it begins as {name} and is damaged: {error}")
    return CorruptDocument("it is none of the image formats that are read")


def _check_size(image: Image, limits: Limits) -> None:
    width, height = image.size
    if width * height > limits.pixels:
        raise _limit(f"{width:,} x {height:,} pixels", "limits.pixels", limits.pixels)


def _too_many_pixels(error: Exception, limits: Limits) -> LimitExceeded:
    """Pillow's bomb error as ours; the size is in its words alone."""
    found = re.search(r"(\d+) pixels", str(error))
    return _limit(f"{int(found[1]):,} pixels" if found else "its picture", "limits.pixels", limits.pixels)


def _limit(found: str, name: str, allowed: int) -> LimitExceeded:
    return LimitExceeded(f"{found}: more than {name} = {allowed:,}; raise it to try again", limit=name)


def _frames(image: Image, limits: Limits) -> tuple[list[int], list[str]]:
    """Which frames are parts, and what was left out."""
    if image.format == "TIFF":
        return _pages(image, limits)
    if not getattr(image, "is_animated", False):
        return [image.tell()], []
    return [image.tell()], ["it holds several frames; the first, or primary, one is shown"]


def _pages(image: Image, limits: Limits) -> tuple[list[int], list[str]]:
    frames: list[int] = []
    notes: list[str] = []
    copies, below = dict[int, int](), False
    for frame in itertools.count():
        try:
            image.seek(frame)
        except EOFError:
            break
        except (OSError, ValueError, SyntaxError, TypeError, KeyError) as error:
            if not frames:
                raise
            # Itself a part, which fails: how many pages come behind it, nobody knows.
            notes.append(f"the directory after page {frame} cannot be read: {error}")
            frames.append(frame)
            break
        if int(image.tag_v2.get(254, 0)) & REDUCED:  # type: ignore[attr-defined]
            copies[frame] = image.width
            below = below or SUB_IFDS in image.tag_v2  # type: ignore[attr-defined]
            continue
        frames.append(frame)
        if len(frames) > limits.pages:
            raise _limit("its pages", "limits.pages", limits.pages)
    # Pages of a fax differ in length; smaller and smaller copies halve each time.
    if not frames and (below or max(copies.values()) >= 2 * min(copies.values())):
        raise UnsupportedMedia(
            "it holds smaller copies of a picture and not the picture, as a camera's raw image does: "
            "convert it to PDF or PNG, or exclude it",
            stage="expand",
        )
    if len(copies) > limits.pages and not frames:
        raise _limit("its pages", "limits.pages", limits.pages)
    if not frames:
        # Not a raw's: some scanners and fax machines mark all that they write.
        return [*copies], [*notes, "all its pages are marked as smaller copies of others; they are shown"]
    return frames, [*notes, *(["smaller copies of its pages are left out"] if copies else [])]


def _described(image: Image, notes: list[str]) -> dict[str, str]:
    """What the file says of itself. Cameras and fuzzers write EXIF that nobody can read."""
    from PIL import Image as images

    try:
        # Not image.getexif: of a PNG that would decode it all, in search of EXIF after the pixels.
        exif = images.Image.getexif(image)
        found = {name: str(exif[tag]) for tag, name in DESCRIBED.items() if tag in exif}
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, ArithmeticError) as error:
        notes.append(f"its EXIF cannot be read: {error}")
        return {}
    return {name: text.strip("\0 ") for name, text in found.items() if text.strip("\0 ")}


def _part(image: Image, index: int, frame: int, options: ExpandOptions, limits: Limits) -> Part:
    from PIL import Image as images

    try:
        if image.format == "TIFF":
            _turn_to(image, frame)
        _check_size(image, limits)
        return _shown(image, index, options, limits)
    except images.DecompressionBombError as error:
        return Part(index, error=_too_many_pixels(error, limits))
    except GemstreamError as error:
        return Part(index, error=error)


def _turn_to(image: Image, frame: int) -> None:
    try:
        image.seek(frame)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError) as error:
        raise CorruptDocument(f"page {frame + 1} and what is behind it cannot be read: {error}") from error


def _shown(image: Image, index: int, options: ExpandOptions, limits: Limits) -> Part:
    """One picture as the model sees it. Truncated data raises; half a picture is not a picture."""
    from PIL import Image as images

    stored = image.size
    # What tiles would take, if it has them to give.
    most = max(stored) >= WORTHWHILE * options.image_size and in_tiles(stored, lambda: True, options, limits)
    # The fitted size, not the square: landscapes would stop one halving early (39 against 23 a second).
    image.draft(None, _fitted(stored, most or options.image_size))
    # Pillow turns TIFFs and libheif HEICs while they load, and then say that there is nothing to turn;
    # a PNG tells its orientation only when it is loaded.
    before = 1 if image.format == "PNG" else image.info.get("original_orientation") or _orientation(image)
    load(image)
    orientation = _orientation(image) if image.format == "PNG" else before
    turned_already = image.format in ("TIFF", "HEIF")
    if image.format not in ("JPEG", "MPO"):
        # A drafted JPEG is smaller now; of the others, some headers state another size than there is.
        stored = image.size
    turn = None if turned_already else TURNS.get(orientation)
    shown = eight_bits(image)
    whole, lying = _fitted(stored, options.image_size), turn is not None and orientation >= 5
    side = most and in_tiles(stored, lambda: _is_dense(shown, whole, lying=lying), options, limits)
    size = _fitted(stored, side) if side else whole
    if shown.size != size:
        shown = shown.resize(size, images.Resampling.LANCZOS, reducing_gap=3.0)
    if shown.mode == "RGBA":
        white = images.new("RGB", shown.size, "white")
        white.paste(shown, mask=shown.getchannel("A"))
        shown = white
    if turn is not None:
        shown = shown.transpose(images.Transpose[turn])
    body = io.BytesIO()
    shown.save(body, "JPEG", quality=options.jpeg_quality)
    width, height = stored[::-1] if lying else stored
    rotation, tiles = ROTATIONS.get(orientation, 0), tiles_of(*size) if side else 0
    return Part(index, body.getvalue(), width=width, height=height, rotation=rotation, tiles=tiles or None)


def _is_dense(picture: Image, whole: tuple[int, int], *, lying: bool) -> bool:
    """Whether it is one of small text, as the model would see it whole, and upright."""
    import numpy as np
    from PIL import Image as images

    grey = np.asarray(picture.convert("L").resize(whole, images.Resampling.BOX, reducing_gap=2.0))
    return looks_dense(grey.T if lying else grey)


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The same shape with a longest side of at most `side`; never larger than it is."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _orientation(image: Image) -> int:
    try:
        orientation = int(image.getexif().get(274, 1))
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, ArithmeticError):
        # Unreadable EXIF is in the document's warnings already; viewers show such a picture as it is.
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def eight_bits(image: Image) -> Image:
    """The picture in L, RGB or RGBA, whatever it was."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _scaled(image)
    if mode == "LAB":
        return _from_lab(image)
    if mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    if image.has_transparency_data:
        return image if mode == "RGBA" else image.convert("RGBA")
    if mode in ("L", "RGB"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _scaled(image: Image) -> Image:
    """Deep greys to 8 bits by their scale. Pillow's own conversion clips: a 16-bit scan turns white."""
    import numpy as np
    from PIL import Image as images

    deep: Any = np.asarray(image)
    if image.mode.startswith("I;16"):
        return images.fromarray((deep >> 8).astype(np.uint8))
    deep = np.nan_to_num(deep.astype(np.float32), posinf=0.0, neginf=0.0)
    top = float(deep.max(initial=0.0))
    # 32-bit samples do not say their range: the smallest usual one that holds them all.
    white = next((usual for usual in (1.0, 255.0, 65_535.0) if top <= usual), top)
    if image.mode == "I" and white == 1.0:
        white = 255.0
    return images.fromarray(np.clip(deep * (255.0 / white), 0, 255).astype(np.uint8))


def _from_lab(image: Image) -> Image:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(*profiles, "LAB", "RGB")
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        raise CorruptDocument("its Lab colours cannot be converted")
    return converted
