"""LoRA adapters as a job names them: found before anything starts, part of what an answer is made of."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.plan import Plan, make_plan
from schemas.errors import JobError
from schemas.fingerprint import changes, fingerprint
from schemas.job import make_job
from schemas.models.adapter import CONFIG, WEIGHTS, find_adapter


def plan_of(tasks: list[Any], adapters: dict[str, str] | None = None) -> Plan:
    return make_plan(
        make_job({"input": ".", "output": "out", "tasks": tasks, "models": {"adapters": adapters or {}}}),
        None,
        gpus=0.0,
    )


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A folder as PEFT saves one; what the weights are matters to nobody before an engine loads them."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / CONFIG).write_text('{"r": 8}')
    (folder / WEIGHTS).write_bytes(b"first")
    return folder


THROUGH = [{"task": "ocr", "adapter": "invoices"}, "caption"]


def test_only_the_task_that_names_it_is_another_question(adapter: Path) -> None:
    plain, through = plan_of(["ocr", "caption"]), plan_of(THROUGH, {"invoices": str(adapter)})
    assert through.fingerprints["caption"] == plain.fingerprints["caption"]
    (before,), (now,) = plain.ingredients["ocr"], through.ingredients["ocr"]
    assert "adapter" not in before and fingerprint(before) != fingerprint(now)
    assert changes(before, now) == changes(now, before) == "adapter"
    config = through.lanes[0].config
    assert {name: found.source for name, found in config.adapters.items()} == {"invoices": str(adapter)}


def test_an_adapter_nobody_names_changes_nothing(adapter: Path) -> None:
    declared = plan_of(["ocr"], {"invoices": str(adapter)})
    assert declared.fingerprints == plan_of(["ocr"]).fingerprints
    assert declared.lanes[0].config.adapters == {}


def test_a_folder_counts_by_its_content_and_not_by_its_place_or_name(adapter: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(adapter, copy)
    first, second = find_adapter("a", str(adapter)), find_adapter("b", str(copy))
    assert first.identity == second.identity
    (copy / WEIGHTS).write_bytes(b"second")
    assert find_adapter("b", str(copy)).identity != first.identity


def test_an_id_of_the_hub_counts_by_its_name() -> None:
    assert find_adapter("x", "someone/gemma-3-4b-invoices").identity == "someone/gemma-3-4b-invoices@main"


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([{"task": "ocr", "adapter": "invoice"}], "did you mean 'invoices'?"),
        ([{"task": "ocr", "adapter": "zebra"}], "(there: invoices)"),
        ([{"task": "transcribe", "adapter": "invoices"}], "no LoRA adapter on google/gemma-3n-E4B-it"),
    ],
)
def test_what_cannot_be_is_refused_in_the_plan(tasks: list[Any], words: str, adapter: Path) -> None:
    with pytest.raises(JobError) as caught:
        plan_of(tasks, {"invoices": str(adapter)})
    assert words in caught.value.message


def test_weights_that_would_have_to_be_unpickled_are_refused(adapter: Path) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(JobError, match="no adapter_model.safetensors; save .* safe_serialization=True"):
        plan_of(THROUGH, {"invoices": str(adapter)})
    with pytest.raises(JobError, match="neither a folder nor a Hugging Face id"):
        find_adapter("x", str(adapter / "not-there"))
