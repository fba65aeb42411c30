"""How the output is written."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import JobError
from schemas.tables import TableFormat, without_secrets


class SinkOptions(BaseModel):
    """Part files always, for a run to go on from; besides, tables of another format with the same rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: TableFormat = Field(
        TableFormat.PARQUET,
        description="parquet, or delta, iceberg or lance: tables that take in each run's rows in one commit.",
    )
    rows: int = Field(20_000, ge=1, description="A part file is published at this many rows,")
    seconds: float = Field(
        60, gt=0, description="or this many seconds after its first row, whichever comes first."
    )
    tables: str | None = Field(
        None,
        description="Where such tables lie: a prefix, `tables/` of the output if not set; of Iceberg, which "
        "has to be told, a namespace of the catalog.",
    )
    catalog: dict[str, str] = Field(
        default_factory=dict, description="Of Iceberg's catalog, as `table.catalog` is written."
    )

    @model_validator(mode="after")
    def _placed(self) -> SinkOptions:
        without_secrets(self.catalog, "sink.catalog")
        if self.kind is TableFormat.ICEBERG and not self.tables:
            raise JobError("sink.tables: name the namespace for Iceberg's tables", key="sink.tables")
        return self
