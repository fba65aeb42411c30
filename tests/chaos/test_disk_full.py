"""The output's disk runs full in mid-run: the run says so; with more room the same command goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.compare import Folder, Output, assert_lawful, assert_same, part_files, read_output
from tests.chaos.lake import TASKS, Lake, job_file, make_lake
from tests.chaos.process import run_to_end, started

DOCUMENTS = 40
BLOCK = 4096
"""What a file of one byte takes of a tmpfs."""
SINK = {"rows": 10, "seconds": 1}
"""Many small files, so that there is a middle in which the disk is full."""


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of that many bytes, at a folder that is made for it. Skips who may not mount one."""
    folder.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={size}", "gemstream-chaos", str(folder))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk needs the right to mount one: {error}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def quiet_run(lake: Lake, source: Path, folder: Path) -> tuple[Output, int]:
    """What the disturbed run has to come to, and the bytes it takes of a disk."""
    place = Folder(folder / "quiet")
    run_to_end(job_file(folder, str(source), str(place.path), sink=SINK))
    output = read_output(place)
    assert_lawful(output)
    assert output.failed == lake.broken
    sizes = [path.stat().st_size for path in place.path.rglob("*") if path.is_file()]
    return output, sum(-(-size // BLOCK) * BLOCK for size in sizes)


@pytest.mark.thorough
def test_a_disk_that_is_full_in_mid_run(tmp_path: Path) -> None:
    lake, source = make_lake(DOCUMENTS), tmp_path / "lake"
    source.mkdir()
    for name, content in lake.documents.items():
        (source / name).write_bytes(content)
    disk = tmp_path / "disk"
    with small_disk(disk, BLOCK):
        quiet, size = quiet_run(lake, source, tmp_path)
        _mount("-o", f"remount,size={size // 2}", str(disk))
        place = Folder(disk / "output")
        job = job_file(tmp_path, str(source), str(place.path), sink=SINK)
        with started(job) as run:
            status = run.wait()
        said = f"{size // 2} of {size} bytes; the run ended with {status} and said:\n{run.said}"
        print(said)
        assert status == 1, said
        assert "No space left on device; make room, and the same command goes on" in run.said, said
        assert "Traceback" not in run.said and 'File "' not in run.said, said
        before = read_output(place)
        assert part_files(place) and set(before.keys.values()) == {1}, said
        assert before.keys < quiet.keys and before.texts.items() <= quiet.texts.items(), said
        _mount("-o", f"remount,size={size * 4}", str(disk))
        run_to_end(job)
        assert_same(read_output(place), quiet, said)
        assert {key[-1] for key in quiet.keys} == set(TASKS)
