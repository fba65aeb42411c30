"""The example documents: made again they are the same, and each is what truth.json says."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from deploy.demo.documents import EXAMPLES, TRUTH, UNREPEATABLE, make_examples, read_truth
from deploy.demo.pages import ADVANCE, KINDS, SIDE, make_page
from deploy.demo.paper import PASSWORD

if TYPE_CHECKING:
    from pathlib import Path

TRUTHS = read_truth()
RECORDINGS = {name for name, entry in TRUTHS.items() if entry["media"] == "audio"}
SOUND = sorted(name for name, entry in TRUTHS.items() if entry["media"] != "broken")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, made again."""
    folder = tmp_path_factory.mktemp("examples")
    make_examples(folder)
    return folder


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_committed_files_are_the_ones_in_truth() -> None:
    assert _files(EXAMPLES) == {*TRUTHS, TRUTH}


def test_they_are_small() -> None:
    assert sum((EXAMPLES / name).stat().st_size for name in TRUTHS) < 4_000_000


@pytest.mark.parametrize("name", sorted({*TRUTHS, TRUTH} - UNREPEATABLE - RECORDINGS))
def test_the_committed_bytes_follow_from_the_seed(made: Path, name: str) -> None:
    assert (made / name).read_bytes() == (EXAMPLES / name).read_bytes()


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_the_committed_samples_follow_from_the_seed(made: Path, name: str) -> None:
    import numpy as np
    import soundfile

    again, committed = soundfile.read(made / name), soundfile.read(EXAMPLES / name)
    assert again[1] == committed[1] and again[0].shape == committed[0].shape
    difference = again[0] - committed[0]
    if name.endswith((".wav", ".flac")):
        assert np.abs(difference).max() <= 1 / 32_768, "the rounding of another processor, and no more"
    else:
        # A codec that listens takes such a step for another decision: measured 32 dB below the voice.
        assert np.square(difference).mean() < 0.01 * np.square(committed[0]).mean()


def test_another_seed_says_other_things(made: Path, tmp_path: Path) -> None:
    make_examples(tmp_path, seed=1)
    assert _files(tmp_path) == _files(made)
    assert (tmp_path / TRUTH).read_bytes() != (made / TRUTH).read_bytes()


@pytest.mark.parametrize("name", [name for name in SOUND if TRUTHS[name]["media"] == "pdf"])
def test_a_pdf_has_the_pages_and_the_text_layer_it_should(name: str) -> None:
    import pymupdf

    pages = TRUTHS[name]["pages"]
    with pymupdf.open(EXAMPLES / name) as document:
        assert document.authenticate(PASSWORD) if name == "pdf/locked.pdf" else not document.needs_pass
        texts = [sheet.get_text().strip() for sheet in document]
        assert all(sheet.rect.width == sheet.rect.height for sheet in document)
    assert texts == [page["ocr"] if TRUTHS[name]["text_layer"] else "" for page in pages]


@pytest.mark.parametrize("name", [name for name in SOUND if TRUTHS[name]["media"] == "image"])
def test_an_image_opens_with_its_frames_and_orientation(name: str) -> None:
    from PIL import Image

    with Image.open(EXAMPLES / name) as image:
        assert getattr(image, "n_frames", 1) == len(TRUTHS[name]["pages"])
        assert image.getexif().get(0x0112, 1) == TRUTHS[name].get("orientation", 1)
        assert image.size == (2 * SIDE, 2 * SIDE)


@pytest.mark.parametrize("name", [name for name in SOUND if TRUTHS[name]["media"] == "audio"])
def test_a_recording_is_as_long_as_it_should_be(name: str) -> None:
    import soundfile

    entry = TRUTHS[name]
    facts = soundfile.info(EXAMPLES / name)
    assert (facts.samplerate, facts.channels) == (entry["sample_rate"], entry["channels"])
    assert facts.duration == pytest.approx(entry["seconds"], abs=0.2)  # MP3 pads to whole frames
    for value, start, end in entry["digits"]:
        assert value in range(10) and 0 <= start < end <= entry["seconds"]


def test_recordings_come_long_short_stereo_and_silent() -> None:
    recordings = [entry for entry in TRUTHS.values() if entry["media"] == "audio"]
    assert max(entry["seconds"] for entry in recordings) > 30
    assert {entry["channels"] for entry in recordings} == {1, 2}
    assert any(not entry["digits"] for entry in recordings)


def test_the_truncated_pdf_cannot_be_opened() -> None:
    import pymupdf

    with pytest.raises(pymupdf.FileDataError):
        pymupdf.open(EXAMPLES / "broken/truncated.pdf")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(20))
def test_every_page_stays_on_its_paper(kind: str, seed: int) -> None:
    page = make_page(random.Random(seed), kind)
    for line in page.lines:
        assert 0 <= line.x and line.x + ADVANCE * page.size * len(line.text) <= SIDE
        assert 0 <= line.y and line.y + 1.2 * page.size <= SIDE
    assert page.text.splitlines()[0] == kind.upper()
    assert f"No {page.number}" in page.text and page.date in page.text
    assert (f"Sum {page.total}" if page.total else "Dear ") in page.text
    assert (page.total is None) is (kind == "letter")
