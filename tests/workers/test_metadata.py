"""What a document says of itself is in every row about it, so it is not as long as the document likes."""

import json

import av
import numpy as np
import pymupdf
import pytest
import soundfile
from PIL import Image

from schemas.limits import Limits
from schemas.storage import StorageOptions
from tests.workers.test_expander import documents, rows
from workers.expand import ExpandOptions, Opened
from workers.expander import METADATA_CHARACTERS, METADATA_VALUES, Expand, brief

LONG = "minutes of a meeting " * 100_000
"""2.1 MB."""


@pytest.fixture(scope="module")
def stage():
    tasks = {"page": ["ocr"], "image": ["caption"], "audio": ["transcribe"]}
    stage = Expand(StorageOptions(), ExpandOptions(pages="text", text_characters=100_000), Limits(), tasks)
    yield stage
    stage.close()


def pdf(path):
    document = pymupdf.open()
    document.new_page().insert_text((40, 60), "a lease")
    document.set_metadata({"title": LONG, "author": "R. Okafor"})
    document.save(path)
    return path


def photo(path):
    exif = Image.Exif()
    exif[270], exif[315] = LONG[:60_000], "R. Okafor"
    Image.new("RGB", (80, 60), "red").save(path, exif=exif)
    return path


def recording(path):
    at = np.arange(32_000) / 16_000
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        file.comment, file.artist = LONG, "R. Okafor"
        file.write(0.5 * np.cos(12 * at) * np.sin(2_800 * at))
    return path


@pytest.mark.parametrize(
    ("make", "name", "long", "short"),
    [
        (pdf, "a.pdf", "title", "author"),
        (photo, "a.jpg", "description", "artist"),
        (recording, "a.flac", "comment", "artist"),
    ],
)
def test_a_value_is_no_longer_than_it_is_of_use(stage, tmp_path, make, name, long, short):
    [row] = rows(stage, documents(make(tmp_path / name)))
    said = json.loads(row["document_metadata"])
    assert len(said[long]) == METADATA_CHARACTERS
    assert said[long] == LONG[: METADATA_CHARACTERS - 1] + "…"
    assert said[short] == "R. Okafor"


def test_there_are_so_many_values_and_the_length_of_a_recording_is_one(stage, tmp_path):
    with av.open(str(tmp_path / "a.mka"), "w") as container:
        container.metadata.update({f"tag {number}": str(number) for number in range(500)})
        container.metadata["duration_seconds"] = "7"
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 16_000), 900, np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    [row] = rows(stage, documents(tmp_path / "a.mka"))
    said = json.loads(row["document_metadata"])
    assert said["duration_seconds"] == "1.000"
    assert said["codec"] == "pcm_s16le"
    assert len(said) == METADATA_VALUES


def test_names_and_warnings_are_cut_as_well():
    values = {LONG: "a", **{f"name {number}": "b" for number in range(500)}}
    opened = brief(Opened(1, {"pages": 1}, values, (LONG,) * 500))
    assert len(opened.metadata) == len(opened.warnings) == METADATA_VALUES
    assert max(map(len, [*opened.metadata, *opened.warnings])) == METADATA_CHARACTERS
    assert (opened.parts_total, opened.plan) == (1, {"pages": 1})
    usual = Opened(2, {}, {"title": "a" * METADATA_CHARACTERS}, ("it was repaired",))
    assert brief(usual) == usual


def test_text_fills_a_table_as_pictures_do(stage, tmp_path):
    """60 pages of 64,000 characters and no picture are 3.8 MB."""
    document = pymupdf.open()
    lines = ["The tenant shall keep the premises in good repair at all times." for _ in range(1_000)]
    for _ in range(60):
        document.new_page(height=9_000).insert_text((40, 60), lines, fontsize=6)
    document.save(tmp_path / "a.pdf")
    tables = list(stage(documents(tmp_path / "a.pdf")))
    found = [row for table in tables for row in table.to_pylist()]
    assert len(found) == 60
    assert {row["content"] for row in found} == {None}
    assert len(tables) > 2
    assert max(table.nbytes for table in tables) < 2 * 1024 * 1024
