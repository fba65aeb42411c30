"""Documents to measure by where there are none: pages, photos and recordings of common sizes.

They are made alike every time. What they cost to expand is as of any documents of their size; what is said of
them is not, so how long answers are is better known from documents of one's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PDFS, PAGES = 2, 8
PHOTOS, PHOTO_SIZE = 6, (2_304, 1_728)
RECORDINGS, SECONDS, RATE = 2, 60, 44_100
WORDS = "The quantity delivered was 418 of 420 pieces, two of which had to be returned to the works. "


def write_specimens(folder: Path) -> None:
    """Born-digital PDFs, photos of 4 megapixels and recordings of a minute, into a folder."""
    _pdfs(folder)
    _photos(folder)
    _recordings(folder)


def _pdfs(folder: Path) -> None:
    import pymupdf

    for number in range(PDFS):
        with pymupdf.open() as document:
            for index in range(PAGES):
                page = document.new_page()
                text = f"{number}.{index} " + WORDS * 24
                page.insert_textbox(pymupdf.Rect(60, 60, 535, 780), text, fontsize=10)
            document.save(folder / f"report-{number}.pdf")


def _photos(folder: Path) -> None:
    from PIL import Image

    for number in range(PHOTOS):
        grain = Image.effect_noise(PHOTO_SIZE, 12).convert("RGB")
        slope = Image.linear_gradient("L").rotate(40 * number).resize(PHOTO_SIZE).convert("RGB")
        Image.blend(slope, grain, 0.2).save(folder / f"photo-{number}.jpg", quality=92)


def _recordings(folder: Path) -> None:
    """Bursts of noise with pauses, like talk."""
    import numpy as np
    import soundfile

    for number in range(RECORDINGS):
        rng = np.random.default_rng(number)
        loud = np.repeat(rng.random(SECONDS * 4) > 0.3, RATE // 4)
        swell = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * np.arange(len(loud)) / RATE)
        sound = rng.standard_normal(len(loud)) * loud * swell * 0.1
        soundfile.write(folder / f"recording-{number}.flac", np.stack([sound, sound], 1), RATE)
