"""ShieldGemma 2 on the real engine: the prompt of its own processor, the probabilities of its own class."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deploy.demo.documents import EXAMPLES
from schemas.models import find_model
from schemas.rows import PartKind
from schemas.tasks import make_task
from schemas.tasks.moderate import POLICIES
from tests.fixtures.shieldgemma import write_shieldgemma
from workers.engines import EngineConfig, Media, Request
from workers.engines.vllm import VllmEngine

OWN_WORDS = "a circle"
ASKED = (*POLICIES, OWN_WORDS)
SHAPES = ("circle.png", "square.png")


def request(policy: str, shape: str) -> Request:
    task = make_task({"task": "moderate", "policy": policy})
    content = io.BytesIO()
    with Image.open(EXAMPLES / "shapes" / shape) as image:
        image.convert("RGB").save(content, "JPEG", quality=90)
    return Request(
        key=f"{policy} {shape}",
        question=task.subject(),
        media=Media(PartKind.IMAGE, content.getvalue(), shape),
        max_tokens=task.max_tokens,
        choices=task.choices(),
        likelihoods=task.likelihoods(),
    )


def picture(asked: Request) -> Image.Image:
    assert asked.media is not None
    return Image.open(io.BytesIO(asked.media.content)).convert("RGB")


def as_transformers_has_it(folder: Path, policy: str, image: Image.Image) -> tuple[Any, Any]:
    """Processor and inputs of one picture and policy."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    own = {} if policy in POLICIES else {"custom_policies": {policy: policy}}
    return processor, processor(images=[[image]], policies=[policy], return_tensors="pt", **own)


@pytest.fixture(scope="module")
def googles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shieldgemma(tmp_path_factory.mktemp("shieldgemma"), old_names=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("policy", ASKED)
def test_the_prompt_is_that_of_its_own_processor(policy: str, googles: Path) -> None:
    asked = request(policy, SHAPES[0])
    processor, wanted = as_transformers_has_it(googles, policy, picture(asked))
    engine = VllmEngine(EngineConfig(find_model(str(googles)), max_num_seqs=1, max_model_len=512))
    engine._template = tokenizer = processor.tokenizer
    # As vLLM does it: the placeholder becomes the picture's tokens, and special tokens are added.
    ours = tokenizer(engine._prompt(asked).replace(processor.boi_token, processor.full_image_sequence))
    theirs = wanted["input_ids"][0].tolist()
    assert theirs[:2] == [tokenizer.bos_token_id] * 2, "its processor adds one to the template's"
    assert ours["input_ids"] == theirs[1:]
    assert theirs.count(tokenizer.image_token_id) == processor.image_seq_length


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("old_names", [True, False])
def test_the_probabilities_are_those_of_its_own_class(
    old_names: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shieldgemma(tmp_path, old_names=old_names)
    asked = [request(policy, shape) for policy in ASKED for shape in SHAPES]
    engine = VllmEngine(EngineConfig(find_model(str(folder)), 8, max_model_len=1024))
    for variable, value in engine.environment(0).items():
        monkeypatch.setenv(variable, value)

    async def answers() -> list[Any]:
        engine.start()
        return await asyncio.gather(*map(engine.generate, asked))

    try:
        said = asyncio.run(answers())
    finally:
        engine.close()
    wanted = [yes(folder, policy, shape) for policy in ASKED for shape in SHAPES]
    assert [answer.prompt_tokens for answer in said] == [tokens for tokens, _ in wanted]
    likely = [probability for _, probability in wanted]
    # In bfloat16, here and there; the largest difference seen is 0.003.
    assert [answer.likelihoods["Yes"] for answer in said] == pytest.approx(likely, abs=0.01)
    assert max(likely) - min(likely) > 0.1, "one that says the same of all would show nothing"


def yes(folder: Path, policy: str, shape: str) -> tuple[int, float]:
    """Tokens of the prompt, and the probability of Yes, by the class that transformers has for it."""
    import torch
    from transformers import ShieldGemma2ForImageClassification

    _, inputs = as_transformers_has_it(folder, policy, picture(request(policy, shape)))
    model = ShieldGemma2ForImageClassification.from_pretrained(folder, dtype=torch.bfloat16)
    # One beginning instead of the processor's two, as the model was tuned, and as vLLM is sent it.
    inputs = {name: value if name == "pixel_values" else value[:, 1:] for name, value in inputs.items()}
    # Without them every token sees what is before it alone, as it is with vLLM on a CPU; on a GPU the
    # tokens of a picture see each other, here and there.
    del inputs["token_type_ids"]
    with torch.no_grad():
        pixels = inputs.pop("pixel_values").to(torch.bfloat16)
        probability = model(**inputs, pixel_values=pixels).probabilities[0, 0]
    return inputs["input_ids"].shape[1], float(probability)
