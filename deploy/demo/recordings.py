"""Spoken digits as files: WAV, FLAC, Opus and MP3."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

from deploy.demo.speech import RATE, make_silence, make_speech

if TYPE_CHECKING:
    import random

    import numpy as np

    from deploy.demo.paper import Made

Format = Literal["WAV", "FLAC", "OPUS", "MP3"]
_CONTAINERS = {
    "WAV": ("WAV", "PCM_16"),
    "FLAC": ("FLAC", "PCM_16"),
    "OPUS": ("OGG", "OPUS"),
    "MP3": ("MP3", "MPEG_LAYER_III"),
}
ECHO = 0.5
"""Loudness of the second channel of a stereo recording, against the first."""


def recording(rng: random.Random, format_: Format, groups: int, rate: int = RATE, channels: int = 1) -> Made:
    """Groups of digits with pauses between them, by one voice that nothing was trained on."""
    speech = make_speech(rng, voices="held-out", groups=groups)
    entry = {
        "digits": [[digit.value, round(digit.start, 3), round(digit.end, 3)] for digit in speech.digits],
        "transcribe": speech.text,
    }
    return _file(speech.samples, format_, rate, channels, entry)


def silence(rng: random.Random, seconds: float) -> Made:
    """A room in which nobody speaks."""
    return _file(make_silence(rng, seconds).samples, "WAV", RATE, 1, {"digits": [], "transcribe": ""})


def _file(
    samples: np.ndarray[Any, Any], format_: Format, rate: int, channels: int, entry: dict[str, Any]
) -> Made:
    import numpy as np
    import soundfile
    import soxr

    if rate != RATE:
        samples = soxr.resample(samples, RATE, rate)
    columns = np.stack([samples * ECHO**channel for channel in range(channels)], axis=1)
    buffer = io.BytesIO()
    container, subtype = _CONTAINERS[format_]
    soundfile.write(buffer, np.clip(columns, -1, 1), rate, format=container, subtype=subtype)
    facts = {"seconds": round(len(samples) / rate, 3), "sample_rate": rate, "channels": channels}
    return buffer.getvalue(), {"media": "audio", **facts, **entry}
