"""Rates by GPU type, for plans that are made before there is a GPU to measure. Derived, and they say so.

No published table has one engine's prefill and decode rates for these models, cards and full batches. So they
are computed from data sheets, by two shares of them that somebody has measured on one card:

    prefill is bound by arithmetic: two floating-point operations a parameter and token. On an A100 vLLM read
        prompts of 4,096 tokens into gemma-3-4b-it at 19,690 tokens/s, which is 49% of the card's 312 TFLOPS.
    decode is bound by memory: every step reads the weights once, and the keys and values of each sequence in
        it. There one sequence alone took 10.1 ms a token, which is 38% of 2,039 GB/s.
        (https://github.com/tenstorrent/tt-inference-server/issues/521, 3 September 2025. It does not say
        which A100 it was; of the 40 GB one, with 1,555 GB/s, it would be 50%.)

Both shares are taken to hold for the other cards and models. A prediction by these is an order of magnitude
to choose a card by; `gemstream bench` on the machine is what to plan a budget by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from schemas.models.cards import BY_ID
from schemas.rates import EngineRates, Rates
from schemas.rows import PartKind

if TYPE_CHECKING:
    from collections.abc import Callable

MEASURED = "https://github.com/tenstorrent/tt-inference-server/issues/521"
ARITHMETIC_SHARE = 0.49
MEMORY_SHARE = 0.38
SEQUENCES = 256
"""In a batch, which is this project's default on GPUs."""
CONTEXT = 1_024
"""Tokens of a sequence on average: an image, a question and half an answer."""
USED_SHARE = 0.92
"""Of the card's memory that vLLM is given (`workers.engines.vllm`)."""
WORKSPACE = 2e9
"""Bytes of it that are neither weights nor cache. An assumption."""
START_SECONDS = 120.0
"""From nothing to the first answer. An assumption: loading, compiling and capturing graphs took a model of
1.2 billion parameters 59 s in all (https://github.com/vllm-project/vllm/issues/20264)."""
IMAGE_OPERATIONS = 2 * 417e6 * 4_096 + 27 * 4 * 4_096**2 * 1_152
"""Of one image of 896 px through SigLIP: 4,096 patches through 417 million parameters (Gemma 3's technical
report, Table 1), and 27 layers of attention of width 1,152 between them."""
CLIP_OPERATIONS = 2 * 681e6 * 750
"""Of 30 s through Gemma 3n's audio tower: a frame each 40 ms through 681 million parameters (counted in
transformers' `Gemma3nAudioEncoder`)."""
TOKENS_32K = 32_768


@dataclass(frozen=True)
class Gpu:
    """A card as its data sheet has it: dense BF16 operations and bytes of memory a second, and bytes."""

    name: str
    sheet: str
    operations: float
    bandwidth: float
    memory: float


@dataclass(frozen=True)
class Weights:
    """A model in bf16: parameters that each token goes through, and cache bytes of a token."""

    source: str
    parameters: float
    cache_bytes: float


def _seeing(size: str, parameters: float) -> Weights:
    """Keys and values: what 32 K tokens of them add to the weights in Gemma 3's technical report, Table 3."""
    source = f"google/gemma-3-{size}-it"
    card = BY_ID[source]
    whole, weights = card.gigabytes_32k["bf16"], card.gigabytes["bf16"]
    assert whole is not None and weights is not None
    return Weights(source, parameters, (whole - weights) * 1e9 / TOKENS_32K)


def _models() -> tuple[Weights, ...]:
    """Parameters of Gemma 3 without its tower: its technical report, Table 1. Of Gemma 3n: the effective ones
    that it is named after; keys and values of the 20 layers that have their own (`Gemma3nTextConfig`)."""
    cache = 20 * 2 * 2 * 256 * 2
    return (
        _seeing("4b", 3.884e9),
        _seeing("12b", 11.771e9),
        _seeing("27b", 27.016e9),
        Weights("google/gemma-3n-E2B-it", 2e9, cache),
        Weights("google/gemma-3n-E4B-it", 4e9, cache),
    )


GPUS = (
    Gpu("L4", "https://www.nvidia.com/en-us/data-center/l4/", 121e12, 300e9, 24e9),
    Gpu("A100", "https://www.nvidia.com/en-us/data-center/a100/ (80 GB SXM)", 312e12, 2_039e9, 80e9),
    Gpu("H100", "https://www.nvidia.com/en-us/data-center/h100/ (SXM)", 989e12, 3_350e9, 80e9),
)


def engine_rates(gpu: Gpu, model: Weights) -> EngineRates | None:
    """One engine on one whole card; None where there is no room for a sequence beside the weights."""
    card = BY_ID[model.source]
    held = (card.gigabytes["bf16"] or 0) * 1e9
    room = gpu.memory * USED_SHARE - held - WORKSPACE
    sequences = min(SEQUENCES, int(room / (CONTEXT * model.cache_bytes)))
    if sequences < 1:
        return None
    arithmetic = gpu.operations * ARITHMETIC_SHARE
    moved = 2 * model.parameters + sequences * CONTEXT * model.cache_bytes
    step = max(moved / (gpu.bandwidth * MEMORY_SHARE), sequences * 2 * model.parameters / arithmetic)
    if card.pool == "audio":
        media = {PartKind.AUDIO.value: CLIP_OPERATIONS / arithmetic}
    else:
        media = dict.fromkeys((PartKind.PAGE.value, PartKind.IMAGE.value), IMAGE_OPERATIONS / arithmetic)
    return EngineRates(
        prefill_tokens_per_second=round(arithmetic / (2 * model.parameters), 1),
        decode_tokens_per_second=round(sequences / step, 1),
        media_seconds={kind: round(seconds, 5) for kind, seconds in media.items()},
        start_seconds=START_SECONDS,
    )


def _rates(gpu: Gpu) -> Rates:
    engines = {model.source: engine_rates(gpu, model) for model in _models()}
    return Rates(
        hardware=f"NVIDIA {gpu.name}, one an engine",
        source=(
            f"derived, not measured: {gpu.sheet} at the shares of arithmetic ({ARITHMETIC_SHARE:.0%}) and "
            f"memory bandwidth ({MEMORY_SHARE:.0%}) that vLLM had with gemma-3-4b-it on an A100 "
            f"({MEASURED}); engine start assumed; {CPU_SOURCE}; {STORE_SOURCE}"
        ),
        expand_seconds=EXPAND_SECONDS,
        record_seconds=RECORD_SECONDS,
        engines={source: found for source, found in engines.items() if found is not None},
        list_keys_per_second=LIST_KEYS,
        get_bytes_per_second=GET_BYTES,
    )


EXPAND_SECONDS = {"page": 0.006, "image": 0.03, "audio": 0.04}
RECORD_SECONDS = 0.009
CPU_SOURCE = (
    "CPU seconds measured by the probes of gemstream bench on an Intel Xeon with AVX-512: pages of text and "
    "photos of 4 megapixels to 896 px, 30 s of 44.1 kHz stereo, records of the demo's small models"
)
LIST_KEYS = 10_000.0
GET_BYTES = 85e6
STORE_SOURCE = (
    "S3: 85 MB/s a connection (https://docs.aws.amazon.com/whitepapers/latest/"
    "s3-optimizing-performance-best-practices/"
    "horizontal-scaling-and-request-parallelization-for-high-throughput.html), and 1,000 keys a list request "
    "at an assumed 0.1 s"
)

DEFAULTS: dict[str, Callable[[], Rates]] = {gpu.name: partial(_rates, gpu) for gpu in GPUS}
"""Name of a GPU -> its rates, made when they are asked for."""
