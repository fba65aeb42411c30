"""Pictures and recordings that the demo's checkpoints can be asked about, as many as are wanted."""

from __future__ import annotations

import random
from pathlib import Path

KINDS = ("invoice", "receipt", "letter")
CAMERA = (2_304, 1_728)
"""4 megapixels."""


def pictures(folder: Path, seed: str, count: int) -> None:
    """Pictures of pages, as large as the examples: JPEGs of 384 x 384 px, 40 kB."""
    _photographed(folder, seed, count, (384, 384), scale=2)


def tiny(folder: Path, seed: str, count: int) -> None:
    """The same pages at the size that the model looks at: 192 x 192 px, 10 kB."""
    _photographed(folder, seed, count, (192, 192), scale=1)


def camera(folder: Path, seed: str, count: int) -> None:
    """The same pages photographed: JPEGs of 4 megapixels, 0.7 MB."""
    _photographed(folder, seed, count, CAMERA, scale=4)


def _photographed(folder: Path, seed: str, count: int, size: tuple[int, int], scale: int) -> None:
    """With the grain that cameras leave: the same grain everywhere, or making it would take the most time."""
    from PIL import Image

    from deploy.demo.pages import draw_page, make_page

    grain = Image.effect_noise(size, 12).convert("RGB")
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        page = draw_page(make_page(rng, KINDS[number % 3]), scale)
        page = page if page.size == size else page.resize(size)
        Image.blend(page, grain, 0.15).save(folder / f"{number:05d}.jpg", quality=90)


def half_minutes(folder: Path, seed: str, count: int) -> None:
    """Recordings of 29 s: FLAC, 44.1 kHz, stereo, 4 MB."""
    _talk(folder, seed, count, 29)


def clips(folder: Path, seed: str, count: int) -> None:
    """Recordings of 5 s, of the six that the demo's checkpoint hears: FLAC, 44.1 kHz, stereo, 0.7 MB."""
    _talk(folder, seed, count, 5)


def _talk(folder: Path, seed: str, count: int, seconds: int) -> None:
    """In which somebody might be speaking all the while: noise that swells and ebbs as talk does. It is the
    same each time and begins elsewhere, or making it would take the most time; with a crackle of its own, for
    of two that are the same only one would be asked about."""
    import numpy as np
    import soundfile

    rate = 44_100
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * np.arange(2 * seconds * rate) / rate)
    noise = np.float32(np.random.default_rng(0).standard_normal(len(swell)) * swell * 0.1)
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        begin = rng.randrange(seconds * rate)
        sound = noise[begin : begin + seconds * rate].copy()
        sound[:8] = [rng.uniform(-0.1, 0.1) for _ in range(8)]
        soundfile.write(folder / f"{number:05d}.flac", np.stack([sound, sound], 1), rate)


def hearing_half_minutes(folder: Path) -> Path:
    """The demo's Gemma 3n as it would be if it had been trained on 30 s at a time, in Gemma's 188 tokens: the
    same weights, which know only six. What it answers is held to a schema."""
    import json
    import shutil

    from tests.fixtures.runs import GEMMA3N

    copy = shutil.copytree(GEMMA3N, folder / "gemma3n")
    for name, facts in {
        "config.json": {"audio_soft_tokens_per_image": 188},
        "processor_config.json": {"audio_seq_length": 188},
        "gemstream.json": {"clip_seconds": 30.0, "media_tokens": 188},
    }.items():
        path = copy / name
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return copy
