"""Scratch folders end with their process, however it ends."""

import fcntl
import subprocess
import sys
import time

from workers.scratch import PREFIX, Scratch, _sweep

HOLD = """
import time
from workers.scratch import Scratch
scratch = Scratch()
(scratch.folder() / "big").touch()
print("here", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_left_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, env={"TMPDIR": str(tmp_path), "PYTHONPATH": "."}
    )
    assert process.stdout.readline()
    ours = Scratch()
    assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 2, "the folder of a live process was removed"
    process.kill()
    process.wait()
    process.stdout.close()
    time.sleep(0.05)
    ours.close()
    ours.close()
    after = Scratch()
    assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 1
    after.close()
    assert list(tmp_path.iterdir()) == []


def test_folders_are_used_again_and_empty(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = Scratch()
    first = scratch.folder()
    (first / "deep").mkdir()
    (first / "deep" / "file").write_text("x")
    (first / "link").symlink_to("/etc/passwd")
    scratch.release(first)
    assert scratch.folder() == first
    assert list(first.iterdir()) == []
    assert scratch.folder() != first
    scratch.close()


def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lock, started = fcntl.flock, []

    def late(descriptor, how):
        if how == fcntl.LOCK_EX and not started:
            started.append(True)
            _sweep()  # as another process does that starts now
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    scratch = Scratch()
    assert scratch.folder().is_dir()
    scratch.close()
    assert list(tmp_path.iterdir()) == []
