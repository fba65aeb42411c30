"""Why a pair misses its target on two cores without a GPU; `NOTES.md` has the profiles."""

from __future__ import annotations

SHARED = (
    "Ray and what feeds the engine are on the same two cores: vLLM's process has less of one (see the "
    "column) and takes some 7% more for the same answer; without Ray, in one process, the same stage does "
    "what the loop does"
)
LIMITS = {
    "pages": "of its time the parser's process waits 3% for the next document and 2% to hand its parts on; "
    "single turns differ by a tenth on a shared host, of which two processes feel more than one",
    "long-tail": "a turn of a quarter of a minute ends with its last long answer nearly alone in the engine; "
    "in turns three times as long it was 0.99",
    "by-hand-audio": "the engine takes the same for a recording on either side, on a CPU without AVX-512 "
    "nearly all of a core; with it neither has a whole one (see the column), and why is not known",
    "photos": "the parser's process takes as long as the loop, and between two photos it waits 1.6 ms for "
    "the next: what it made is taken, the file removed, the next one asked for",
    "resume": "it counts on one core what both have read",
    "answer-images": f"{SHARED}; and a turn's two ends take 0.6 s more of it than of the loop's",
    "answer-audio": f"{SHARED}, looking for speech included",
    "by-hand-tiny": "vLLM's process takes the same for a picture on either side, half of all that they take, "
    "which is 1.5 to 1.8 of two cores: ours waits for one 13 to 15% of the time, and 8% for work, most of it "
    "at a turn's ends",
    "cpu-image": "vLLM's front end, in the engine's host, takes most of 7 to 8 ms a picture, and the start "
    "of Ray, its workers and vLLM's imports 22 to 32 s once",
    "cpu-segment": "vLLM's front end, which makes the spectrogram, is in the engine's host, and decoding and "
    "resampling half a minute is most of expand's 44 to 66 ms",
    "daft": "both are held up by the one server, whose engine's thread runs 95 to 98% of the time in ours "
    "and 97 to 100% in Daft's",
}
