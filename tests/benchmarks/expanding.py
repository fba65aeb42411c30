"""Documents to parts: our stage, with its child process and its limits, against a bare loop of the library.

Both sides use one process for the parsing and read local files. What ours does besides: sniff, copy each
document to scratch, hold the parser to its limits, hash each part, build Arrow tables.
"""

from __future__ import annotations

import io
import random
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.pair import Pair, timed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

SIDE = 896
QUALITY = 90
SEGMENT_SECONDS = 30
RATE = 16_000


def _pdfs(folder: Path, scale: float) -> None:
    """Born-digital PDFs of 1 to 12 pages, as the examples have them."""
    from deploy.demo.paper import digital_pdf

    kinds = ("invoice", "receipt", "letter")
    for number in range(max(2, round(96 * scale))):
        rng = random.Random(f"bench/pdf/{number}")
        made = digital_pdf(rng, *(rng.choice(kinds) for _ in range(1 + number % 12)))
        (folder / f"{number:04d}.pdf").write_bytes(made[0])


def _photos(folder: Path, scale: float) -> None:
    """Photos of 4 megapixels, as a camera writes them."""
    import numpy as np
    from PIL import Image

    for number in range(max(2, round(40 * scale))):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 255, (18, 24, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((2_304, 1_728), Image.Resampling.BICUBIC)
        grain = Image.effect_noise(picture.size, 12).convert("RGB")
        Image.blend(picture, grain, 0.2).save(folder / f"{number:04d}.jpg", quality=92)


def _recordings(folder: Path, scale: float) -> None:
    """Recordings of a minute at 44.1 kHz stereo: bursts of noise with pauses, like talk."""
    import numpy as np
    import soundfile

    rate, seconds = 44_100, 60
    for number in range(max(2, round(12 * scale))):
        rng = np.random.default_rng(number)
        loud = np.repeat(rng.random(seconds * 4) > 0.3, rate // 4)
        swell = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * np.arange(len(loud)) / rate)
        sound = rng.standard_normal(len(loud)) * loud * swell * 0.1
        soundfile.write(folder / f"{number:04d}.flac", np.stack([sound, sound], 1), rate)


def _opens_pdf(path: Path) -> bool:
    import pymupdf

    with pymupdf.open(path) as document:
        return document.is_pdf and not document.needs_pass and len(document) > 0


def _opens_picture(path: Path) -> bool:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
        return getattr(picture, "n_frames", 1) == 1


def _opens_sound(path: Path) -> bool:
    import soundfile

    return bool(soundfile.info(path).frames)


OPENS = {"pages": _opens_pdf, "photos": _opens_picture, "recordings": _opens_sound}
"""Whether the library of a pair's bare loop can do anything with a file, by the pair."""

UNITS = {"pages": "page", "photos": "picture", "recordings": "recording"}


def named(pair: Pair, source: Path) -> Pair:
    """A pair over the files below a folder that somebody names: those that its bare library opens, which has
    no row for one that it does not."""

    def gather(folder: Path, scale: float) -> None:
        for number, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
            # What such a library raises is a matter of the file.
            with suppress(Exception):
                if OPENS[pair.name](path):
                    # No link: ours does not follow one out of its input.
                    shutil.copyfile(path, folder / f"{number:06d}{path.suffix}")
        if not any(folder.iterdir()):
            raise RuntimeError(f"none of the files under {source} opens for it")

    return replace(pair, inputs=gather, unit=UNITS[pair.name])


def _documents(folder: Path) -> pa.Table:
    import pyarrow as pa

    from pipelines.sources import open_source
    from schemas.storage import StorageOptions

    return pa.concat_tables(open_source([str(folder)], StorageOptions()).documents())


def _expanded(folder: Path, kind: str, key: Sequence[str]) -> None:
    """Through the stage as the graph has it; what differs in `key` is counted."""
    from schemas.limits import Limits
    from schemas.storage import StorageOptions
    from workers.expand import ExpandOptions
    from workers.expander import Expand

    documents = _documents(folder)
    options = ExpandOptions(image_size=SIDE, jpeg_quality=QUALITY)
    stage = Expand(StorageOptions(), options, Limits(), {kind: ["ocr"]})
    # The child's start and its imports are the run's, once; they are not a document's.
    list(stage(documents.slice(0, 1)))

    def work() -> int:
        seen: set[tuple[object, ...]] = set()
        for table in stage(documents):
            if table["error"].null_count < len(table):
                raise RuntimeError(f"the stage failed: {table['error'].drop_null()[0]}")
            seen.update(zip(*(table[name].to_pylist() for name in key), strict=True))
        return len(seen)

    try:
        timed(work)
    finally:
        stage.close()


def _bare_pages(folder: Path) -> None:
    import pymupdf
    from PIL import Image

    def work() -> int:
        pages = 0
        for path in sorted(folder.iterdir()):
            with pymupdf.open(path) as document:
                for page in document:
                    page.get_text()
                    scale = SIDE / max(page.rect.width, page.rect.height)
                    drawn = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), alpha=False)
                    size = (drawn.width, drawn.height)
                    picture = Image.frombuffer("RGB", size, drawn.samples_mv, "raw", "RGB", drawn.stride, 1)
                    picture.save(io.BytesIO(), "JPEG", quality=QUALITY)
                    pages += 1
        return pages

    timed(work)


def _bare_photos(folder: Path) -> None:
    from PIL import Image

    def work() -> int:
        count = 0
        for path in sorted(folder.iterdir()):
            with Image.open(path) as picture:
                scale = min(1.0, SIDE / max(picture.size))
                size = (round(picture.width * scale), round(picture.height * scale))
                # Of the fitted size, not the square, for which it would stop one halving early.
                picture.draft("RGB", size)
                small = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
                small.convert("RGB").save(io.BytesIO(), "JPEG", quality=QUALITY)
                count += 1
        return count

    timed(work)


def _bare_recordings(folder: Path) -> None:
    import soundfile
    import soxr

    def work() -> int:
        count = 0
        for path in sorted(folder.iterdir()):
            sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
            mono = soxr.resample(sound.mean(1), rate, RATE)
            step = SEGMENT_SECONDS * RATE
            for start in range(0, len(mono), step):
                mono[start : start + step].tobytes()
            count += 1
        return count

    timed(work)


PART, DOCUMENT = ("document_id", "part_index"), ("document_id",)
PAIRS = {
    pair.name: pair
    for pair in (
        Pair(
            "pages",
            "PDF pages to their text and a JPEG of 896 px, local files, one parsing process",
            "page",
            0.90,
            _pdfs,
            lambda folder: _expanded(folder, "page", PART),
            _bare_pages,
            often=2,
            kept=True,
        ),
        Pair(
            "photos",
            "JPEG photos of 4 megapixels to JPEGs of 896 px, local files, one parsing process",
            "photo",
            0.90,
            _photos,
            lambda folder: _expanded(folder, "image", PART),
            _bare_photos,
            often=3,
            kept=True,
        ),
        Pair(
            "recordings",
            "recordings of a minute, 44.1 kHz stereo FLAC, to 16 kHz mono in segments of at most 30 s (ours "
            "looks for speech, the bare loop cuts blindly), local files, one parsing process",
            "minute",
            0.90,
            _recordings,
            lambda folder: _expanded(folder, "audio", DOCUMENT),
            _bare_recordings,
        ),
    )
}
