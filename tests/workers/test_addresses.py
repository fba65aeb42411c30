"""How addresses are spelled: one spelling per object, for document ids derive from it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import AddressRefused, JobError, ObjectMissing
from schemas.storage import StorageOptions
from workers.registry import STORAGES
from workers.storage.factory import admit, is_under, join, look_up, normalise, open_storage, relative
from workers.storage.local import LocalStorage
from workers.storage.s3 import S3Storage

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1).filter(
    lambda name: name not in (".", "..")
)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("s3://lake", "s3://lake"),
        ("s3://lake/", "s3://lake"),
        ("S3://lake/a", "s3://lake/a"),
        ("s3://lake/a/", "s3://lake/a/"),
        ("s3://lake/a//b/../c", "s3://lake/a//b/../c"),
        ("s3://lake/a b%20?#", "s3://lake/a b%20?#"),
        ("/data/a b%20?#", "file:///data/a b%20?#"),
        ("/data//x/../a/", "file:///data/a"),
        ("//data/a", "file:///data/a"),
        ("/", "file:///"),
        ("file:///data/a/", "file:///data/a"),
        ("file://localhost/data/a", "file:///data/a"),
        ("FILE:///data/a", "file:///data/a"),
        ("http://host/a", "http://host/a"),
    ],
)
def test_one_object_has_one_spelling(written: str, normal: str) -> None:
    assert normalise(written) == normal
    assert normalise(normal) == normal


def test_plain_paths_are_relative_to_the_working_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert normalise("a/b") == f"file://{tmp_path}/a/b"
    assert normalise("./a") == normalise("a") == normalise(str(tmp_path / "a"))
    assert normalise("~/a") == "file:///home/me/a"
    assert normalise("odd:name") == f"file://{tmp_path}/odd:name"


@pytest.mark.parametrize("wrong", ["", "s3://", "s3:///key", "file://host/a", "file://a"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(JobError):
        normalise(wrong)


@given(st.lists(NAMES, min_size=1, max_size=4), st.sampled_from(["s3://lake", "file:///data", "file://"]))
def test_any_name_survives_normalising_and_joining(names: list[str], root: str) -> None:
    uri = "/".join([root, *names])
    assert normalise(uri) == uri
    assert relative(uri, root) == "/".join(names)
    assert is_under(uri, root)


def test_joining_keeps_one_slash_between() -> None:
    assert join("s3://lake", "a") == join("s3://lake/", "/a/") == "s3://lake/a"
    assert join("s3://lake/out", "records/task=ocr", "part-1.parquet") == (
        "s3://lake/out/records/task=ocr/part-1.parquet"
    )
    assert join("file:///", "a") == "file:///a"
    assert join("s3://lake/out", "") == "s3://lake/out/"


def test_a_prefix_ends_at_a_slash() -> None:
    assert is_under("s3://lake/a/b", "s3://lake/a")
    assert is_under("s3://lake/a", "s3://lake/a")
    assert not is_under("s3://lake/ab", "s3://lake/a")
    assert relative("s3://lake/a/b/c", "s3://lake/a/") == "b/c"
    assert relative("s3://lake/a/b", "s3://lake/a/b") == "b"


@pytest.mark.parametrize(
    ("uri", "kind"), [("s3://a/b", S3Storage), ("file:///a", LocalStorage), ("a", LocalStorage)]
)
def test_the_scheme_decides_the_storage(uri: str, kind: type) -> None:
    assert isinstance(open_storage(uri, StorageOptions()), kind)


def test_an_unknown_scheme_lists_the_known() -> None:
    with pytest.raises(JobError) as caught:
        open_storage("gs://lake/a", StorageOptions())
    assert "'gs'" in caught.value.message
    assert all(kind in caught.value.message for kind in STORAGES)


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data/iam/",
        "https://intern.example/a.pdf",
        "ftp://host/a",
        "gopher://host/a",
        "file://host/share/a",
        "s3://",
        "s3:///a",
        "",
    ],
)
def test_a_manifest_cannot_send_workers_elsewhere(uri: str) -> None:
    for options in (StorageOptions(), StorageOptions(allow_local=False)):
        with pytest.raises(AddressRefused):
            admit(uri, options)
        with pytest.raises(AddressRefused):
            look_up(uri, options)


@pytest.mark.parametrize(
    "uri", ["/etc/passwd", "file:///etc/passwd", "FILE:///etc/passwd", "etc", "~/.aws/credentials"]
)
def test_a_manifest_names_files_only_where_that_is_allowed(uri: str) -> None:
    assert admit(uri, StorageOptions()).startswith("file:///")
    with pytest.raises(AddressRefused, match="allow_local"):
        admit(uri, StorageOptions(allow_local=False))
    assert admit("s3://lake/a", StorageOptions(allow_local=False)) == "s3://lake/a"


def test_looking_up_gives_the_facts_or_the_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    info = look_up(os.fspath(tmp_path / "a"), StorageOptions())
    assert (info.uri, info.size) == (f"file://{tmp_path}/a", 5)
    with pytest.raises(ObjectMissing):
        look_up(os.fspath(tmp_path / "b"), StorageOptions())
