"""Whether vLLM and transformers say the same: `python -m deploy.demo.training.agreement CHECKPOINT`.

Both are asked the pipeline's questions about the same fresh pages or recordings, greedily and
without a schema: vLLM through the pipeline's own engine, transformers through the checkpoint's own
processor. A mask, a weight or a normalisation that one of them takes differently shows here.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.demo.training.page_data import make_subject, picture, questions
from schemas.ids import digest
from schemas.models import Model, find_model
from schemas.rows import PartKind, Shown
from schemas.tasks import make_task
from workers.engines import EngineConfig, Media, Request
from workers.engines.vllm import VllmEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TOKENS = 64
CLIP_SECONDS = 8.0

Asked = tuple[Media, str]


def pages(seed: str, count: int) -> list[Asked]:
    """Each question of the demo about each of `count` fresh pages and shapes."""
    asked: list[Asked] = []
    for index in range(count):
        rng = random.Random(f"{seed}/{index}")
        buffer = io.BytesIO()
        picture(make_subject(rng), rng).save(buffer, "JPEG", quality=90)
        media = _media(PartKind.IMAGE, buffer.getvalue())
        asked += [(media, question) for question in questions().values()]
    return asked


def clips(seed: str, count: int) -> list[Asked]:
    """The transcription of each of `count` fresh clips by unseen voices."""
    from deploy.demo.speech import make_speech

    question = make_task("transcribe").question(Shown.AUDIO)
    asked: list[Asked] = []
    for index in range(count):
        rng = random.Random(f"{seed}/{index}")
        samples = make_speech(rng, voices="held-out", groups=rng.randint(1, 2)).samples
        asked.append((_media(PartKind.AUDIO, samples.astype("<f4").tobytes()), question))
    return asked


def _media(kind: PartKind, content: bytes) -> Media:
    return Media(kind, content, digest(content.hex()))


def by_vllm(model: Model, asked: Sequence[Asked]) -> list[str]:
    """What the pipeline's engine answers."""
    engine = VllmEngine(EngineConfig(model, max_num_seqs=16, max_model_len=512))
    os.environ.update(engine.environment(0))

    async def answers() -> list[str]:
        engine.start()
        requests = [
            Request(f"{index}", question, media, MAX_TOKENS) for index, (media, question) in enumerate(asked)
        ]
        responses = await asyncio.gather(*map(engine.generate, requests))
        return [response.text for response in responses]

    try:
        return asyncio.run(answers())
    finally:
        engine.close()


def by_transformers(model: Model, asked: Sequence[Asked]) -> list[str]:
    """What transformers answers, one prompt at a time."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(model.source)
    network = AutoModelForImageTextToText.from_pretrained(model.source, dtype=torch.bfloat16).eval()
    texts = []
    for media, question in asked:
        inputs = processor(**_inputs(processor, model, media, question), return_tensors="pt")
        inputs = inputs.to(torch.bfloat16)
        with torch.inference_mode():
            ids = network.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        answer = ids[0, inputs["input_ids"].shape[1] :]
        texts.append(processor.tokenizer.decode(answer, skip_special_tokens=True))
    return texts


def _inputs(processor: Any, model: Model, media: Media, question: str) -> dict[str, Any]:
    import numpy as np
    from PIL import Image

    item = "audio" if media.kind is PartKind.AUDIO else "image"
    content = [{"type": item}, {"type": "text", "text": question}]
    if not model.media_first:
        content.reverse()
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    text = text.removeprefix(processor.tokenizer.bos_token)  # the tokenizer adds it
    if item == "audio":
        return {"text": [text], "audio": [np.frombuffer(media.content, "<f4")]}
    with Image.open(io.BytesIO(media.content)) as shown:
        return {"text": [text], "images": [[shown.convert("RGB")]]}


def main(arguments: list[str] | None = None) -> int:
    """Command line: prints the share, and the first few that differ."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.training.agreement", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--count", type=int, default=100, help="of pages or clips")
    parser.add_argument("--seed", default="agreement")
    options = parser.parse_args(arguments)
    model = find_model(str(options.checkpoint))
    asked = (clips if model.family == "gemma3n" else pages)(options.seed, options.count)
    ours, theirs = by_vllm(model, asked), by_transformers(model, asked)
    differ = [(one, other) for one, other in zip(ours, theirs, strict=True) if one != other]
    print(f"{len(asked) - len(differ)} of {len(asked)} prompts: the same text in vLLM and in transformers")
    for one, other in differ[:5]:
        print(f"  vLLM {one!r}\n  transformers {other!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
