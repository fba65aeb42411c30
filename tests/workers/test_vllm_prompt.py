"""The prompt as vLLM's tokenizer sees it: one BOS, one placeholder, the question whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schemas.models import find_model
from schemas.rows import PartKind
from tests.fixtures.runs import GEMMA3, GEMMA3N
from workers.engines import EngineConfig, Media, Request
from workers.engines.vllm import VllmEngine, _sampling

QUESTION = "Read it"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("path", "kind", "placeholder"),
    [
        (GEMMA3, PartKind.PAGE, "<start_of_image>"),
        (GEMMA3N, PartKind.AUDIO, "<audio_soft_token>"),
    ],
)
def test_one_bos_and_one_placeholder(path: Path, kind: PartKind, placeholder: str) -> None:
    from transformers import AutoTokenizer

    engine = VllmEngine(EngineConfig(find_model(str(path)), max_num_seqs=1, max_model_len=512))
    tokenizer = AutoTokenizer.from_pretrained(path)
    engine._template = tokenizer
    prompt = engine._prompt(Request("key", QUESTION, Media(kind, b"", ""), max_tokens=1))
    ids = tokenizer(prompt)["input_ids"]  # as vLLM does it: special tokens added
    assert ids.count(tokenizer.bos_token_id) == 1
    assert not prompt.startswith(tokenizer.bos_token)
    assert prompt.count(placeholder) == 1 and QUESTION in prompt
    media_first = prompt.index(placeholder) < prompt.index(QUESTION)
    assert media_first is (kind is PartKind.PAGE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_probabilities_are_asked_for_where_they_are_wanted() -> None:
    config = EngineConfig(find_model(str(GEMMA3)), max_num_seqs=1, max_model_len=512)
    plain = replace(config, confidence=False)
    media = Media(PartKind.PAGE, b"", "")
    asked = Request("key", QUESTION, media, max_tokens=1)
    label = Request("key", QUESTION, media, max_tokens=1, choices=("a", "b"), likelihoods=True)
    assert (_sampling(asked, config).logprobs, _sampling(asked, plain).logprobs) == (0, None)
    assert _sampling(label, plain).logprobs == _sampling(label, config).logprobs > 0
