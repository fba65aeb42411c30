"""How fast a machine's parts are: what predictions and the simulation reckon with."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class EngineRates(BaseModel):
    """One engine of one model, all its places taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    media_seconds: dict[str, float]
    """Kind of part -> seconds of engine time to encode one part's media; 0 if counted in prefill."""
    start_seconds: float


class Rates(BaseModel):
    """One kind of machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hardware: str
    source: str
    """How the figures were come by, or whose they are."""
    expand_seconds: dict[str, float]
    """Kind of part -> CPU seconds a part, on one core."""
    record_seconds: float
    """CPU seconds a record outside expand and outside the engine's processes."""
    engines: dict[str, EngineRates]
    """A model's source -> its rates."""
    list_keys_per_second: float
    get_bytes_per_second: float
    """One worker."""
