"""Shards divide the documents: each one is somebody's, and nobody's twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.errors import JobError
from schemas.ids import document_id
from schemas.shard import Shard


@given(st.lists(st.text(), max_size=20), st.integers(1, 64))
def test_each_document_lies_in_exactly_one_shard(uris: list[str], count: int) -> None:
    ids = [document_id(uri) for uri in uris]
    held = [Shard(index=index, count=count).holds(ids) for index in range(1, count + 1)]
    assert [sum(shares) for shares in zip(*held, strict=True)] == [1] * len(ids)


@given(st.integers(1, 10**9 - 1).flatmap(lambda count: st.tuples(st.integers(1, count), st.just(count))))
def test_a_shard_is_read_as_it_is_written(numbers: tuple[int, int]) -> None:
    shard = Shard(index=numbers[0], count=numbers[1])
    assert str(shard) == f"{numbers[0]}/{numbers[1]}"
    assert Shard.parse(str(shard)) == shard
    assert Shard.model_validate_json(shard.model_dump_json()) == shard


def test_shares_are_about_equal() -> None:
    ids = [document_id(f"s3://lake/{number}.pdf") for number in range(8_000)]
    shares = [sum(Shard(index=index, count=8).holds(ids)) for index in range(1, 9)]
    assert min(shares) > 900 and max(shares) < 1_100


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0/16", "counted from 1, write 1/16 to 16/16"),
        ("17/16", "the last is 16/16"),
        ("1/0", "at least one shard"),
        ("0/0", "at least one shard"),
        ("3", "write index/count, such as 3/16"),
        ("3-16", "write index/count"),
        ("-1/16", "write index/count"),
        ("1.5/16", "write index/count"),
        ("a/b", "write index/count"),
        ("", "write index/count"),
        ("1/" + "9" * 5000, "write index/count"),
    ],
)
def test_what_is_no_shard_says_what_was_meant(text: str, meant: str) -> None:
    with pytest.raises(JobError, match=meant) as caught:
        Shard.parse(text)
    assert caught.value.fields["key"] == "shard"


@pytest.mark.parametrize(("index", "count"), [(0, 1), (1, 0), (3, 2), (-1, 4)])
def test_there_is_no_other_shard(index: int, count: int) -> None:
    with pytest.raises(ValidationError):
        Shard(index=index, count=count)
