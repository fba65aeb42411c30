"""What an engine on CPUs is given: what it computes in, and how much of a cache. On GPUs vLLM knows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.models import CARDS
from workers import memory

if TYPE_CHECKING:
    from schemas.models import Card, Model
    from workers.engines import EngineConfig

BYTES = {"bfloat16": 2, "float32": 4}
SHARE = 1 / 3
"""Of the memory that there is, which weights may take: there may be two engines, and what feeds them."""
LEAST_CACHE = 1 << 30
"""Bytes: 16 sequences of the small checkpoints many times over."""
CACHED = 1.25
"""Prompts of full length that a cache has room for. vLLM starts with no less than one, and some is lost:
layers that look at a window are grouped with those that look at everything, in fives."""
KEYS_AND_VALUES = 2
TOKENS_32K = 32_768


def dtype_of(config: EngineConfig) -> str:
    """As vLLM names it, or the job (`engine.options`). float16 is refused for Gemma 3: it is unstable there.

    An x86 CPU without AVX-512 has no product of bfloat16, and torch makes one of loops. float32 is as exact
    at least, and of 16 rows and weights of 640 x 2,048 it takes 0.85 ms for 2.9, of 512 rows 19 ms for 87
    (one core of an AMD EPYC 7001, torch 2.13); of the demo's checkpoints, whose matrices are small, it gives
    1.3 times the answers a second. It is taken where weights that are of bfloat16 fit in it.
    """
    if "dtype" in config.options:
        return str(config.options["dtype"])
    if config.gpus or not _lacks_bfloat16():
        return "bfloat16"
    widened = _weight_bytes(config) * BYTES["float32"] / BYTES["bfloat16"]
    return "float32" if widened <= SHARE * memory.total() else "bfloat16"


def cache_bytes(config: EngineConfig, dtype: str) -> int:
    """Of the KV cache on CPU, where vLLM would take most of the machine. It writes zeros to all of it."""
    values = config.max_model_len * _values_a_token(config.model)
    return max(LEAST_CACHE, math.ceil(CACHED * values * BYTES.get(dtype, 4)))


def _lacks_bfloat16() -> bool:
    import torch

    name: str = torch.backends.cpu.get_cpu_capability()
    return name == "AVX2"


def _weight_bytes(config: EngineConfig) -> float:
    """In bfloat16; infinite where they are quantized, or nobody knows."""
    model = config.model
    if config.options.get("quantization"):
        return math.inf
    if model.is_folder:
        if "quantization_config" in _config(model):
            return math.inf
        return float(sum(path.stat().st_size for path in Path(model.source).glob("*.safetensors")))
    card = _card(model)
    known = card.gigabytes["bf16"] if card and card.weights["bf16"] == model.source else None
    return known * 1e9 if known else math.inf


def _values_a_token(model: Model) -> float:
    """Numbers that its layers keep of each token; 0 where nobody says."""
    if model.is_folder:
        text = _config(model).get("text_config", {})
        known = (text.get(name) or 0 for name in ("num_hidden_layers", "num_key_value_heads", "head_dim"))
        return KEYS_AND_VALUES * math.prod(known)
    card = _card(model)
    weights, filled = (card.gigabytes["bf16"], card.gigabytes_32k["bf16"]) if card else (None, None)
    return (filled - weights) * 1e9 / TOKENS_32K / BYTES["bfloat16"] if weights and filled else 0.0


def _config(model: Model) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(model.source) / "config.json").read_text())
    return found


def _card(model: Model) -> Card | None:
    return next((card for card in CARDS if model.source in card.weights.values()), None)
