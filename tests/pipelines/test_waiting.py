"""A run whose engines find no room says so, and gives up when it has said it would."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipelines.waiting import FIRST_SECONDS, Waiting, mention_cpus
from schemas.errors import ClusterUnavailable
from schemas.job import EngineOptions


class Run:
    """One that waits at most a thousand seconds, on a clock that is set by hand."""

    def __init__(self, *lanes: str) -> None:
        self.now = 50.0
        self.gpus = 1.0
        self._words = io.StringIO()
        self._waiting = Waiting(
            Console(file=self._words, width=300),
            lanes,
            1.0,
            1_000,
            lambda: self.now,
            lambda: "none has",
            lambda: self.gpus,
        )

    def after(self, seconds: float, *placed: str) -> str:
        """What it has said by then."""
        self.now = 50.0 + seconds
        self._waiting.look({(lane, "infer", "placed"): 1 for lane in placed})
        return self._words.getvalue()


def test_it_says_what_it_waits_for_and_ever_more_seldom() -> None:
    run = Run("vision")
    assert run.after(FIRST_SECONDS - 1) == ""
    said = run.after(FIRST_SECONDS)
    assert "waiting for 1 GPU and 1 CPU for an engine of vision: none has; 20 s so far" in said
    assert "limits.node_seconds: 1000" in said
    assert run.after(2 * FIRST_SECONDS - 1) == said
    assert run.after(2 * FIRST_SECONDS).count("waiting") == 2


def test_it_gives_up() -> None:
    run = Run("vision", "audio")
    run.after(999)
    with pytest.raises(ClusterUnavailable, match=r"within 1000 s \(limits\.node_seconds\): none has"):
        run.after(1_000)


def test_a_lane_that_waits_for_anothers_gpu_is_mentioned_and_ends_nothing() -> None:
    said = Run("vision", "audio").after(5_000, "vision")
    assert "for an engine of audio" in said and "vision" not in said


def test_with_room_for_all_it_says_nothing() -> None:
    assert Run("vision", "audio").after(5_000, "vision", "audio") == ""


@pytest.mark.parametrize("placed", [("vision", "audio"), ("vision",)])
def test_the_last_node_with_a_gpu_is_not_missed_for_ever(placed: tuple[str, ...]) -> None:
    run = Run("vision", "audio")
    for seconds in range(0, 2_001, 10):
        before = run.after(seconds, *placed).count("vision")
    assert before == 0
    run.gpus = 0
    said = run.after(2_000 + FIRST_SECONDS, *placed)
    assert "waiting for 1 GPU and 1 CPU for an engine of vision and for one of audio: none has" in said
    run.gpus = 1
    run.after(2_500, *placed)
    run.gpus = 0
    run.after(3_499, *placed)
    with pytest.raises(ClusterUnavailable, match=r"within 1000 s \(limits\.node_seconds\)"):
        for seconds in range(3_500, 3_541, 10):
            run.after(seconds, *placed)


def test_a_node_that_went_between_two_passes_is_waited_for_from_the_second_on() -> None:
    run = Run("vision")
    run.after(0, "vision")
    run.gpus, run.now = 0, 5_000
    run._waiting.begin()
    run.after(4_990, "vision")
    with pytest.raises(ClusterUnavailable):
        run.after(5_960, "vision")


@pytest.mark.parametrize(
    ("kind", "gpus", "found", "address", "said"),
    [
        ("vllm", None, 0.0, "10.0.0.1:6379", True),
        ("vllm", None, 1.0, "10.0.0.1:6379", False),
        ("vllm", 0, 0.0, "10.0.0.1:6379", False),
        ("openai", None, 0.0, "10.0.0.1:6379", False),
        ("vllm", None, 0.0, None, False),
    ],
)
def test_who_would_scale_up_from_no_gpu_is_told_how(
    kind: str,
    gpus: float | None,
    found: float,
    address: str | None,
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    words = io.StringIO()
    mention_cpus(Console(file=words, width=300), EngineOptions(kind=kind, gpus=gpus), found)
    assert ("engine.gpus: 1 waits for GPU nodes" in words.getvalue()) is said
