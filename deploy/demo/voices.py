"""Makes the bank of spoken digits: `python -m deploy.demo.voices`. Needs espeak-ng and flite on PATH.

The bank is committed, so nobody who trains, tests or runs the demo needs a synthesizer. A voice
says each digit once; what varies beyond that (tempo, loudness, noise, order) `speech.py` adds.
"""

from __future__ import annotations

import io
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.demo.speech import BANK, INDEX, RATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SEED = 3
TRAINING_VOICES = 112
"""Of espeak-ng, drawn from the combinations below: what 2 MB hold."""

ACCENTS = (
    "en-us",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)
VARIANTS = (
    *(f"m{number}" for number in range(1, 8)),
    *(f"f{number}" for number in range(1, 5)),
    *("Alex", "Alicia", "Andy", "Annie", "Denis", "Diogo", "Gene", "Hugo", "Jacky", "Lee", "Marco", "Mario"),
    *("Mike", "adam", "anika", "antonio", "aunty", "benjamin", "boris", "caleb", "david", "ed", "edward"),
    *("grandma", "grandpa", "gustave", "iven", "marcelo", "max", "michel", "miguel", "pablo", "paul"),
    *("pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "travis", "victor", "zac"),
)
HELD_OUT_VARIANTS = ("f5", "m8", "Andrea", "Michael", "linda", "john", "belinda", "Henrique")
"""No accent of these is trained on."""
FLITE = ("awb", "kal", "kal16", "slt")
HELD_OUT_FLITE = ("rms",)
TEMPOS = ("1.0", "0.85")
"""Of flite: `duration_stretch`."""

QUIET = 0.01
"""Of the loudest sample: what a digit begins and ends with is cut off below this."""
MARGIN = 0.02
GAP = 0.06
"""Seconds around a digit, and of silence between two in a file, so that the codec does not mix them."""
LOUDNESS = 0.1
"""Root mean square of every digit."""
COMPRESSION = 0.95
"""Of soundfile, 0 to 1: about 16 kbit/s of Opus."""


@dataclass(frozen=True)
class Voice:
    """One way to say the digits. `command` speaks a word that stands in for `{word}` into `{file}`."""

    name: str
    kind: str
    held_out: bool
    command: tuple[str, ...]

    @property
    def file(self) -> str:
        """Of the bank, where it is kept."""
        return f"{self.kind}-{'held-out' if self.held_out else 'training'}.ogg"


def voices() -> list[Voice]:
    """All of the bank, in its order."""
    rng = random.Random(SEED)
    pairs = list(itertools.product(ACCENTS, VARIANTS))
    rng.shuffle(pairs)
    # Every variant and every accent first comes once before any comes more often.
    chosen = sorted(range(len(pairs)), key=lambda index: sum(p[1] == pairs[index][1] for p in pairs[:index]))
    drawn = [pairs[index] for index in chosen[:TRAINING_VOICES]]
    found = [_espeak(accent, variant, rng, held_out=False) for accent, variant in drawn]
    for number, variant in enumerate(HELD_OUT_VARIANTS):
        for accent in (ACCENTS[number % len(ACCENTS)], ACCENTS[(number + 3) % len(ACCENTS)]):
            found.append(_espeak(accent, variant, rng, held_out=True))
    for name, tempo in itertools.product((*FLITE, *HELD_OUT_FLITE), TEMPOS):
        command = (
            "flite",
            "-voice",
            name,
            "--setf",
            f"duration_stretch={tempo}",
            "-t",
            "{word}",
            "-o",
            "{file}",
        )
        found.append(Voice(f"{name} {tempo}", "flite", name in HELD_OUT_FLITE, command))
    return found


def _espeak(accent: str, variant: str, rng: random.Random, held_out: bool) -> Voice:
    speed, pitch = rng.randint(125, 190), rng.randint(25, 75)
    name = f"{accent}+{variant}"
    command = ("espeak-ng", "-v", name, "-s", f"{speed}", "-p", f"{pitch}", "-w", "{file}", "{word}")
    return Voice(f"{name} {speed} {pitch}", "espeak", held_out, command)


def spoken(voice: Voice) -> Iterator[Samples]:
    """The ten digits by one voice, without the silence around them."""
    import numpy as np
    import soundfile
    import soxr

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "spoken.wav"
        for word in WORDS:
            command = [part.format(word=word, file=file) for part in voice.command]
            subprocess.run(command, check=True, capture_output=True)
            samples, rate = soundfile.read(io.BytesIO(file.read_bytes()), dtype="float32")
            samples = soxr.resample(samples, rate, RATE, quality="VHQ")
            loud = np.flatnonzero(np.abs(samples) > QUIET * np.abs(samples).max())
            margin = int(MARGIN * RATE)
            samples = samples[max(0, loud[0] - margin) : loud[-1] + margin]
            fade = np.linspace(0, 1, margin // 2, dtype=np.float32)
            samples[: len(fade)] *= fade
            samples[-len(fade) :] *= fade[::-1]
            yield samples * (LOUDNESS / np.sqrt(np.mean(np.square(samples))))


def write(bank: Path, wanted: Iterable[Voice]) -> None:
    """Speaks, and writes the files and their index."""
    import numpy as np
    import soundfile

    silence = np.zeros(int(GAP * RATE), np.float32)
    pieces: dict[str, list[Samples]] = {}
    index: list[dict[str, Any]] = []
    for voice in wanted:
        kept = pieces.setdefault(voice.file, [])
        places = []
        for digit in spoken(voice):
            begin = sum(map(len, kept)) + len(silence)
            places.append([begin, begin + len(digit)])
            kept += [silence, digit, silence]
        index.append({"voice": voice.name, "file": voice.file, "digits": places})
    for name, parts in pieces.items():
        samples = np.clip(np.concatenate(parts), -1, 1)
        soundfile.write(
            bank / name, samples, RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION
        )
    (bank / INDEX).write_text("[\n" + ",\n".join(json.dumps(entry) for entry in index) + "\n]\n")


def main() -> int:
    """Command line: makes the whole bank anew."""
    missing = [name for name in ("espeak-ng", "flite") if shutil.which(name) is None]
    if missing:
        print(
            f"not on PATH: {', '.join(missing)} (Debian, Ubuntu: apt install espeak-ng flite)",
            file=sys.stderr,
        )
        return 1
    write(BANK, voices())
    size = sum(path.stat().st_size for path in BANK.glob("*.ogg"))
    print(f"{len(voices())} voices, {size / 1e6:.2f} MB in {BANK}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
