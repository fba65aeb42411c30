"""Recordings as the model hears them: mono, 16 kHz, in segments. Where those lie: test_segments.py."""

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import CorruptDocument, LimitExceeded, UnsupportedMedia
from schemas.limits import Limits
from workers.expand import ExpandOptions
from workers.expand.audio import AudioExpander

OPTIONS = ExpandOptions()
LIMITS = Limits()
RATE = 16_000


def tone(seconds, rate=RATE, hertz=440.0, volume=0.5):
    """Four syllables a second: a steady tone is nobody who speaks."""
    at = np.arange(int(seconds * rate)) / rate
    swell = 0.6 + 0.4 * np.cos(2 * np.pi * 4 * at)
    return (volume * swell * np.sin(2 * np.pi * hertz * at)).astype(np.float32)


def wav(path, samples, rate=RATE, **options):
    soundfile.write(path, samples, rate, format="WAV", **{"subtype": "FLOAT", **options})
    return path


def muxed(path, samples, rate, codec, layout="mono", **kind):
    """Channels x samples through FFmpeg, for what libsndfile does not write."""
    with av.open(str(path), "w", **kind) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            stream.codec_context.format, layout, rate, stream.codec_context.frame_size
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def expanded(path, scratch, options=OPTIONS, limits=LIMITS):
    opened = AudioExpander().open(path, scratch, options, limits)
    return opened, AudioExpander().parts(path, scratch, opened, 0, opened.parts_total, options, limits)


def heard(parts):
    return np.concatenate([np.frombuffer(part.content, "<f4") for part in parts])


def loudness(samples):
    return float(np.sqrt(np.mean(np.square(samples))))


def test_a_clip_is_one_part_and_comes_as_it_is(tmp_path):
    samples = tone(3.0)
    opened, [part] = expanded(wav(tmp_path / "a", samples), tmp_path)
    assert (opened.parts_total, opened.warnings) == (1, ())
    assert (part.index, part.start_seconds, part.end_seconds) == (0, 0.0, 3.0)
    np.testing.assert_array_equal(heard([part]), samples)
    assert opened.metadata["sample_rate"] == "16000"
    assert opened.metadata["duration_seconds"] == "3.000"


@given(
    st.lists(st.sampled_from(["tone", "noise", "silence"]), min_size=1, max_size=12),
    st.floats(0.05, 5.0),
    st.sampled_from([1.0, 2.5, 4.0]),
)
@settings(max_examples=40)
def test_parts_are_what_was_recorded_then(tmp_path_factory, kinds, seconds, limit):
    folder = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(len(kinds))
    pieces = {
        "tone": tone(seconds),
        "noise": rng.normal(0, 0.1, int(seconds * RATE)).astype(np.float32),
        "silence": np.zeros(int(seconds * RATE), np.float32),
    }
    samples = np.concatenate([pieces[kind] for kind in kinds])
    opened, parts = expanded(wav(folder / "a", samples), folder, ExpandOptions(segment_seconds=limit))
    assert [part.index for part in parts] == list(range(opened.parts_total))
    if not parts[0].content:
        [part] = parts
        assert (part.start_seconds, part.end_seconds) == (0.0, len(samples) / RATE)
        return
    for part in parts:
        begin, end = round(part.start_seconds * RATE), round(part.end_seconds * RATE)
        assert 0 < end - begin <= limit * RATE
        assert 0.1 * RATE <= len(heard([part])) <= limit * RATE
        np.testing.assert_array_equal(heard([part])[: end - begin], samples[begin:end])
        assert not heard([part])[end - begin :].any()


@pytest.mark.parametrize("samples", [np.zeros(3 * RATE), np.random.default_rng(0).normal(0, 0.05, 40 * RATE)])
def test_where_nobody_speaks_there_is_one_part_and_nothing_to_hear(tmp_path, samples):
    opened, [part] = expanded(wav(tmp_path / "a", samples.astype(np.float32)), tmp_path)
    assert (opened.parts_total, opened.warnings) == (1, ())
    assert (part.content, part.error) == (b"", None)
    assert (part.start_seconds, part.end_seconds) == (0.0, len(samples) / RATE)


@pytest.mark.parametrize("samples", [160, 200, 512, 1599])
def test_clips_too_short_for_the_audio_tower_are_padded(tmp_path, samples):
    _, [part] = expanded(wav(tmp_path / "a", tone(1.0)[:samples]), tmp_path)
    assert len(heard([part])) == 1600
    assert not heard([part])[samples:].any()
    assert part.end_seconds == samples / RATE


@given(st.integers(1, 8), st.sampled_from(["WAV", "FLAC", "OGG"]))
@settings(max_examples=15)
def test_channels_are_averaged(tmp_path_factory, channels, kind):
    folder = tmp_path_factory.mktemp("mix")
    mix = np.stack([tone(0.5, hertz=200.0 * (1 + index), volume=0.4) for index in range(channels)], axis=1)
    soundfile.write(folder / "a", mix, RATE, format=kind)
    samples = heard(expanded(folder / "a", folder)[1])
    exact = 0.02 if kind == "OGG" else 2e-3
    assert np.abs(samples[:8000] - mix.mean(axis=1)).max() < (0.2 if kind == "OGG" else exact)
    assert abs(loudness(samples) - loudness(mix.mean(axis=1))) < exact


@pytest.mark.parametrize(
    ("codec", "kind"), [("aac", "mp4"), ("aac", "adts"), ("libopus", "webm"), ("ac3", "matroska")]
)
def test_ffmpeg_reads_the_rest_and_stereo_is_no_louder(tmp_path, codec, kind):
    left = tone(2.0, 48_000)
    path = muxed(tmp_path / "a", np.stack([left, left]), 48_000, codec, "stereo", format=kind)
    opened, parts = expanded(path, tmp_path)
    # FFmpeg's own mono mix would make this 1.41 times as loud.
    assert abs(loudness(heard(parts)) / loudness(left) - 1) < 0.1
    assert abs(len(heard(parts)) / RATE - 2.0) < 0.1
    assert opened.metadata["channels"] == "2"


def test_eight_channels_do_not_crash_ffmpegs_binding(corpus, tmp_path):
    _, parts = expanded(corpus / "audio" / "whisperkit__8_Channel_ID.m4a", tmp_path)
    assert 8.0 < len(heard(parts)) / RATE < 8.2
    assert 0.001 < loudness(heard(parts)) < 0.05


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_every_rate_ends_at_the_models(tmp_path, rate):
    _, [part] = expanded(wav(tmp_path / "a", tone(2.0, rate), rate), tmp_path)
    samples = heard([part])
    assert abs(len(samples) - 2 * RATE) <= 2
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(spectrum.argmax() / 2.0 - 440) < 1
    assert abs(loudness(samples) - loudness(tone(2.0))) < 0.01


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
)
def test_every_depth_is_as_loud(tmp_path, subtype):
    _, [part] = expanded(wav(tmp_path / "a", tone(1.0), subtype=subtype), tmp_path)
    assert abs(loudness(heard([part])) - loudness(tone(1.0))) < 0.02


def test_numbers_that_are_none_do_not_reach_the_model(tmp_path):
    samples = tone(1.0)
    samples[100], samples[200], samples[300] = np.nan, np.inf, -np.inf
    _, [part] = expanded(wav(tmp_path / "a", samples), tmp_path)
    assert np.isfinite(heard([part])).all()


def test_the_sound_of_a_video_is_heard_and_a_silent_one_says_so(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(UnsupportedMedia, match="no audio stream in it, only video") as caught:
        expanded(tmp_path / "a.mp4", tmp_path)
    assert caught.value.fields["stage"] == "expand"


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_nothing_to_hear_is_corrupt(tmp_path, samples):
    with pytest.raises(CorruptDocument, match="no audio in it"):
        expanded(wav(tmp_path / "a", tone(1.0)[:samples]), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"RIFF\x24\x00\x00\x00WAVE",
        b"fLaC" + bytes(40),
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"",
    ],
)
def test_what_cannot_be_heard_is_corrupt_and_playlists_are_not_followed(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(
        CorruptDocument, match=r"neither libsndfile \(.*\) nor FFmpeg \(.*\) can read it|no audio"
    ):
        expanded(tmp_path / "a", tmp_path)


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff", "au", "w64", "rf64", "mkv", "untagged.mkv", "webm"])
def test_a_recording_that_was_cut_off_is_kept_and_says_so(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind in ("mkv", "untagged.mkv", "webm"):
        muxed(path, tone(10.0, 48_000)[None], 48_000, "libopus")
    elif kind == "flac":
        soundfile.write(path, np.stack([tone(10.0, 44_100)] * 2, axis=1), 44_100)
    else:
        soundfile.write(path, tone(10.0), RATE, format=kind.upper(), subtype="PCM_16")
    whole = path.read_bytes()
    if kind.startswith("untagged"):
        # Not every program writes the length of each stream besides that of the whole.
        whole = whole.replace(b"DURATION", b"PURATION")
        path.write_bytes(whole)
    (tmp_path / "whole").mkdir()
    opened, _ = expanded(path, tmp_path / "whole")
    assert opened.warnings == ()

    path.write_bytes(whole[: len(whole) // 2])
    opened, parts = expanded(path, tmp_path)
    assert 4.0 < len(heard(parts)) / RATE < 6.0
    assert any("its header" in warning for warning in opened.warnings)
    assert not np.isnan(heard(parts)).any()


def test_damage_in_the_middle_costs_the_damaged_packets(tmp_path):
    path = muxed(tmp_path / "a.aac", tone(10.0, 44_100)[None], 44_100, "aac", format="adts")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(content)
    opened, parts = expanded(path, tmp_path)
    assert 8.0 < len(heard(parts)) / RATE <= 10.2
    assert any("damaged" in warning for warning in opened.warnings)


def test_too_long_is_refused_while_it_decodes(tmp_path):
    wav(tmp_path / "a", tone(60.0))
    with pytest.raises(LimitExceeded, match=r"limits\.audio_seconds = 20"):
        expanded(tmp_path / "a", tmp_path, limits=Limits(audio_seconds=20))
    # Stopped at the limit, not at the end.
    assert (tmp_path / "samples.f32").stat().st_size < 30 * RATE * 4


def test_titles_are_metadata(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.flac", "w", RATE, 1) as file:
        file.title, file.artist = "Board meeting", "R. Okafor"
        file.write(tone(1.0))
    opened, _ = expanded(tmp_path / "a.flac", tmp_path)
    assert opened.metadata["title"] == "Board meeting"
    assert opened.metadata["artist"] == "R. Okafor"


def mp3(path, seconds, kbits, xing):
    """An MP3 as encoders write it, or without the frame that tells its length."""
    kind = {} if xing else {"options": {"write_xing": "0", "id3v2_version": "0"}}
    with av.open(str(path), "w", format="mp3", **kind) as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.bit_rate = kbits * 1000
        frame = av.AudioFrame.from_ndarray(tone(seconds)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        size = stream.codec_context.frame_size
        resampler = av.AudioResampler(stream.codec_context.format, "mono", RATE, size)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(piece))
    return path.read_bytes()


def test_a_recording_is_as_long_as_its_file_and_not_as_its_header_says(tmp_path):
    long, short = mp3(tmp_path / "a", 4, 32, True), mp3(tmp_path / "b", 2, 64, True)
    loose, spare = mp3(tmp_path / "c", 2, 64, False), mp3(tmp_path / "d", 4, 16, False)
    soundfile.write(tmp_path / "e", tone(3), RATE, format="OGG", subtype="VORBIS")
    ogg = (tmp_path / "e").read_bytes()
    unsized = bytearray(wav(tmp_path / "f", tone(2)).read_bytes())
    place = unsized.index(b"data") + 4
    unsized[place : place + 4] = bytes(4)
    found = {}
    for name, content in {
        "cut off": long[: len(long) // 2],
        "title at the end": short + b"TAG".ljust(128, b"\0"),
        "joined": short + long,
        "slower than it begins": loose + spare,
        "faster than it begins": spare + loose,
        "joined ogg": ogg + ogg,
        "not closed": bytes(unsized),
    }.items():
        (tmp_path / "document").write_bytes(content)
        opened, _ = expanded(tmp_path / "document", tmp_path)
        found[name] = round(opened.plan["samples"] / RATE)
    assert found == {
        "cut off": 2,
        "title at the end": 2,
        "joined": 6,
        "slower than it begins": 6,
        "faster than it begins": 6,
        "joined ogg": 6,
        "not closed": 2,
    }


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "FLOAT", "IMA_ADPCM"])
def test_what_was_recorded_after_the_header_was_written_last_is_heard(tmp_path, subtype):
    path = wav(tmp_path / "a", tone(6), subtype=subtype)
    whole = heard(expanded(path, tmp_path)[1])
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    size = int.from_bytes(content[place : place + 4], "little") // 3
    content[place : place + 4] = size.to_bytes(4, "little")
    content[4:8] = (place + size - 4).to_bytes(4, "little")
    path.write_bytes(content)
    opened, parts = expanded(path, tmp_path)
    assert opened.plan["samples"] / RATE == pytest.approx(6, abs=0.1)
    assert any("behind the end that its header states" in warning for warning in opened.warnings)
    assert np.abs(heard(parts)[: 5 * RATE] - whole[: 5 * RATE]).max() < 0.02


@pytest.mark.parametrize("filled", ["", "\0"])
def test_what_else_is_behind_the_sound_of_a_wav_is_not_heard(tmp_path, filled):
    path = wav(tmp_path / "a", tone(1)[:-1], subtype="PCM_U8")
    list_ = b"LIST" + (200_000).to_bytes(4, "little") + bytes(range(200)) * 1000
    content = path.read_bytes()
    end = content.index(b"data") + 8 + RATE - 1
    path.write_bytes(content[:end] + filled.encode() + list_)
    opened, _ = expanded(path, tmp_path)
    assert opened.plan["samples"] == RATE - 1
    assert opened.warnings == ()


def test_channels_that_cancel_each_other_are_heard(tmp_path):
    said = tone(2)
    for place, channels in enumerate(([said, -said], [said, -said, np.zeros_like(said)])):
        _, parts = expanded(wav(tmp_path / f"{place}.wav", np.stack(channels, 1)), tmp_path)
        assert loudness(heard(parts)) == pytest.approx(loudness(said), rel=0.01)
    _, parts = expanded(wav(tmp_path / "apart.wav", np.stack([said, tone(2, hertz=700)], 1)), tmp_path)
    assert loudness(heard(parts)) == pytest.approx(loudness(said) / np.sqrt(2), rel=0.05)
