"""Weights: folders as people really have them, and a hub that refuses in each of its ways."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from pipelines.doctor.models import models
from tests.doctor.patients import patient, told
from tests.fixtures.runs import GEMMA3, GEMMA3N
from tests.workers.answering import Said, answering

if TYPE_CHECKING:
    from pathlib import Path

HUB_ID = "google/gemma-3-4b-it"


def line(**named: object) -> str:
    """The one line about the job's vision model."""
    (found,) = told(models(patient(tasks=["ocr"], models=named))).values()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the demo's checkpoint."""
    return shutil.copytree(GEMMA3, tmp_path / "model")


def test_folders_that_are_whole() -> None:
    found = told(
        models(patient(tasks=["ocr", "transcribe"], models={"vision": str(GEMMA3), "audio": str(GEMMA3N)}))
    )
    assert set(found) == {"models.vision", "models.audio"}
    assert all(line.startswith("ok: ") for line in found.values()), found


def test_a_folder_without_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.unlink()
    assert line(vision=str(folder)).startswith("failed") and "no *.safetensors" in line(vision=str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert "holds pickles (pytorch_model.bin)" in line(vision=str(folder))


def test_weights_that_are_not_whole(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "is not whole" in line(vision=str(folder))
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456789\n")
    assert "is not whole" in line(vision=str(folder)) and "git lfs pull" in line(vision=str(folder))
    path.write_bytes(whole)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00002.safetensors"}}')
    assert "lacks 1 of its files, model-00002.safetensors" in line(vision=str(folder))


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer.*"):
        path.unlink()
    assert "tokenizer.json" in line(vision=str(folder))


def test_a_config_that_is_none(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert line(vision=str(folder)).startswith("failed: its config.json does not hold")


def test_a_model_that_is_neither(tmp_path: Path) -> None:
    found = line(vision="google/gemma-3-8b-it")
    assert found.startswith("failed") and "did you mean" in found


def test_an_adapter_that_is_pickled(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04")
    found = told(
        models(patient(tasks=["ocr"], models={"vision": str(GEMMA3), "adapters": {"a": str(tmp_path)}}))
    )
    assert found["models.adapters.a"].startswith("failed")


def test_an_id_without_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = line(vision=HUB_ID)
    assert found.startswith("failed") and "HF_HUB_OFFLINE" in found and f"hf download {HUB_ID}" in found


def test_an_id_that_is_in_the_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--google--gemma-3-4b-it"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    assert line(vision=HUB_ID).startswith(f"ok: {HUB_ID} is in the cache")
    next(snapshot.glob("*.safetensors")).unlink()
    assert "is not whole in the cache" in line(vision=HUB_ID)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (200, "", "warning: google/gemma-3-4b-it may be fetched, 8.0 GB"),
        (403, "GatedRepo", "is gated, and no token is here -> accept its terms at "),
        (401, "RepoNotFound", "failed: the hub shows no google/gemma-3-4b-it"),
        (500, "", "failed: the hub answers 500"),
    ],
)
def test_what_the_hub_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: str
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    said = Said(status, {}, {"X-Error-Code": code})
    with answering(lambda asked: said) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert words in line(vision=HUB_ID)


def test_a_hub_that_is_not_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with answering() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
    assert "the hub is not reached" in line(vision=HUB_ID)
