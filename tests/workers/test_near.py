"""What is nearly the same is found, all of it, and nothing else is grouped with it."""

from __future__ import annotations

import io
import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from workers import near
from workers.near import near_pictures, near_texts, picture_hash, signature

BITS = st.integers(0, 10)
FLIPPED = st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 63), max_size=12)), max_size=30)


def by_each_pair(hashes: list[int], bits: int) -> list[int]:
    """The same, the slow way: each against each, then who is joined with whom."""
    groups = list(range(len(hashes)))
    for one, left in enumerate(hashes):
        for other, right in enumerate(hashes[:one]):
            if ((left ^ right) & (1 << 64) - 1).bit_count() <= bits:
                old, new = groups[one], groups[other]
                groups = [new if group == old else group for group in groups]
    return groups


def partition(groups: list[int]) -> set[frozenset[int]]:
    return {frozenset(at for at, other in enumerate(groups) if other == group) for group in groups}


@given(BITS, FLIPPED)
def test_hashes_are_grouped_as_by_looking_at_each_pair(
    bits: int, flipped: list[tuple[int, list[int]]]
) -> None:
    seeds = [random.Random(seed).getrandbits(64) for seed in range(4)]
    hashes = [seeds[seed] ^ sum(1 << bit for bit in set(which)) for seed, which in flipped]
    signed = np.array(hashes, np.uint64).view(np.int64)
    assert partition(near_pictures(signed, bits).tolist()) == partition(by_each_pair(hashes, bits))


def drawn(shift: int, quality: int) -> bytes:
    image = Image.new("RGB", (600, 800), "white")
    draw = ImageDraw.Draw(image)
    rng = random.Random(shift // 100)
    for _ in range(12):
        left, top = rng.randrange(500), rng.randrange(700)
        draw.rectangle((left, top, left + 90, top + 80), fill=(rng.randrange(200), 40, 90))
    body = io.BytesIO()
    image.resize((600 - shift % 100, 800 - shift % 100)).save(body, "JPEG", quality=quality)
    return body.getvalue()


def test_a_picture_saved_anew_is_near_and_another_is_not() -> None:
    hashes = np.array([picture_hash(drawn(*one)) for one in ((100, 95), (140, 40), (200, 95), (230, 50))])
    assert partition(near_pictures(hashes, 6).tolist()) == {frozenset((0, 1)), frozenset((2, 3))}


def test_texts_are_grouped_by_their_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "AT_ONCE", 3)
    rng = random.Random(1)
    vocabulary = [f"word{index}" for index in range(4000)]
    texts = []
    for _ in range(20):
        words = rng.sample(vocabulary, 200)
        # The second lacks a twentieth of the words, and the third is the first in another order and case.
        texts += [" ".join(words), " ".join(words[:190]), " ".join(reversed(words)).upper()]
    signatures = np.stack([made for text in texts if (made := signature(text)) is not None])
    assert partition(near_texts(signatures, 0.8).tolist()) == {
        frozenset(range(at, at + 3)) for at in range(0, 60, 3)
    }
    assert partition(near_texts(signatures, 1.0).tolist()) == {
        group for at in range(0, 60, 3) for group in (frozenset((at, at + 2)), frozenset((at + 1,)))
    }


def test_forms_that_are_all_alike_do_not_pile_up_as_pairs() -> None:
    rng = np.random.default_rng(1)
    form, others = (rng.integers(0, 2**32, (count, near.PERMUTATIONS), np.uint32) for count in (1, 2_000))
    filled_in = np.where(rng.random(others.shape) < 0.97, form, others)
    near_texts(filled_in[:2], 0.9)  # loads what it needs
    tracemalloc.start()
    try:
        groups = near_texts(np.concatenate([filled_in, others[:5]]), 0.9)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert partition(groups.tolist()) == {
        frozenset(range(2_000)),
        *(frozenset((at,)) for at in range(2_000, 2_005)),
    }
    assert peak < 20 << 20


def test_a_script_without_spaces_is_compared_by_its_letters() -> None:
    rng = random.Random(3)
    one, other = ("".join(chr(0x4E00 + rng.randrange(2_000)) for _ in range(400)) for _ in range(2))
    texts = (one, one[:100] + "変" + one[101:], other, "".join(rng.sample(one, 400)))
    signatures = np.stack([made for text in texts if (made := signature(text)) is not None])
    assert partition(near_texts(signatures, 0.8).tolist()) == {
        frozenset((0, 1)),
        frozenset((2,)),
        frozenset((3,)),
    }


def test_what_is_empty_has_no_words() -> None:
    assert signature(" ,. \n") is None
    assert near_texts(np.zeros((0, near.PERMUTATIONS), np.uint32), 0.8).tolist() == []
    assert near_pictures(np.zeros(0, np.int64), 6).tolist() == []
