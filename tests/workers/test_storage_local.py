"""What is particular to files: links, pipes, permissions, names that are not UTF-8, left-overs."""

from __future__ import annotations

import errno
import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from schemas.errors import AccessDenied, ObjectChanged, ObjectMissing, StorageUnavailable
from schemas.storage import StorageOptions
from workers.storage.factory import normalise
from workers.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@pytest.fixture
def storage() -> LocalStorage:
    """Local storage takes no options of its own."""
    return LocalStorage(StorageOptions())


@pytest.fixture
def not_root() -> Iterator[None]:
    """Run as a user whom permissions bind, for they do not bind root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def listed(storage: LocalStorage, root: Path) -> list[str]:
    """Names relative to the root."""
    return [info.uri.removeprefix(f"file://{root}/") for info in storage.list(f"file://{root}")]


def test_a_listing_is_in_the_order_of_whole_keys(storage: LocalStorage, tmp_path: Path) -> None:
    names = ["a-b", "a/10", "a/2", "a.pdf", "b/c/d", "b0", "Z", "é", "zz"]
    for name in names:
        storage.publish(f"file://{tmp_path}/{name}", b"")
    assert listed(storage, tmp_path) == sorted(names)


def test_a_root_that_is_not_there_is_missing(storage: LocalStorage, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match="nothing is there"):
        next(storage.list(f"file://{tmp_path}/nowhere"))


def test_an_empty_folder_lists_nothing(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert listed(storage, tmp_path) == []


def test_links_lead_nowhere_outside(
    storage: LocalStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "folder").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("s")
    (root / "folder" / "file").write_text("f")
    (root / "to-file").symlink_to("folder/file")
    (root / "to-secret").symlink_to(outside / "secret")
    (root / "to-outside").symlink_to(outside)
    (root / "to-folder").symlink_to("folder")
    (root / "in-a-circle").symlink_to(root)
    (root / "to-nothing").symlink_to("nothing")
    (root / "to-itself").symlink_to("to-itself")
    assert listed(storage, root) == ["folder/file", "to-file"]
    assert {record.message.partition(" ")[0].rpartition("/")[2] for record in caplog.records} == {
        "to-secret",
        "to-outside",
        "to-folder",
        "in-a-circle",
        "to-nothing",
        "to-itself",
    }


def test_folders_may_lie_deeper_than_calls(storage: LocalStorage, tmp_path: Path) -> None:
    deepest = "d/" * 200
    (tmp_path / deepest).mkdir(parents=True)
    (tmp_path / deepest / "a").touch()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)  # in place of a thousand, which take seconds to make
    try:
        found = listed(storage, tmp_path)
    finally:
        sys.setrecursionlimit(before)
    assert found == [f"{deepest}a"]


def test_a_linked_root_is_entered(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").write_text("a")
    (tmp_path / "there" / "b").symlink_to("a")
    (tmp_path / "link").symlink_to("there")
    assert listed(storage, tmp_path / "link") == ["a", "b"]


def test_pipes_are_neither_listed_nor_waited_for(storage: LocalStorage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert listed(storage, tmp_path) == []
    for call in (storage.read, storage.info):
        with pytest.raises(ObjectMissing, match="no file"):
            call(f"file://{tmp_path}/pipe")
    with pytest.raises(ObjectMissing, match="no file"):
        storage.read("file:///dev/zero")


def test_names_that_are_not_utf8_are_listed_and_read(storage: LocalStorage, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfc\xdfe.txt")).write_bytes(b"latin")
    [info] = storage.list(f"file://{tmp_path}")
    assert info.uri.endswith("/gr\\xfc\\xdfe.txt")
    assert storage.read(info.uri, version=info.version) == b"latin"


def test_a_name_that_only_looks_escaped_is_itself(storage: LocalStorage, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/a\\xfc"
    storage.publish(uri, b"word for word")
    assert storage.read(uri) == b"word for word"
    assert [info.uri for info in storage.list(f"file://{tmp_path}")] == [uri]


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "n" * 300])
def test_impossible_names_are_missing(storage: LocalStorage, tmp_path: Path, name: str) -> None:
    with pytest.raises(ObjectMissing):
        storage.read(f"file://{tmp_path}/{name}")


def test_an_encoded_address_gets_the_hint_that_nothing_is_decoded(
    storage: LocalStorage, tmp_path: Path
) -> None:
    with pytest.raises(ObjectMissing, match="a space as a space"):
        storage.read(f"file://{tmp_path}/a%20b.pdf")


def test_what_cannot_be_read_is_denied(storage: LocalStorage, not_root: None) -> None:
    with pytest.raises(AccessDenied, match="let user id"):
        storage.read("file:///etc/shadow")


def test_a_folder_that_cannot_be_listed_stops_the_listing(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files would be lost in silence otherwise."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "a").write_text("a")
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = storage.list(f"file://{tmp_path}")
    assert next(listing).uri.endswith("/a")
    with pytest.raises(AccessDenied, match="closed"):
        next(listing)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_goes_while_it_is_listed_does_not_end_the_listing(
    storage: LocalStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture, replaced: bool
) -> None:
    for name in ("a/1", "c/1"):
        storage.publish(f"file://{tmp_path}/{name}", b"")
    gone = tmp_path / "b"
    gone.mkdir()
    listing = storage.list(f"file://{tmp_path}")
    assert next(listing).uri.endswith("/a/1")
    gone.rmdir()
    if replaced:
        gone.touch()
    assert [info.uri for info in listing] == [f"file://{tmp_path}/c/1"]
    assert f"file://{gone} was removed while it was listed" in caplog.text


def test_a_folder_too_deep_to_enter_stops_the_listing(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, unlike one that went."""
    (tmp_path / "deep").mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("deep"):
            raise OSError(errno.ENAMETOOLONG, "File name too long")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ObjectMissing, match="longer than the file system takes"):
        list(storage.list(f"file://{tmp_path}"))


def test_published_files_have_the_permissions_of_any_new_file(storage: LocalStorage, tmp_path: Path) -> None:
    storage.publish(f"file://{tmp_path}/new", b"")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_failed_publish_leaves_the_old_file_and_nothing_else(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    uri = f"file://{tmp_path}/a"
    storage.publish(uri, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if broken == "write":
        monkeypatch.setattr(os, "write", full)
    else:
        monkeypatch.setattr(os, broken, full)
    with pytest.raises(StorageUnavailable, match="No space left"):
        storage.publish(uri, b"new")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["a"]
    assert storage.read(uri) == b"old"


_KILLED_BEFORE_THE_RENAME = """
import os, signal, sys
from schemas.storage import StorageOptions
from workers.storage.local import LocalStorage
os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
LocalStorage(StorageOptions()).publish(sys.argv[1], b"half")
"""


def test_what_a_killed_writer_left_is_not_listed(storage: LocalStorage, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _KILLED_BEFORE_THE_RENAME, f"file://{tmp_path}/a"])
    assert ended.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1
    assert listed(storage, tmp_path) == []


def test_a_file_written_to_while_it_is_read_has_changed(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b"line\n")
    real = os.pread

    def pread(descriptor: int, wanted: int, start: int) -> bytes:
        content = real(descriptor, wanted, start)
        with (tmp_path / "log").open("ab") as file:
            file.write(b"more\n")
        return content

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(ObjectChanged):
        storage.read(f"file://{tmp_path}/log")


def test_a_file_in_the_way_of_a_folder_is_named(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(ObjectMissing, match="a file lies where a folder is needed"):
        storage.publish(normalise(f"{tmp_path}/a/b/c"), b"")


def test_a_file_of_another_age_is_listed_without_its_time(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").touch()
    stat = os.stat

    def aged(path: str, **how: Any) -> os.stat_result:
        facts = list(stat(path, **how))
        return os.stat_result([*facts[:8], 300_000_000_000, facts[9]])

    monkeypatch.setattr(os, "stat", aged)
    uri = normalise(str(tmp_path))
    [info] = storage.list(uri)
    monkeypatch.undo()
    assert info.modified is None and info.version.startswith("0-")
