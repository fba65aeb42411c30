"""ShieldGemma 2: how vLLM is brought to load it, and the policies that it was tuned on.

It is a Gemma 3 in the wrapping of a classifier: the weights have one more `model.` before their names, and
what it answers is the first token, Yes or No. Its chat template, which lies beside the weights, makes the
question of a policy's words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

FAMILY = "shieldgemma2"
ARCHITECTURE = "ShieldGemma2ForConditionalGeneration"
"""Our name for it: of one that ends as its own does, vLLM would make a pooling model."""
CLASS = "workers.vllm_models.shieldgemma2:ShieldGemma2ForConditionalGeneration"


def policy(words: str) -> str:
    """The words that the model was tuned on, of a policy that it has a name for; others as they are."""
    from transformers.models.shieldgemma2.processing_shieldgemma2 import DEFAULT_SHIELDGEMMA2_POLICIES

    known: Mapping[str, str] = DEFAULT_SHIELDGEMMA2_POLICIES
    return known.get(words, words)


class AsGemma3:
    """vLLM's `hf_overrides`: the configuration as that of the Gemma 3 that it is.

    vLLM hands it to each of its processes, and there it has to know of our class: it is told whenever one
    of these is made, which unpickling does as well.
    """

    def __init__(self) -> None:
        from vllm import ModelRegistry

        if ARCHITECTURE not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(ARCHITECTURE, CLASS)

    def __reduce__(self) -> tuple[type[AsGemma3], tuple[()]]:
        return AsGemma3, ()

    def __call__(self, config: Any) -> Any:
        """The configuration that vLLM goes on with."""
        if config.model_type != FAMILY:  # vLLM asks first with an empty one
            return config
        from transformers import Gemma3Config

        facts = config.to_dict()
        del facts["model_type"]
        return Gemma3Config(**facts | {"architectures": [ARCHITECTURE]})
