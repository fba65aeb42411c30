"""Why a pair misses its target on two cores without a GPU; `NOTES.md` has the profiles."""

from __future__ import annotations

SHARED = "the engine's places are full all the while, but it shares two cores with what feeds it"
LIMITS = {
    "pages": "of its time the parser's process waits 3% for the next document and 2% to hand its parts on; "
    "single turns differ by a tenth on a shared host, of which two processes feel more than one",
    "long-tail": "a turn of a quarter of a minute ends with its last long answer nearly alone in the engine; "
    "in turns three times as long it was 0.99",
    "by-hand-audio": "both are as fast as the engine, which takes the same for a recording on either side",
    "photos": "the parser's process takes as long as the loop, and between two photos it waits 1.6 ms for "
    "the next: what it made is taken, the file removed, the next one asked for",
    "resume": "it counts on one core what both have read",
    "answer-images": f"{SHARED}: its main thread runs 88% of a turn and waits for a core 8%, in the loop it "
    "runs 95% and waits 2%; and a turn's two ends take some 5%, when it has nothing to do",
    "answer-audio": f"{SHARED}, looking for speech included",
    "by-hand-tiny": "vLLM's process takes the same for a picture on either side (68 ms where 12.7 came in a "
    "second: 86% of a core), so both are as fast as it is",
    "cpu-image": "vLLM's front end, in the engine's host, takes most of 7 to 8 ms a picture, and the start "
    "of Ray, its workers and vLLM's imports 22 to 32 s once",
    "cpu-segment": "vLLM's front end, which makes the spectrogram, is in the engine's host, and decoding and "
    "resampling half a minute is most of expand's 44 to 66 ms",
    "daft": "both are held up by the one server, whose engine's thread runs 95 to 98% of the time in ours "
    "and 97 to 100% in Daft's",
}
