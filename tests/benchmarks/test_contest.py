"""Contests hand both sides the same, in turns, and notice when one did something else."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.benchmarks import contenders
from tests.benchmarks.contest import TURN_SECONDS, Contest, Turns, Work
from tests.benchmarks.portions import job_for, run_portions
from tests.benchmarks.processes import DRIVER, Spent
from tests.fixtures.runs import GEMMA3


def counting(folder: Path, turns: Turns) -> None:
    """A side that counts files, a second each eight, and writes down which."""
    _counting(folder, turns, 1 / 8)


def slow(folder: Path, turns: Turns) -> None:
    """One on which half of them take as long as a turn may last."""
    _counting(folder, turns, TURN_SECONDS / 40)


def stalled(folder: Path, turns: Turns) -> None:
    """One on which two take as long."""
    _counting(folder, turns, TURN_SECONDS / 2)


def _counting(folder: Path, turns: Turns, seconds: float) -> None:
    for portion in turns:
        count = len(list(portion.iterdir()))
        with (folder / "seen").open("a") as seen:
            seen.write(f"{portion.name} {count}\n")
        turns.answered(count, count * seconds, 7)


def careless(folder: Path, turns: Turns) -> None:
    """A side that leaves one out."""
    for portion in turns:
        turns.answered(len(list(portion.iterdir())) - 1, 0.5, 7)


def broken(folder: Path, turns: Turns) -> None:
    """A side that fails at its first portion."""
    for portion in turns:
        raise LookupError(f"no engine for {portion.name}")


def _contest(other: str) -> Contest:
    def make(folder: Path, seed: str, count: int) -> None:
        for number in range(count):
            (folder / str(number)).write_text(seed)

    return Contest("c", "counting", other, "it", (Work("w", "files", "file", 1.0, 160, make, 16),))


def _row(other: str, folder: Path) -> dict[str, Any]:
    (result,) = _contest(other).results(__name__, folder, repetitions=2, scale=0.5)
    return result.row()


def test_both_sides_answer_the_same_portions_after_two_that_are_not_counted(tmp_path: Path) -> None:
    row = _row("counting", tmp_path)
    assert (row["units"], row["ratio"], row["ours_tokens"]) == (80, 1.0, 14)
    for side in ("ours", "bare"):
        assert (tmp_path / side / "seen").read_text().splitlines() == ["warm 16", "tried 16", "0 80", "1 80"]
    portions = tmp_path / "portions" / "w"
    seeds = {(portion / "0").read_text() for portion in portions.iterdir()}
    assert len(seeds) == 4, "an engine's caches know what it has seen"


@pytest.mark.parametrize(
    ("other", "seen"),
    [("slow", ["warm 16", "tried 16", "0 40", "1 40"]), ("stalled", ["warm 16", "tried 16", "1 16"])],
)
def test_a_portion_is_as_large_as_what_the_slower_side_does_in_a_turn(
    other: str, seen: list[str], tmp_path: Path
) -> None:
    row = _row(other, tmp_path)
    assert row["units"] == int(seen[-1].split()[1])
    for side in ("ours", "bare"):
        assert (tmp_path / side / "seen").read_text().splitlines() == seen


def test_a_side_that_does_less_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="80 answers of ours, 79 of theirs"):
        _row("careless", tmp_path)


def test_a_side_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="LookupError: no engine for warm"):
        _row("broken", tmp_path)


def test_what_a_process_took_is_known_when_it_is_gone() -> None:
    burn = "import time\nwhile time.process_time() < 1.5: pass\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", burn])
    spent = Spent(psutil.Process())
    before = spent.now()[DRIVER]
    try:
        deadline = time.monotonic() + 60
        while spent.now()[DRIVER] < before + 1.0:
            assert time.monotonic() < deadline
        child.kill()
        child.wait()
        assert spent.now()[DRIVER] >= before + 1.0
    finally:
        spent.close()


class Handed(Turns):
    """Portions that are there, and what is said of them."""

    def __init__(self, portions: list[Path]) -> None:
        self.portions, self.said = portions, list[int]()

    def __iter__(self) -> Iterator[Path]:
        return iter(self.portions)

    def answered(self, units: int, seconds: float, tokens: int, **facts: float) -> None:
        assert seconds > 0 and facts["stored"] >= 0
        self.said.append(units)


def test_one_run_answers_portion_after_portion(ray_cluster: None, tmp_path: Path) -> None:
    portions = [tmp_path / "portions" / name for name in ("a", "b")]
    for place, portion in enumerate(portions):
        portion.mkdir(parents=True)
        for number in range(place + 1):
            Image.new("RGB", (32, 32), (place, number, 0)).save(portion / f"{number}.png")
    turns = Handed(portions)
    job = job_for(tmp_path, ["ocr"], models={"vision": str(GEMMA3)}, engine={"kind": "fault"})
    report = run_portions(job, tmp_path, turns)
    assert turns.said == [1, 2] and report.counts.ok == 3


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_the_job_by_hand_says_what_ours_says(tmp_path: Path) -> None:
    contest = contenders.PAIRS["by-hand-images"]
    list(contest.results(contenders.__name__, tmp_path, repetitions=1, scale=0.7))
    ours = {
        row["uri"].rpartition("/portions/")[2]: row["text"]
        for path in (tmp_path / "ours" / "output" / "records").rglob("*.parquet")
        for row in pq.read_table(path, columns=["uri", "text"], partitioning=None).to_pylist()
    }
    theirs = {
        row["path"].rpartition("/portions/")[2]: row["text"]
        for path in (tmp_path / "bare").glob("*.parquet")
        for row in pq.read_table(path, columns=["path", "text"]).to_pylist()
    }
    assert ours.keys() == theirs.keys()
    same = sum(ours[name].strip() == text.strip() for name, text in theirs.items())
    assert same >= 0.9 * len(ours), "what is shown differs by a JPEG, so a letter may"
