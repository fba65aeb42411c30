"""LoRA on the real engine and the small checkpoint: an adapter answers for the tasks that name it, alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy.demo.documents import EXAMPLES
from schemas.errors import EngineUnavailable, RequestRefused
from schemas.ids import digest
from schemas.models import find_model
from schemas.models.adapter import CONFIG, Adapter, find_adapter
from schemas.rows import PartKind
from schemas.tasks import make_task
from tests.fixtures.adapters import write_adapter
from tests.fixtures.runs import GEMMA3
from workers.adapters import local_adapters, lora_arguments
from workers.engines import EngineConfig, Media, Request
from workers.engines.vllm import VllmEngine

QUESTION = make_task("caption").question()


def named(folder: Path) -> dict[str, Adapter]:
    adapters = {
        "nothing": write_adapter(folder / "nothing", strength=0.0),
        "strong": write_adapter(folder / "strong", strength=1.0, rank=9),
        # vLLM finds this out only when it loads it.
        "broken": write_adapter(folder / "broken", strength=0.0, use_dora=True),
    }
    return {name: find_adapter(name, str(path)) for name, path in adapters.items()}


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_the_adapter_that_a_request_names_answers_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (EXAMPLES / "shapes" / "disc.jpg").read_bytes()
    media = Media(PartKind.IMAGE, content, digest(content.hex()))
    config = EngineConfig(
        find_model(str(GEMMA3)), max_num_seqs=4, max_model_len=512, adapters=named(tmp_path)
    )
    engine = VllmEngine(config)
    for name, value in engine.environment(0).items():
        monkeypatch.setenv(name, value)

    async def ask(adapter: str | None) -> str:
        request = Request(f"asks {adapter}", QUESTION, media, max_tokens=16, adapter=adapter)
        return (await engine.generate(request)).text

    async def answers() -> dict[str | None, str]:
        engine.start()
        with pytest.raises(RequestRefused, match="'broken' did not load.*DoRA"):
            await ask("broken")
        names = (None, "nothing", "strong")
        return dict(zip(names, await asyncio.gather(*map(ask, names)), strict=True))

    try:
        said = asyncio.run(answers())
    finally:
        engine.close()
    assert said[None] == said["nothing"] == "a purple circle", "side by side with one that says other things"
    assert said["strong"] != said[None]


def test_the_engine_makes_room_for_the_largest_rank_and_only_where_there_are_adapters(tmp_path: Path) -> None:
    assert lora_arguments({}) == {}
    folders = local_adapters(named(tmp_path))
    assert lora_arguments(folders) == {"enable_lora": True, "max_loras": 3, "max_lora_rank": 16}


@pytest.mark.parametrize(("rank", "words"), [(513, "512 at most"), (None, "no LoRA adapter")])
def test_a_rank_that_vllm_cannot_hold_is_told(rank: int | None, words: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(f'{{"r": {rank}}}' if rank else "{}")
    with pytest.raises(EngineUnavailable, match=words):
        lora_arguments({"x": tmp_path})
