"""Why a pair misses its target on two cores without a GPU; `NOTES.md` has the profiles."""

from __future__ import annotations

SHARED = (
    "Ray and what feeds the engine are on the same two cores: vLLM's process has less of one, and takes more "
    "for the same answer (see the column); in one process without Ray the same stage does what the loop does"
)
LIMITS = {
    "pages": "of its time the parser's process waits 3% for the next document and 2% to hand its parts on; "
    "single turns differ by a tenth on a shared host, of which two processes feel more than one",
    "long-tail": "a turn of a quarter of a minute ends with its last long answer nearly alone in the engine; "
    "in turns three times as long it was 0.99",
    "by-hand-audio": "vLLM's process has as much of a core in ours as in the other or more (see the column); "
    "what it takes for the same recording is as the shared host has it, 161 to 241 ms: 6 to 10% more in ours "
    "in three tables, 7% less in a fourth, and alike in four turns of each by themselves, where it was 1.10",
    "photos": "the parser's process takes as long as the loop, and between two photos it waits 1.6 ms for "
    "the next: what it made is taken, the file removed, the next one asked for",
    "resume": "it counts on one core what both have read, and of its processes some take 0.25 s and some "
    "0.45, all of it alike; the bare one takes 0.3",
    "answer-images": f"{SHARED}; and a turn's two ends take 0.6 s more of it than of the loop's",
    "answer-audio": f"{SHARED}, looking for speech included",
    "by-hand-tiny": "either side takes the same CPU for a picture, 37 to 52 ms within minutes and half of it "
    "vLLM's, and most of two cores: 86 to 90% in ours, 74 to 82% in the other's; a core of its own makes the "
    "engine no faster",
    "cpu-image": "vLLM's front end, in the engine's host, takes most of 7 to 10 ms a picture, and the start "
    "of Ray, its workers and vLLM's imports 22 to 35 s once",
    "cpu-segment": "vLLM's front end, which makes the spectrogram, is in the engine's host, and decoding and "
    "resampling half a minute is most of expand's 44 to 72 ms",
    "daft": "in ours both cores are busy for 91 to 95% of a turn, two thirds of it for the server: we take "
    "13 to 21 ms a picture besides, and the engine waits for a core a fifth of the time; Daft takes 8 to 11, "
    "leaves the engine idle for a third of a turn, and then a core to itself",
}
