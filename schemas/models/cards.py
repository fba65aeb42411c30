"""The models, as rows of a table. Adding one is one row; nothing here loads anything.

Where the figures are from:
    context of ShieldGemma 2: what it was converted with (transformers' script for it).
    context, tokens per image and clip: https://ai.google.dev/gemma/docs and the transformers classes (188
        audio tokens a clip whatever its length, 30 s heard at most; Gemma 4: 280 tokens an image unless told
        otherwise, 25 a second).
    memory of Gemma 3: its technical report, Table 3; int4 is the row of blocks of 32, which is what the QAT
        and W4A16 weights are. What is made of a Gemma 3 has the memory of that Gemma 3.
    memory of Gemma 3n: the parameters that vLLM loads (some 5 and 8 billion) at two bytes; of FP8, the size
        of Red Hat's weights. Of Gemma 4: vLLM's recipe for the QAT weights.
    LoRA and parallelism: what vLLM 0.32's classes declare, which a test compares.
A figure that nobody has published is None.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.models.base import GEMMA4_CLIP, Model, gemma3, gemma3n, gemma4, shieldgemma2

Pool = Literal["vision", "audio"]
Width = Literal["bf16", "fp8", "int4"]
WIDTHS: tuple[Width, ...] = ("bf16", "fp8", "int4")
"""From the widest to the narrowest."""


class Card(BaseModel):
    """One model as a person chooses it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    size: str = Field(description="As its name has it.")
    takes: tuple[Literal["text", "image", "audio", "video"], ...] = Field(description="What it can be shown.")
    pool: Pool | None = Field(
        None, description="The pool that hosts it in this version of Gemstream, if any."
    )
    hears_too: bool = Field(False, description="Whether the pool audio can host it as well.")
    why_not: str | None = Field(None, description="Why no pool does.")
    only: str | None = Field(None, description="The one kind of task that it answers, if it is but one.")
    weights: dict[Width, str | None] = Field(description="Hugging Face ids that vLLM loads.")
    gigabytes: dict[Width, float | None] = Field(description="Memory of the weights, in 10^9 bytes.")
    gigabytes_32k: dict[Width, float | None] = Field(
        description="With a cache of 32,768 tokens, which is of 8 bits where the weights have fewer than 16."
    )
    context_tokens: int = Field(description="Prompt and answer together.")
    image_tokens: int | None = Field(None, description="Tokens of one image.")
    clip_tokens: int | None = Field(None, description="Tokens of one clip of 30 s.")
    lora: bool = Field(description="Whether vLLM can put LoRA adapters on it.")
    parallel: tuple[Literal["tensor", "pipeline"], ...] = Field(
        description="How vLLM can spread it over GPUs."
    )
    dtype: str = Field(description="What it can be computed in.")
    licence: str

    @property
    def name(self) -> str:
        """Family and size."""
        return f"{self.family} {self.size}"

    @property
    def billions(self) -> float:
        """Its size as a number; of those that name two, the first: E2B is 2, 26B-A4B is 26."""
        number = float(self.size.split("-")[0].strip("EBM"))
        return number / 1000 if self.size.endswith("M") else number

    def model(self, source: str) -> Model:
        """It, as the engine that loads these weights needs to know it."""
        facts: dict[str, Any] = {"context_tokens": self.context_tokens, "lora": self.lora}
        if self.only == "moderate":
            return shieldgemma2(source, media_tokens=self.image_tokens, **facts)
        if self.family == GEMMA_4:
            return gemma4(source, clip_tokens=self.clip_tokens, **facts)
        if self.pool == "audio":
            return gemma3n(source, media_tokens=self.clip_tokens, **facts)
        return gemma3(source, media_tokens=self.image_tokens, **facts)


def _by(bf16: Any = None, fp8: Any = None, int4: Any = None) -> dict[Width, Any]:
    return {"bf16": bf16, "fp8": fp8, "int4": int4}


TABLE_3 = {
    "1B": (_by(2.0, 1.0, 0.7), _by(2.9, 1.9, 1.6)),
    "4B": (_by(8.0, 4.4, 2.9), _by(12.7, 9.1, 7.6)),
    "12B": (_by(24.0, 12.4, 7.1), _by(38.9, 27.3, 22.0)),
    "27B": (_by(54.0, 27.4, 15.3), _by(72.7, 46.1, 34.0)),
}
GEMMA_4 = "Gemma 4"
GEMMA_TERMS = "Gemma Terms of Use"
TEXT_ALONE = "it reads text alone, and the pools show pages and images"
GEMMA3_DTYPE = "bfloat16 (GPUs from Ampere on) or float32; vLLM refuses float16, which overflows"
ANY_DTYPE = "bfloat16, float16 or float32"
BOTH_WAYS = ("tensor", "pipeline")


def _gemma3(family: str, size: str, source: str, **facts: Any) -> Card:
    """What is made of a Gemma 3: it sees unless the row says otherwise."""
    gigabytes, gigabytes_32k = TABLE_3.get(size, (_by(), _by()))
    common: dict[str, Any] = {
        "takes": ("text", "image"),
        "image_tokens": 256,
        "weights": _by(source),
        "gigabytes": gigabytes,
        "gigabytes_32k": gigabytes_32k,
        "context_tokens": 131_072,
        "lora": True,
        "parallel": BOTH_WAYS,
        "dtype": GEMMA3_DTYPE,
        "licence": GEMMA_TERMS,
    }
    return Card(family=family, size=size, **common | facts)


def _text(family: str, size: str, source: str, **facts: Any) -> Card:
    read = {"takes": ("text",), "image_tokens": None, "context_tokens": 32_768, "why_not": TEXT_ALONE}
    return _gemma3(family, size, source, **read | facts)


def _seeing(size: str) -> Card:
    name = f"gemma-3-{size.lower()}-it"
    weights = _by(f"google/{name}", f"RedHatAI/{name}-FP8-dynamic", f"RedHatAI/{name}-quantized.w4a16")
    return _gemma3("Gemma 3", size, f"google/{name}", pool="vision", weights=weights)


def _hearing(size: str, weights: dict[Width, str | None], gigabytes: dict[Width, float | None]) -> Card:
    return Card(
        family="Gemma 3n",
        size=size,
        takes=("text", "image", "audio"),
        pool="audio",
        weights=weights,
        gigabytes=gigabytes,
        gigabytes_32k=_by(),
        context_tokens=32_768,
        image_tokens=256,
        clip_tokens=188,
        lora=False,
        # Of its text model; the towers stand on every GPU whole.
        parallel=("tensor",),
        dtype=ANY_DTYPE,
        licence=GEMMA_TERMS,
    )


def _gemma4(
    size: str, takes: str, context: int, int4: float | None, int4_id: str | None = None, **facts: Any
) -> Card:
    common: dict[str, Any] = {"pool": "vision"}
    return Card(
        family=GEMMA_4,
        size=size,
        takes=tuple(takes.split()),
        **common | facts,
        weights=_by(f"google/gemma-4-{size}-it", int4=int4_id),
        gigabytes=_by(int4=int4),
        gigabytes_32k=_by(),
        context_tokens=context,
        image_tokens=280,
        clip_tokens=GEMMA4_CLIP if "audio" in takes else None,
        lora=True,
        parallel=BOTH_WAYS,
        dtype=ANY_DTYPE,
        licence="Apache-2.0",
    )


def _translating(size: str) -> Card:
    return _gemma3(
        "TranslateGemma",
        size,
        f"google/translategemma-{size.lower()}-it",
        context_tokens=2_048,
        why_not="its prompt is a form with two language codes, which no task fills in",
    )


CARDS: tuple[Card, ...] = (
    _text("Gemma 3", "270M", "google/gemma-3-270m-it"),
    _text("Gemma 3", "1B", "google/gemma-3-1b-it"),
    _seeing("4B"),
    _seeing("12B"),
    _seeing("27B"),
    _hearing("E2B", _by("google/gemma-3n-E2B-it"), _by(10.0)),
    _hearing(
        "E4B",
        _by(
            "google/gemma-3n-E4B-it",
            "RedHatAI/gemma-3n-E4B-it-FP8-dynamic",
            "RedHatAI/gemma-3n-E4B-it-quantized.w4a16",
        ),
        _by(16.0, 11.9),
    ),
    _gemma3(
        "ShieldGemma 2",
        "4B",
        "google/shieldgemma-2-4b-it",
        pool="vision",
        only="moderate",
        context_tokens=8_192,
        # vLLM could; nobody has tried one.
        lora=False,
    ),
    _translating("4B"),
    _translating("12B"),
    _translating("27B"),
    _text("FunctionGemma", "270M", "google/functiongemma-270m-it"),
    _text(
        "EmbeddingGemma",
        "300M",
        "google/embeddinggemma-300m",
        context_tokens=2_048,
        lora=False,
        parallel=("tensor",),
        why_not="it makes vectors, and no task asks for them",
    ),
    _gemma4(
        "E2B", "text image audio video", 131_072, 7.3, "google/gemma-4-E2B-it-qat-w4a16-ct", hears_too=True
    ),
    _gemma4(
        "E4B", "text image audio video", 131_072, 9.8, "google/gemma-4-E4B-it-qat-w4a16-ct", hears_too=True
    ),
    _gemma4(
        "12B",
        "text image audio video",
        262_144,
        8.3,
        "google/gemma-4-12B-it-qat-w4a16-ct",
        pool=None,
        why_not="it has no towers but a class of its own in vLLM, which no run has tried",
    ),
    _gemma4("26B-A4B", "text image video", 262_144, None),
    _gemma4("31B", "text image video", 262_144, 19.8, "google/gemma-4-31B-it-qat-w4a16-ct"),
)

BY_ID: dict[str, Card] = {source: card for card in CARDS for source in card.weights.values() if source}
MODELS: dict[str, Model] = {source: card.model(source) for source, card in BY_ID.items() if card.pool}
"""What a job may name, by id."""
