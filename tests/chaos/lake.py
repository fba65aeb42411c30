"""A small mixed lake, the same bytes for the same seed, and the job that reads it on the fault engine.

Made anew by every session rather than kept: it costs a second, and a broken document among healthy
ones is what most of these tests are about.
"""

from __future__ import annotations

import io
import math
import random
import struct
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.demo.objectstore import ObjectStore
from tests.fixtures.runs import GEMMA3

SEED = 4
DOCUMENTS = 300
PREFIX = "chaos/lake"
"""Where a lake lies in every store: document ids derive from addresses, so outputs can be compared."""
MORE = "chaos/more"
"""Where the rest of a lake lies that is cut in two."""
TASKS = ("ocr", "caption", "transcribe")
REFUSED = 0.02
"""Share of questions that the fault engine refuses, by a hash of their key: documents in part, always the
same ones."""
RATE = 8_000


@dataclass(frozen=True)
class Lake:
    """Documents by name, and the category in `errors/` of those that are broken."""

    documents: dict[str, bytes]
    broken: dict[str, str]

    def cut(self, count: int) -> tuple[Lake, ...]:
        """Its first documents, and the rest."""
        names = list(self.documents)
        return tuple(
            Lake(
                {name: self.documents[name] for name in some},
                {name: why for name, why in self.broken.items() if name in some},
            )
            for some in (names[:count], names[count:])
        )

    def upload(self, store: ObjectStore, prefix: str = PREFIX) -> str:
        """Put all of it into a store; returns the prefix's address."""
        client = store.client(max_pool_connections=8)
        with ThreadPoolExecutor(8) as threads:
            for done in [
                threads.submit(client.put_object, Bucket=store.bucket, Key=f"{prefix}/{name}", Body=content)
                for name, content in self.documents.items()
            ]:
                done.result()
        return store.url(prefix)


def make_lake(count: int = DOCUMENTS, seed: int = SEED) -> Lake:
    """`count` documents: photos, drawings, PDFs of a few pages, recordings, and one in 25 broken."""
    rng = random.Random(seed)
    documents: dict[str, bytes] = {}
    broken: dict[str, str] = {}
    for index in range(count):
        if index % 25 == 24:
            suffix, category, make = _BROKEN[index // 25 % len(_BROKEN)]
            name = f"{index:04d}{suffix}"
            broken[name] = category
        else:
            suffix, make = rng.choices(_HEALTHY, _SHARES)[0]
            name = f"{index:04d}{suffix}"
        documents[name] = make(rng)
    return Lake(documents, broken)


def job_file(
    folder: Path, source: str | list[str], output: str, *, seconds: float = 0.0, **settings: Any
) -> Path:
    """A job over a lake, written to a file of its own; `seconds` is what one answer takes."""
    values: dict[str, Any] = {
        "input": source,
        "output": output,
        "tasks": list(TASKS),
        "models": {"vision": str(GEMMA3), "audio": "google/gemma-3n-E2B-it"},
        "engine": {
            "kind": "fault",
            "options": {"seconds": seconds, "refuse": REFUSED},
            "max_num_seqs": 4,
        },
        "expand": {"workers": 1},
        "sink": {"rows": 40, "seconds": 1},
        "report": {"page": False},
    }
    path = folder / f"job-{seconds:g}.yaml"
    path.write_text(yaml.safe_dump(values | settings))
    return path


def _image(rng: random.Random, kind: str) -> bytes:
    from PIL import Image, ImageDraw

    size = rng.randint(24, 72), rng.randint(24, 72)
    picture = Image.new("RGB", size, tuple(rng.randbytes(3)))
    draw = ImageDraw.Draw(picture)
    draw.ellipse([rng.randint(0, 9), rng.randint(0, 9), size[0] - 5, size[1] - 5], tuple(rng.randbytes(3)))
    body = io.BytesIO()
    picture.save(body, kind)
    return body.getvalue()


def _pdf(rng: random.Random) -> bytes:
    import pymupdf

    with pymupdf.open() as document:
        for page in range(rng.randint(2, 5)):
            words = f"page {page} says {rng.randbytes(6).hex()}"
            document.new_page(width=200, height=200).insert_text((20, 60), words)
        # A new id each time would be a new version each time.
        content: bytes = document.tobytes(no_new_id=True)
        return content


def _wav(rng: random.Random) -> bytes:
    # No two alike: of documents with the same content, which one is asked about hangs on who comes first, and
    # what the fault engine says on which that is.
    body, pitch = io.BytesIO(), rng.uniform(200, 900)
    # In syllables: nobody is asked about a steady tone.
    swell = [1 - 0.4 * math.cos(2 * math.pi * 4 * at / RATE) for at in range(RATE)]
    samples = [round(9_000 * swell[at] * math.sin(2 * math.pi * pitch * at / RATE)) for at in range(RATE)]
    with wave.open(body, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(struct.pack(f"<{RATE}h", *samples))
    return body.getvalue()


_Maker = Callable[[random.Random], bytes]
_HEALTHY: list[tuple[str, _Maker]] = [
    (".jpg", lambda rng: _image(rng, "JPEG")),
    (".png", lambda rng: _image(rng, "PNG")),
    (".pdf", _pdf),
    (".wav", _wav),
]
_SHARES = [40, 30, 15, 15]
_BROKEN: list[tuple[str, str, _Maker]] = [
    (".jpg", "empty", lambda rng: b""),
    (".pdf", "corrupt", lambda rng: _pdf(rng)[:200]),
    (".png", "corrupt", lambda rng: _image(rng, "PNG")[:40]),
]
