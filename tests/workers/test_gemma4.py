"""Gemma 4 on the real engine, beside transformers: the same prompt, the same answer to the same part."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from schemas.models import Model, find_model
from schemas.models.base import GEMMA4_BUDGETS, GEMMA4_CLIP, gemma4_budget
from schemas.rows import PartKind
from tests.fixtures.gemma4 import KINDS, write_gemma4
from workers.engines import EngineConfig, Media, Request
from workers.engines.vllm import VllmEngine

QUESTION = "Read it"
DIGITS = "0123456789"
SIZES = ((477, 337), (200, 900), (640, 480))
"""A page at the size that it is drawn, one that is scaled down, one that lies."""
SECONDS = (1.0, 5.33, 30.0)


def request(media: Media) -> Request:
    return Request(media.digest, QUESTION, media, max_tokens=2, choices=tuple(DIGITS), likelihoods=True)


def page(size: tuple[int, int]) -> Media:
    content = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(content, "JPEG", quality=90)
    return Media(PartKind.PAGE, content.getvalue(), f"{size}")


def clip(seconds: float) -> Media:
    time = np.arange(int(16_000 * seconds)) / 16_000
    sound = np.sin(time * 2_000 * (1 + seconds * time / 30)) / 3
    return Media(PartKind.AUDIO, sound.astype("<f4").tobytes(), f"{seconds}")


def in_transformers(folder: Path, media: Media) -> tuple[Any, Any]:
    """Processor, and what it makes of the question about a part."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    question: dict[str, str] = {"type": "text", "text": QUESTION}
    if media.kind is PartKind.AUDIO:
        content, shown = [question, {"type": "audio"}], {"audio": [np.frombuffer(media.content, "<f4")]}
    else:
        picture = Image.open(io.BytesIO(media.content)).convert("RGB")
        content, shown = [{"type": "image"}, question], {"images": [[picture]]}
    text = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return processor, processor(text=text, return_tensors="pt", add_special_tokens=False, **shown)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("media", [page(SIZES[0]), clip(SECONDS[1])], ids=lambda media: media.kind)
def test_one_bos_one_part_and_no_thoughts(media: Media, tmp_path: Path) -> None:
    model = find_model(str(write_gemma4(tmp_path, "E")))
    heard = media.kind is PartKind.AUDIO
    engine = VllmEngine(EngineConfig(model.hearing() if heard else model, max_num_seqs=1, max_model_len=512))
    processor, inputs = in_transformers(tmp_path, media)
    engine._template = tokenizer = processor.tokenizer
    before, mark, behind = (
        (processor.boa_token, processor.audio_token, processor.eoa_token)
        if heard
        else (processor.boi_token, processor.image_token, processor.eoi_token)
    )
    prompt = engine._prompt(request(media))
    seen = int((inputs["input_ids"] == tokenizer.convert_tokens_to_ids(mark)).sum())
    # As vLLM does it for this model: no special tokens added.
    ids = tokenizer(prompt.replace(mark, before + mark * seen + behind), add_special_tokens=False)[
        "input_ids"
    ]
    assert ids == inputs["input_ids"][0].tolist()
    assert ids.count(tokenizer.bos_token_id) == 1
    assert prompt.endswith("<|channel>thought\n<channel|>"), "the thoughts are shut before it begins"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("tokens", GEMMA4_BUDGETS)
def test_a_page_at_its_size_fills_the_budget_and_none_goes_beyond(tokens: int) -> None:
    from transformers.models.gemma4.image_processing_gemma4 import get_aspect_ratio_preserving_size

    side = gemma4_budget(tokens)["image_size"]
    a4 = (side, round(side / 2**0.5))
    for height, width in (a4, a4[::-1], (side, side), (side, side // 9)):
        tall, wide = get_aspect_ratio_preserving_size(height, width, 16, 9 * tokens, 3)
        assert tall * wide // 48**2 <= tokens
        if (height, width) == a4:
            assert side - 48 <= tall <= side, "it is seen at no size but its own"


def test_the_longest_clip_is_as_many_tokens_as_are_planned_for(tmp_path: Path) -> None:
    model = find_model(str(write_gemma4(tmp_path, "E")))
    assert model.hearing().media_tokens == GEMMA4_CLIP
    processor, inputs = in_transformers(tmp_path, clip(model.clip_seconds))
    assert int((inputs["input_ids"] == processor.audio_token_id).sum()) == GEMMA4_CLIP
    assert find_model(str(write_gemma4(tmp_path, "31B"))).clip_tokens is None, "this one has no ears"


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_what_it_says_of_a_picture_is_what_transformers_says(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = find_model(str(write_gemma4(tmp_path, kind)))
    hold_against_transformers(model, [page(size) for size in SIZES], monkeypatch)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_what_it_says_of_a_clip_is_what_transformers_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = find_model(str(write_gemma4(tmp_path, "E"))).hearing()
    hold_against_transformers(model, [clip(seconds) for seconds in SECONDS], monkeypatch)


def hold_against_transformers(model: Model, parts: list[Media], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask both about the parts, and compare the prompts' lengths and how likely each digit is."""
    # In bfloat16 an expert that is all but chosen is chosen here and not there: 0.06 apart, here 0.000004.
    exact = {"dtype": "float32"}
    engine = VllmEngine(EngineConfig(model, 8, max_model_len=1024, options=exact))
    for variable, value in engine.environment(0).items():
        monkeypatch.setenv(variable, value)

    async def answers() -> list[Any]:
        engine.start()
        return await asyncio.gather(*(engine.generate(request(part)) for part in parts))

    try:
        said = asyncio.run(answers())
    finally:
        engine.close()
    wanted = [likely(Path(model.source), part) for part in parts]
    assert [answer.prompt_tokens for answer in said] == [tokens for tokens, _ in wanted]
    for answer, (_, odds) in zip(said, wanted, strict=True):
        assert dict(answer.likelihoods) == pytest.approx(odds, abs=1e-3)
    (_, one), (_, other), *_ = wanted
    apart = max(abs(one[digit] - other[digit]) for digit in DIGITS)
    assert apart > 0.05, "one that says the same of all would show nothing"


def likely(folder: Path, media: Media) -> tuple[int, dict[str, float]]:
    """Tokens of the prompt, and the probability of each digit among the digits."""
    import torch
    from transformers import Gemma4ForConditionalGeneration

    processor, inputs = in_transformers(folder, media)
    model = Gemma4ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    # Without them every token sees what is before it alone, as it is with vLLM on a CPU; on a GPU the tokens
    # of a picture see each other where the model has it so, here and there.
    del inputs["mm_token_type_ids"]
    # Each digit is a token, and so is the byte that it is.
    spelled = [*DIGITS, *(f"<0x{ord(digit):02X}>" for digit in DIGITS)]
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1, processor.tokenizer.convert_tokens_to_ids(spelled)]
    odds = logits.float().softmax(-1).unflatten(0, (2, len(DIGITS))).sum(0)
    return inputs["input_ids"].shape[1], dict(zip(DIGITS, odds.tolist(), strict=True))
