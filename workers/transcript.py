"""Segments that overlap -> a transcript in which nothing is said twice.

Where a cut fell in the middle of speech, both segments heard what lies around it (`workers.segments`),
and both say so. At such a seam the longest run of words that the end of the one and the beginning of the
other have in common stays in the first alone; what lies beyond it on either side is half a word.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    import pyarrow as pa

SEAM_WORDS = 12
"""Words from a seam that are looked at: a second of the fastest speech, and as much that was misheard."""
STRAY_WORDS = 2
"""Words that may be lost on either side of what is common: halves, and what half a word was taken for. Not
more than are common, since one word may be there twice by chance."""

_WORD = re.compile(
    # One character is a word where spaces do not tell them apart: Thai to Burmese, Khmer, kana, Han.
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
    r"|[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
    r"(?:['\u2019.,]\w+)*"
)


def stitched(answers: pa.Table, transcripts: Collection[str]) -> pa.Table:
    """The same rows; where two overlap in time, their texts do not, and they meet in the middle.

    Args:
        answers: rows with document, task, start_seconds, end_seconds and text at least, sorted by the
            first three. Those without a time overlap nothing.
        transcripts: the tasks whose texts are what is said: of two labels that are the same both stay.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(answers) < 2:
        return answers
    left, right = answers.slice(0, len(answers) - 1), answers.slice(1)
    spoken = pc.is_in(left["task"], pa.array(sorted(transcripts), pa.string()))
    same = pc.and_(pc.equal(left["document"], right["document"]), pc.equal(left["task"], right["task"]))
    same = pc.and_(same, spoken)
    seams = pc.and_(same, pc.less(right["start_seconds"], left["end_seconds"]))
    places = pc.indices_nonzero(pc.fill_null(seams, False)).to_pylist()
    if not places:
        return answers
    names = ("start_seconds", "end_seconds", "text")
    starts, ends, texts = (answers[name].to_pylist() for name in names)
    for place in places:
        texts[place], texts[place + 1] = joined(texts[place] or "", texts[place + 1] or "")
        ends[place] = starts[place + 1] = (ends[place] + starts[place + 1]) / 2
    for name, values in zip(names, (starts, ends, texts), strict=True):
        index = answers.column_names.index(name)
        answers = answers.set_column(index, answers.field(name), pa.array(values, answers.field(name).type))
    return answers


def duration(facts: pa.Table) -> pa.ChunkedArray:
    """Seconds of each recording: by its metadata, where an answer carries it, or else to its last part's end.

    Args:
        facts: a row per document, with document_metadata and the latest end_seconds. What is silent behind
            that is in no part.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    # Quotes inside of a value are escaped, so no title can pass for this.
    said = pc.extract_regex(facts["document_metadata"], r'"duration_seconds":"(?P<seconds>[0-9.]+)"')
    return pc.coalesce(pc.struct_field(said, "seconds").cast(pa.float64()), facts["end_seconds"])


def joined(before: str, after: str) -> tuple[str, str]:
    """Two texts of which the second begins with what the first ends with, without that; as they are,
    where they have nothing in common."""
    tail, head = list(_WORD.finditer(before))[-SEAM_WORDS:], list(_WORD.finditer(after))[:SEAM_WORDS]
    ends, begins = [word[0].casefold() for word in tail], [word[0].casefold() for word in head]
    blocks = SequenceMatcher(None, ends, begins, autojunk=False).get_matching_blocks()
    near = [
        block
        for block in blocks
        if max(block.b, len(ends) - block.a - block.size) <= min(STRAY_WORDS, block.size) and block.size
    ]
    if not near:
        return before, after
    best = max(near, key=lambda block: block.size)
    stop = tail[best.a + best.size - 1].end()
    # Where the first ends with the common words, what follows them is its full stop.
    kept = before if best.a + best.size == len(ends) else before[:stop]
    rest = head[best.b + best.size :]
    return kept, after[rest[0].start() :] if rest else ""
