"""vLLM finds a picture's place in a prompt once, and it is where it was."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("mask", [None, [0, 1, 0, 1, 1], [1, 1, 1], [0, 0], [1]])
def test_what_is_found_once_is_what_was_found_each_time(
    mask: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.multimodal.inputs import PlaceholderRange

    from workers.vllm_models import once

    length = 3 if mask is None else len(mask)
    is_embed = None if mask is None else torch.tensor(mask, dtype=torch.bool)
    place = PlaceholderRange(offset=2, length=length, is_embed=is_embed)
    truth = once._anew(place)
    assert place.extract_embeds_range() == truth
    monkeypatch.setattr(once, "_anew", None)
    assert place.extract_embeds_range() == truth
    assert place == PlaceholderRange(offset=2, length=length, is_embed=is_embed)


def test_the_runner_asks_it_the_way_that_is_made_faster() -> None:
    """A version of vLLM that finds it otherwise needs this no more."""
    vllm = importlib.util.find_spec("vllm")
    assert vllm is not None and vllm.origin is not None
    runner = Path(vllm.origin).parent / "v1" / "worker" / "gpu_model_runner.py"
    assert ".extract_embeds_range()" in runner.read_text()
