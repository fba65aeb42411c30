"""An engine on CPUs computes in what they are good at, and has a cache for what it may be asked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from schemas.models import find_model
from tests.fixtures.runs import GEMMA3
from workers import memory
from workers.cpu_engine import cache_bytes, dtype_of
from workers.engines import EngineConfig
from workers.engines.vllm import VllmEngine

B4, B27 = "google/gemma-3-4b-it", "google/gemma-3-27b-it"


def _of(source: str | Path, gpus: float = 0.0, **options: object) -> str:
    return dtype_of(EngineConfig(find_model(str(source)), 16, 2_048, gpus, options=options))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without products of bfloat16, of 64 GB."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(memory, "total", lambda: 64e9)


def test_a_cpu_that_has_no_bfloat16_computes_what_fits_in_float32(machine: None) -> None:
    assert _of(GEMMA3) == "float32"
    assert _of(B4) == "float32"
    assert _of(B27) == "bfloat16", "108 GB of 64"


def test_quantized_weights_stay_as_they_are(machine: None, tmp_path: Path) -> None:
    assert _of("RedHatAI/gemma-3-4b-it-quantized.w4a16") == "bfloat16"
    assert _of(B4, quantization="fp8") == "bfloat16"
    folder = shutil.copytree(GEMMA3, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"bits": 8}}))
    assert _of(folder) == "bfloat16"


def test_where_there_is_bfloat16_it_is_that(machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _of(GEMMA3, gpus=1.0) == "bfloat16"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert _of(GEMMA3) == "bfloat16"


def test_a_job_has_the_last_word(machine: None) -> None:
    config = EngineConfig(find_model(str(GEMMA3)), 16, 2_048, options={"dtype": "bfloat16"})
    assert VllmEngine(config).arguments()["dtype"] == "bfloat16"
    large = EngineConfig(find_model(B4), 16, 8_192)
    said = VllmEngine(replace(large, options={"dtype": "bfloat16"})).arguments()
    assert 2 * said["kv_cache_memory_bytes"] == VllmEngine(large).arguments()["kv_cache_memory_bytes"]


def test_the_cache_holds_a_prompt_of_full_length() -> None:
    # By the model's own config: 34 layers, 4 heads of 256, and for each a key and a value.
    exact = 34 * 4 * 256 * 2 * 8_192
    for dtype, width in (("bfloat16", 2), ("float32", 4)):
        held = cache_bytes(EngineConfig(find_model(B4), 16, 8_192), dtype)
        assert exact * width * 1.2 < held < exact * width * 1.4
        assert cache_bytes(EngineConfig(find_model(str(GEMMA3)), 16, 8_192), dtype) == 1 << 30


def test_on_gpus_it_is_for_vllm_to_say() -> None:
    config = EngineConfig(find_model(B4), 16, 8_192)
    assert "kv_cache_memory_bytes" in VllmEngine(config).arguments()
    assert "kv_cache_memory_bytes" not in VllmEngine(replace(config, gpus=1.0)).arguments()


def test_a_containers_memory_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.total()
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "LIMITS", (str(tmp_path / "none"), str(limit)))
    limit.write_text("max\n")
    assert memory.total() == whole
    limit.write_text("1000000000\n")
    assert memory.total() == 1e9 and memory.free() <= 1e9
