"""The process that holds the model stands still, and then is killed, under real vLLM: each time the run
replaces it, and answers everything."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest
import yaml

from deploy.demo.documents import make_examples
from tests.chaos.compare import Folder, assert_lawful, part_files, read_output
from tests.chaos.process import Run, assert_gone, gone, run_to_end, started, title
from tests.fixtures.runs import GEMMA3

ENGINE = "VLLM::EngineCore"
FOLDERS = ("photos/*", "shapes/*", "scans/*")
"""More documents than travel together, so that some are answered while others wait."""
HEARTBEAT_SECONDS = 25
"""For an engine that stands still. A step of this model takes a tenth of a second, but a worker that imports
vLLM on a busy machine does not stir for more than ten; one that is killed needs no such limit, and at a load
of 22 was taken for dead again, with one question in it."""
TASKS = ("ocr", "caption")
SEEDS = ("chaos-1", "chaos-2", "chaos-3", "chaos-4")
"""Of two sets of documents for each death: an idle machine has answered one before it can be disturbed."""


def engines(run: Run) -> list[psutil.Process]:
    """vLLM's engine core processes of a run, which name themselves."""
    return [member for member in run.family() if not gone(member) and title(member).startswith(ENGINE)]


@pytest.mark.parametrize(
    ("numbers", "limits"),
    [
        pytest.param([signal.SIGKILL], {}, id="killed"),
        pytest.param(
            [signal.SIGSTOP, signal.SIGKILL],
            {"heartbeat_seconds": HEARTBEAT_SECONDS},
            id="stopped-and-killed",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_an_engine_that_is_gone_is_replaced(
    tmp_path: Path, numbers: list[signal.Signals], limits: dict[str, float]
) -> None:
    place = Folder(tmp_path / "output")
    for seed in SEEDS[: 2 * len(numbers)]:
        make_examples(tmp_path / "lake" / seed, seed)
    job = tmp_path / "job.yaml"
    values = {
        "input": str(tmp_path / "lake"),
        "include": [f"*/{pattern}" for pattern in FOLDERS],
        "output": str(place.path),
        "tasks": [{"task": "ocr", "max_tokens": 64}, {"task": "caption", "max_tokens": 32}],
        "models": {"vision": str(GEMMA3)},
        # Two at once, so that there is a middle to kill it in, however long the first writer takes to start.
        "engine": {"max_num_seqs": 2, "max_model_len": 1024},
        "sink": {"rows": 4, "seconds": 1},
        "limits": {"failed_share": 0.0} | limits,
    }
    job.write_text(yaml.safe_dump(values))
    with started(job) as run:
        gone_before: set[psutil.Process] = set()
        for number in numbers:
            files = len(part_files(place))
            assert run.until(lambda: len(part_files(place)) > files), run.said  # noqa: B023
            living = set(engines(run)) - gone_before
            assert len(living) == 1, f"the run was done before its engine could be disturbed:\n{run.said}"
            (engine,) = living
            engine.send_signal(number)
            gone_before.add(engine)
            assert run.until(lambda: set(engines(run)) - gone_before), f"no other came up:\n{run.said}"
        family = run.family()
        assert run.wait() == 0, run.said
    output = read_output(place, TASKS)
    assert_lawful(output)
    # One that was in flight at the first death is asked alone, and may be when the second comes: of two it is
    # blamed, as promised. It is one at most, has a name, and is answered when it is asked again.
    assert len(output.errors) < len(numbers), "no document is blamed for one death of the engine"
    assert {category for *_, category in output.errors} <= {"poison"}, run.said
    if output.errors:
        run_to_end(job)
        output = read_output(place, TASKS)
        assert_lawful(output)
    names = [path for pattern in FOLDERS for path in (tmp_path / "lake").glob(f"*/{pattern}")]
    counts = output.counts
    assert counts is not None
    assert counts["ok"] + counts["skipped"] == counts["listed"] == len(names), run.said
    assert not output.errors
    assert set(output.keys.values()) == {1}
    assert_gone([*gone_before, *family])
