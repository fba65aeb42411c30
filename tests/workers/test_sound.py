"""Recordings that look cut off and are not: their headers know less, or count more, than there is to hear."""

from fractions import Fraction
from types import SimpleNamespace

import av
import pytest
import soundfile

from tests.workers.test_expand_audio import RATE, expanded, heard, tone
from workers.sound import promised_seconds


@pytest.mark.parametrize("untagged", [False, True])
@pytest.mark.parametrize(("picture", "pause"), [(8, 0), (0, 4), (8, 4)])
def test_a_container_that_lasts_longer_than_its_sound_was_not_cut_off(tmp_path, picture, pause, untagged):
    """A film whose sound ends before its picture; a call of which no packet was kept while nobody spoke."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        if picture:
            film = container.add_stream("mpeg4", rate=10)
            film.width = film.height = 64
        frame = av.AudioFrame.from_ndarray(tone(2.0, 48_000)[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            if packet.pts and packet.pts * packet.time_base > 1:
                packet.pts = packet.dts = packet.pts + int(pause / packet.time_base)
            container.mux(packet)
        for _ in range(picture * 10):
            container.mux(film.encode(av.VideoFrame(64, 64, "yuv420p")))
        if picture:
            container.mux(film.encode(None))
    if untagged:
        content = (tmp_path / "a.mkv").read_bytes()
        (tmp_path / "a.mkv").write_bytes(content.replace(b"DURATION", b"PURATION"))
    opened, parts = expanded(tmp_path / "a.mkv", tmp_path)
    assert 1.9 < len(heard(parts)) / RATE < 2.1
    assert opened.warnings == ()


@pytest.mark.parametrize(
    ("tag", "seconds"),
    [
        ("00:00:03.014000000", 3.014),
        ("102:01:00", 367_260.0),
        # What is no length leaves that of the whole. Of 5,000 digits, Python makes no number.
        ("9" * 5_000 + ":00:09.0", 8.0),
        ("soon", 8.0),
        ("", 8.0),
    ],
)
def test_the_length_in_a_tag_is_taken_where_it_is_one(tag, seconds):
    stream = SimpleNamespace(duration=None, time_base=Fraction(1, 1_000), metadata={"DURATION": tag})
    assert promised_seconds(SimpleNamespace(streams=[stream], duration=8_000_000), stream) == seconds


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("AU", lambda content: content[:8] + b"\xff" * 4 + content[12:]),  # Written while it was recorded.
        ("W64", lambda content: content[:-6]),  # The last chunk is not rounded up.
        *((kind, lambda content: content + b"TAG" + bytes(500)) for kind in ("AIFF", "AU", "W64", "RF64")),
    ],
)
def test_what_is_whole_has_no_note_of_a_cut(tmp_path, kind, change):
    path = tmp_path / "a"
    soundfile.write(path, tone(2.0), RATE, format=kind, subtype="PCM_16")
    path.write_bytes(change(path.read_bytes()))
    opened, parts = expanded(path, tmp_path)
    assert len(heard(parts)) / RATE == pytest.approx(2.0, abs=0.02)
    assert opened.warnings == ()
