"""ShieldGemma 2 as vLLM computes it: Gemma 3, by the names that its weights have."""

from __future__ import annotations

import re

from vllm.model_executor.models.gemma3_mm import Gemma3ForConditionalGeneration
from vllm.model_executor.models.utils import WeightsMapper

NAMES = {
    # The classifier's own level, and the one that Gemma 3 has since transformers 4.52.
    re.compile(r"^(?:model\.)+"): "",
    # Levels of Gemma 3 that Google's checkpoint has, and that some versions of transformers leave out.
    re.compile(r"^language_model\.(?!model\.|lm_head\.)"): "language_model.model.",
    re.compile(r"^vision_tower\.(?!vision_model\.)"): "vision_tower.vision_model.",
}


class ShieldGemma2ForConditionalGeneration(Gemma3ForConditionalGeneration):
    """Without the classifier, which is but a choice of two tokens."""

    hf_to_vllm_mapper = (
        WeightsMapper(orig_to_new_regex=NAMES) | Gemma3ForConditionalGeneration.hf_to_vllm_mapper
    )
