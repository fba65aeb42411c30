"""Makes the example documents of the demo: `python -m deploy.demo.documents OUT --seed N`.

PDFs with a text layer, scans, photos, drawings and recordings of the kind that the demo checkpoints
can be asked about, broken files, and `truth.json`, which says for every file what the right answers
are. Tests make sets of their own with a seed that nothing was trained on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.demo.paper import PASSWORD, digital_pdf, drawing, fax, photo, scanned_pdf, truncated_pdf
from deploy.demo.recordings import recording, silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.demo.paper import Made

DEFAULT_SEED = 0
EXAMPLES = Path(__file__).parent / "examples"
TRUTH = "truth.json"

Truth = dict[str, dict[str, Any]]

DOCUMENTS: dict[str, Callable[[random.Random], Made]] = {
    "pdf/invoice.pdf": lambda rng: digital_pdf(rng, "invoice"),
    "pdf/receipt.pdf": lambda rng: digital_pdf(rng, "receipt"),
    "pdf/letter.pdf": lambda rng: digital_pdf(rng, "letter"),
    "pdf/march.pdf": lambda rng: digital_pdf(rng, "letter", "invoice", "receipt"),
    "pdf/april.pdf": lambda rng: digital_pdf(rng, "invoice", "invoice", "receipt"),
    "pdf/year.pdf": lambda rng: digital_pdf(rng, *rng.choices(("invoice", "receipt", "letter"), k=12)),
    "pdf/locked.pdf": lambda rng: digital_pdf(rng, "invoice", password=PASSWORD),
    "scans/invoice.pdf": lambda rng: scanned_pdf(rng, "invoice"),
    "scans/receipt.pdf": lambda rng: scanned_pdf(rng, "receipt"),
    "scans/bundle.pdf": lambda rng: scanned_pdf(rng, "invoice", "letter"),
    "scans/sideways.pdf": lambda rng: scanned_pdf(rng, "receipt", "invoice", rotated=True),
    "scans/fax.tiff": lambda rng: fax(rng, "letter", "invoice"),
    "photos/invoice.jpg": lambda rng: photo(rng, "invoice", "JPEG"),
    "photos/receipt.jpeg": lambda rng: photo(rng, "receipt", "JPEG"),
    "photos/on-its-left.jpg": lambda rng: photo(rng, "invoice", "JPEG", orientation=6),
    "photos/on-its-right.jpg": lambda rng: photo(rng, "receipt", "JPEG", orientation=8),
    "photos/on-its-head.png": lambda rng: photo(rng, "letter", "PNG", orientation=3),
    "photos/letter.png": lambda rng: photo(rng, "letter", "PNG"),
    "photos/receipt.webp": lambda rng: photo(rng, "receipt", "WEBP"),
    "photos/no-extension": lambda rng: photo(rng, "invoice", "PNG"),
    "shapes/circle.png": lambda rng: drawing(rng, "circle", "red"),
    "shapes/square.png": lambda rng: drawing(rng, "square", "blue"),
    "shapes/triangle.png": lambda rng: drawing(rng, "triangle", "green"),
    "shapes/disc.jpg": lambda rng: drawing(rng, "circle", "purple", "JPEG"),
    "shapes/tile.webp": lambda rng: drawing(rng, "square", "yellow", "WEBP"),
    "shapes/tent.png": lambda rng: drawing(rng, "triangle", "black"),
    "recordings/code.wav": lambda rng: recording(rng, "WAV", groups=1),
    "recordings/number.wav": lambda rng: recording(rng, "WAV", groups=2),
    "recordings/answer.flac": lambda rng: recording(rng, "FLAC", groups=3),
    "recordings/stereo.flac": lambda rng: recording(rng, "FLAC", groups=3, rate=44_100, channels=2),
    "recordings/phone.wav": lambda rng: recording(rng, "WAV", groups=2, rate=8_000),
    "recordings/note.opus": lambda rng: recording(rng, "OPUS", groups=4, rate=48_000),
    "recordings/voicemail.mp3": lambda rng: recording(rng, "MP3", groups=3),
    "recordings/meeting.opus": lambda rng: recording(rng, "OPUS", groups=16, rate=48_000),
    "recordings/readout.flac": lambda rng: recording(rng, "FLAC", groups=24),
    "recordings/nobody.wav": lambda rng: silence(rng, seconds=3.0),
    "broken/truncated.pdf": truncated_pdf,
    "broken/empty.jpg": lambda rng: (b"", {"media": "broken", "category": "empty"}),
}
"""Name -> how it is made from a generator of its own."""

UNREPEATABLE = frozenset({"pdf/locked.pdf"})
"""Its encryption's keys are drawn anew each time; the pages in it are the same. Recordings too differ in
their bytes, from one processor to another: sums are rounded otherwise, by one step of 16 bits."""


def make_examples(folder: Path, seed: int | str = DEFAULT_SEED) -> Truth:
    """Writes the example documents and their truth.json.

    Args:
        folder: Where to write; made if missing. Other files in it are left alone.
        seed: Every value on every page follows from it and the file's name.

    Returns:
        What truth.json holds: file name to kind of file and the right answers.
    """
    truth: Truth = {}
    for name, build in DOCUMENTS.items():
        # A generator per file, so that adding a file leaves the others as they are.
        data, truth[name] = build(random.Random(f"{seed}/{name}"))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    text = json.dumps(truth, indent=1, ensure_ascii=False, sort_keys=True)
    (folder / TRUTH).write_text(text + "\n", encoding="utf-8")
    return truth


def read_truth(folder: Path = EXAMPLES) -> Truth:
    """Reads what the example files hold: file name to kind of file and the right answers."""
    truth: Truth = json.loads((folder / TRUTH).read_text(encoding="utf-8"))
    return truth


def main(arguments: list[str] | None = None) -> int:
    """Command line: writes the examples and says how many and how large they are."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.documents", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=EXAMPLES)
    parser.add_argument("--seed", default=DEFAULT_SEED)
    options = parser.parse_args(arguments)
    truth = make_examples(options.out, options.seed)
    size = sum((options.out / name).stat().st_size for name in truth)
    print(f"{len(truth)} documents, {size / 1e6:.2f} MB, in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
