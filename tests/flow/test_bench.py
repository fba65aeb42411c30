"""`gemstream bench`: it measures real parts, and what it saves sizes a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.demo.documents import EXAMPLES
from pipelines.bench import bench
from pipelines.cli import app
from pipelines.preview import preview
from pipelines.sources import open_source
from pipelines.specimens import write_specimens
from schemas.errors import JobError
from schemas.job import JobSpec, load_job
from schemas.rates import Rates, find_rates
from schemas.rows import PartKind
from schemas.storage import StorageOptions
from tests.fixtures.runs import DEMO_JOB, GEMMA3, GEMMA3N

FaultJob = Callable[..., JobSpec]


def figures(rates: Rates) -> list[float]:
    engines = [
        figure
        for engine in rates.engines.values()
        for figure in (engine.prefill_tokens_per_second, engine.decode_tokens_per_second)
    ]
    return [*engines, *rates.expand_seconds.values(), rates.record_seconds, rates.list_keys_per_second]


def test_the_command_saves_what_a_plan_is_sized_by(ray_cluster: None, tmp_path: Path) -> None:
    saved = tmp_path / "rates.yaml"
    settings = ["--set", "engine.kind=fault", "--set", "engine.max_num_seqs=4"]
    models = ["--vision-model", str(GEMMA3), "--audio-model", str(GEMMA3N)]
    command = ["bench", "-i", str(EXAMPLES), "--documents", "39", "--save", str(saved), *settings, *models]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "gemma3-demo, answer tokens a second" in done.output
    assert "measured by gemstream bench" in done.output
    rates = find_rates(str(saved))
    assert set(rates.expand_seconds) == set(PartKind)
    assert set(rates.engines) == {"gemma3-demo", "gemma3n-demo"}
    assert min(figures(rates)) > 0
    job = load_job(
        DEMO_JOB,
        {
            "input": str(EXAMPLES),
            "output": str(tmp_path / "out"),
            "models": {"vision": str(GEMMA3), "audio": str(GEMMA3N)},
            "rates": str(saved),
        },
    )
    told = preview(job).prediction
    assert set(told.engine_seconds or {}) == set(rates.engines) and told.expand_seconds


def test_expand_takes_longer_where_more_is_shown(
    fault_job: FaultJob, ray_cluster: None, tmp_path: Path
) -> None:
    write_specimens(tmp_path)
    small, large = (
        bench(
            fault_job(input=str(tmp_path), include=["*.jpg"], tasks=["ocr"], expand={"image_size": side}), 6
        )
        for side in (224, 1_792)
    )
    assert large.expand_seconds["image"] > 2 * small.expand_seconds["image"]


def test_specimens_have_a_part_of_every_kind(tmp_path: Path, fault_job: FaultJob) -> None:
    write_specimens(tmp_path)
    assert sum(map(len, open_source([str(tmp_path)], StorageOptions()).documents())) == 10
    seen = preview(fault_job(input=str(tmp_path)))
    assert set(seen.parts) == set(PartKind) and seen.parts["page"] == 16


def test_a_source_with_nothing_to_measure_is_refused(
    fault_job: FaultJob, ray_cluster: None, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match="no document"):
        bench(fault_job(input=str(tmp_path)), 4)
    (tmp_path / "notes.txt").write_text("nothing that is asked about")
    with pytest.raises(JobError, match="has a part"):
        bench(fault_job(input=str(tmp_path)), 4)


@pytest.mark.thorough
def test_the_real_engine_is_measured_at_full_batch(ray_cluster: None, tmp_path: Path) -> None:
    settings = {
        "input": str(EXAMPLES),
        "output": str(tmp_path / "out"),
        "tasks": [{"task": "ocr", "max_tokens": 64}],
        "models": {"vision": str(GEMMA3)},
        "engine.max_num_seqs": 8,
    }
    rates = bench(load_job(DEMO_JOB, settings), 12)
    engine = rates.engines["gemma3-demo"]
    assert engine.start_seconds > 1
    assert engine.prefill_tokens_per_second > engine.decode_tokens_per_second > 10
    assert 0 < engine.media_seconds["page"] < 1
    assert 0.0005 < rates.record_seconds < 0.1
    assert not (tmp_path / "out").exists(), "its output is left alone"
