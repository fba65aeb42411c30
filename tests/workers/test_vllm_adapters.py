"""LoRA on the real engine and the small checkpoint: an adapter answers for the tasks that name it, alone."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deploy.demo.documents import EXAMPLES, read_truth
from schemas.errors import EngineUnavailable, RequestRefused
from schemas.ids import digest
from schemas.models import find_model
from schemas.models.adapter import CONFIG, Adapter, find_adapter
from schemas.rows import PartKind, Shown
from schemas.tasks import make_task
from tests.fixtures.adapters import write_adapter
from tests.fixtures.runs import GEMMA3
from workers.adapters import local_adapters, lora_arguments
from workers.engines import EngineConfig, Media, Request
from workers.engines.vllm import VllmEngine

QUESTION = make_task("caption").question(Shown.IMAGE)


SHAPES = ("circle.png", "disc.jpg", "square.png", "tent.png")


def named(folder: Path) -> dict[str, Adapter]:
    adapters = {
        "strong": write_adapter(folder / "strong", strength=1.0, rank=9),
        # vLLM finds this out only when it loads it.
        "broken": write_adapter(folder / "broken", strength=0.0, use_dora=True),
    }
    return {name: find_adapter(name, str(path)) for name, path in adapters.items()}


def shape(name: str) -> Media:
    with Image.open(EXAMPLES / "shapes" / name) as image:
        content = io.BytesIO()
        image.convert("RGB").save(content, "JPEG", quality=90)
    return Media(PartKind.IMAGE, content.getvalue(), digest(name))


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_the_adapter_that_a_request_names_answers_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = named(tmp_path)
    # The broken one takes no slot, and an empty slot that nobody meant to leave could hide a mix-up.
    slots = lora_arguments(local_adapters(adapters), 0.0)["max_loras"] - 1
    model, options = find_model(str(GEMMA3)), {"max_loras": slots}
    engine = VllmEngine(EngineConfig(model, 8, max_model_len=512, adapters=adapters, options=options))
    for variable, value in engine.environment(0).items():
        monkeypatch.setenv(variable, value)

    async def ask(name: str, adapter: str | None) -> str:
        request = Request(f"{name} {adapter}", QUESTION, shape(name), max_tokens=16, adapter=adapter)
        return (await engine.generate(request)).text

    contexts: list[Any] = []

    async def answers() -> tuple[list[str], list[str]]:
        engine.start()
        contexts.append(engine._engine.engine_core.resources.ctx)
        with pytest.raises(RequestRefused, match="'broken' did not load.*DoRA"):
            await ask(SHAPES[0], "broken")
        await ask(SHAPES[0], "strong")
        # Side by side, so that one batch holds both.
        asked = [ask(name, adapter) for adapter in (None, "strong") for name in SHAPES]
        said = await asyncio.gather(*asked)
        return said[: len(SHAPES)], said[len(SHAPES) :]

    try:
        plain, through = asyncio.run(answers())
    finally:
        engine.close()
    assert contexts[0].closed, "an actor that replaces its engines would gather threads and files"
    truth = read_truth()
    assert plain == [truth[f"shapes/{name}"]["pages"][0]["caption"] for name in SHAPES]
    assert not set(plain) & set(through)


def test_the_engine_makes_room_for_the_largest_rank_and_only_where_there_are_adapters(tmp_path: Path) -> None:
    assert lora_arguments({}, 0.0) == {}
    folders = local_adapters(named(tmp_path))
    assert lora_arguments(folders, 1.0) == {"enable_lora": True, "max_loras": 2, "max_lora_rank": 16}
    assert lora_arguments(folders, 0.0)["max_loras"] == 3, "and one empty slot for CPUs"


@pytest.mark.parametrize(("rank", "words"), [(513, "512 at most"), (None, "no LoRA adapter")])
def test_a_rank_that_vllm_cannot_hold_is_told(rank: int | None, words: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(f'{{"r": {rank}}}' if rank else "{}")
    with pytest.raises(EngineUnavailable, match=words):
        lora_arguments({"x": tmp_path}, 0.0)
