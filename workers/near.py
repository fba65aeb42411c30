"""What is nearly the same: pictures by perceptual hash, texts by MinHash. Libraries make the hashes; what is
here finds those that are close among many without holding each against each."""

from __future__ import annotations

import io
import re
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

from workers.extras import needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

PERMUTATIONS = 128
"""Of a signature: what share of their words two texts have in common is known to 0.035 where it is 0.8."""
MISSED = (0.1, 0.9)
"""What counts for less and for more as bands are chosen: a pair too many, which is looked at again, and one
that nobody looks at."""
AT_ONCE = 65_536
"""Pairs that are held against one another: of texts, 64 MB."""
EQUAL_PIECES = 3
"""Hashes that differ in n bits agree in this many of n + 3 pieces. With 2, a million hashes make buckets of
hundreds at 6 bits; with 3, of one or two."""
HASH_SIDE = 64
"""Pixels that a JPEG is decoded to at least: the hash is made of 32 by 32."""

EDGES = 1 << 20
"""Pairs that are held until their groups are made one: 16 MB."""

_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Letters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


def picture_hash(content: bytes) -> int:
    """The 64 bits of a picture's perceptual hash, as Parquet's signed integer."""
    import numpy as np
    from PIL import Image

    with needs("duplicates"):
        import imagehash
    with Image.open(io.BytesIO(content)) as picture:
        picture.draft("L", (HASH_SIDE, HASH_SIDE))
        bits = imagehash.phash(picture).hash
    return int(np.packbits(bits).view(">i8")[0])


def signature(text: str) -> npt.NDArray[Any] | None:
    """The MinHash of a text's words, whatever their case and order; None where there are none. Where a script
    has no spaces, two letters in a row count as a word: a whole sentence would, and never come twice."""
    with needs("duplicates"):
        from datasketch import MinHash
    words: set[str] = set()
    for word in _WORD.findall(text.casefold()):
        pairs = len(word) > 2 and _UNSPACED.search(word)
        words.update(map("".join, pairwise(word)) if pairs else (word,))
    if not words:
        return None
    made = MinHash(num_perm=PERMUTATIONS)
    made.update_batch([word.encode() for word in sorted(words)])
    values: npt.NDArray[Any] = made.hashvalues
    return values


def near_pictures(hashes: npt.NDArray[np.int64], bits: int) -> npt.NDArray[Any]:
    """A number for each hash, the same for those that a chain of hashes joins, each at most so many bits from
    the next. None is missed."""
    import numpy as np

    distinct, back = np.unique(hashes.view(np.uint64), return_inverse=True)

    def keys() -> Iterator[npt.NDArray[Any]]:
        edges = np.linspace(0, 64, bits + EQUAL_PIECES + 1).astype(int).tolist()
        pieces = [((1 << end) - 1) ^ ((1 << begin) - 1) for begin, end in zip(edges, edges[1:], strict=False)]
        for some in combinations(pieces, EQUAL_PIECES) if bits else ():
            yield distinct & np.uint64(sum(some))

    def are_near(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[Any]:
        near: npt.NDArray[Any] = np.bitwise_count(distinct[one] ^ distinct[other]) <= bits
        return near

    return _grouped(len(distinct), keys(), are_near)[back]


def near_texts(signatures: npt.NDArray[Any], share: float) -> npt.NDArray[Any]:
    """A number for each signature (a row), the same for those that a chain of texts joins, each with at least
    this share of its words in common with the next, as far as signatures tell."""
    import numpy as np

    with needs("duplicates"):
        from datasketch import MinHashLSH
    rows = np.ascontiguousarray(signatures, dtype=np.uint32)
    named = rows.view(f"V{rows.dtype.itemsize * PERMUTATIONS}").ravel()
    _, first, back = np.unique(named, return_index=True, return_inverse=True)
    distinct = rows[first]
    # The most alike that the bands can tell apart: at 1 the signatures are equal, and that is known already.
    lsh = MinHashLSH(threshold=min(share, 0.99), num_perm=PERMUTATIONS, weights=MISSED)
    odd = np.random.default_rng(0).integers(0, 1 << 63, lsh.r, dtype=np.uint64) * np.uint64(2) + np.uint64(1)

    def keys() -> Iterator[npt.NDArray[Any]]:
        for start in range(0, lsh.b * lsh.r, lsh.r):
            # Wraps around; who meets by chance is found out below.
            yield (distinct[:, start : start + lsh.r] * odd).sum(axis=1)

    def are_near(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[Any]:
        near: npt.NDArray[Any] = (distinct[one] == distinct[other]).mean(axis=1) >= share
        return near

    return _grouped(len(distinct), keys(), are_near)[back]


def _grouped(
    count: int,
    keys: Iterator[npt.NDArray[Any]],
    are_near: Callable[[npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]],
) -> npt.NDArray[Any]:
    """The group of each of `count` things: only those with a key in common are held against one another, and
    no longer if they are in one group already."""
    import numpy as np

    groups = np.arange(count)
    for key in keys:
        order = np.argsort(key, kind="stable")
        ordered, ones, others, held = key[order], [], [], 0
        at = np.arange(count - 1)
        step = 1
        while len(at):
            # Neighbours at this distance in a run of equal keys; a run is done when it is shorter.
            at = at[at + step < count]
            at = at[ordered[at] == ordered[at + step]]
            one, other = order[at], order[at + step]
            apart = groups[one] != groups[other]
            one, other = one[apart], other[apart]
            pieces = [slice(start, start + AT_ONCE) for start in range(0, len(one), AT_ONCE)]
            near = np.concatenate([np.zeros(0, bool), *(are_near(one[some], other[some]) for some in pieces)])
            ones.append(groups[one[near]])
            others.append(groups[other[near]])
            held += len(ones[-1])
            # Early, for those that are all alike are one group by then: 8,000 filled-in forms took 1 GB of
            # pairs and 25 s, when groups were made one at the end of a key.
            if held and (step.bit_count() == 1 or held >= EDGES):
                groups, ones, others, held = _joined(groups, ones, others), [], [], 0
            step += 1
        if held:
            groups = _joined(groups, ones, others)
    return groups


def _joined(
    groups: npt.NDArray[Any], ones: list[npt.NDArray[Any]], others: list[npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """The groups, where each of `ones` and its other are one."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    row, column = np.concatenate(ones), np.concatenate(others)
    pairs = coo_array((np.ones(len(row), bool), (row, column)), shape=(len(groups), len(groups)))
    joined: npt.NDArray[Any] = connected_components(pairs, directed=False)[1][groups]
    return joined
