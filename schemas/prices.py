"""What things cost, as the job says."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import JobError


class Prices(BaseModel):
    """What a run is charged for. What has no price here costs nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    currency: str = Field("USD", min_length=1, description="Shown behind every sum.")
    engine_hour: float | None = Field(None, ge=0, description="One engine for an hour, with its GPUs.")
    cpu_hour: float | None = Field(
        None, ge=0, description="One CPU for an hour, where documents are expanded."
    )
    million_tokens_in: float | None = Field(
        None, ge=0, description="Of a served model: a million tokens of prompts."
    )
    million_tokens_out: float | None = Field(
        None, ge=0, description="Of a served model: a million tokens of answers."
    )

    budget: float | None = Field(
        None, gt=0, description="What one run may cost. It is not stopped at it: an alert says so."
    )

    @model_validator(mode="after")
    def _some(self) -> Prices:
        if all(price is None for price in (self.engine_hour, self.cpu_hour, *self._tokens)):
            raise JobError(
                "prices: name at least one of engine_hour, cpu_hour, million_tokens_in, million_tokens_out",
                key="prices",
            )
        return self

    @property
    def _tokens(self) -> tuple[float | None, float | None]:
        return self.million_tokens_in, self.million_tokens_out

    def cost(self, engine_hours: float, cpu_hours: float, tokens_in: float, tokens_out: float) -> float:
        """What so much of everything comes to."""
        into, out = self._tokens
        return (
            engine_hours * (self.engine_hour or 0)
            + cpu_hours * (self.cpu_hour or 0)
            + (tokens_in * (into or 0) + tokens_out * (out or 0)) / 1e6
        )
