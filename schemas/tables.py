"""Tables of a data lake: which one a job reads, and which it writes."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.errors import JobError
from schemas.secrets import masked


class TableFormat(StrEnum):
    """What keeps the files of a table together."""

    PARQUET = "parquet"
    """A folder of files, in hive partitions or not: read only, for it has no commits."""
    DELTA = "delta"
    ICEBERG = "iceberg"
    LANCE = "lance"


def without_secrets(catalog: dict[str, str], key: str) -> dict[str, str]:
    """A catalog's properties, which are written down with a run and shown to workers.

    Raises:
        JobError: one of them is a secret; it says where pyiceberg reads it from instead.
    """
    found = [name for name, value in masked(catalog).items() if value != catalog[name]]
    if found:
        variable = f"PYICEBERG_CATALOG__{catalog.get('name', 'default').upper()}__"
        name = found[0].upper().replace(".", "__").replace("-", "_")
        raise JobError(
            f"{key}.{found[0]} is a secret, and a job is written down: leave it out, and set "
            f"{variable}{name} in the environment of the driver and the workers",
            key=key,
        )
    return catalog


class Place(BaseModel):
    """Where a table is, and how its format is reached. Picklable, and without a credential in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: TableFormat
    uri: str
    """Of the folder that it lies in; for Iceberg its name in the catalog, `namespace.table`."""
    catalog: dict[str, str] = Field(default_factory=dict)
    """Properties of Iceberg's catalog, as pyiceberg's `load_catalog` takes them, and its `name`."""


class TableOptions(BaseModel):
    """The table whose rows are the documents of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str = Field(description="The table: s3://lake/documents, a path, or, of Iceberg, namespace.table.")
    format: TableFormat | None = Field(
        None, description="parquet, delta, iceberg or lance; found out by what lies there, if not given."
    )
    catalog: dict[str, str] = Field(
        default_factory=dict,
        description="Of Iceberg's catalog: properties as pyiceberg takes them, such as {type: rest, uri: …}, "
        "and its name, `default` if not set. Secrets are read from PYICEBERG_CATALOG__<NAME>__… of the "
        "environment.",
    )
    uri_column: str | None = Field(
        None, description="The column that says where each document is; `uri`, if neither this nor bytes."
    )
    bytes_column: str | None = Field(None, description="Instead: the column that holds the documents.")
    key: tuple[str, ...] = Field(
        (), description="The columns that a row is known by. Without them a row goes by its uri."
    )
    columns: tuple[str, ...] | None = Field(
        None,
        description="The columns that answers carry along as `attributes`; all but the bytes if not set.",
    )
    filter: str | None = Field(
        None, description="Only the rows that this holds for: year >= 2024 AND kind = 'a'."
    )
    version: str | None = Field(None, description="The snapshot to read; the newest if not set.")
    incremental: bool = Field(
        True,
        description="Pass over the files that the last finished run has read, where the format tells. Set it "
        "to false to look whether objects have changed behind rows that have not.",
    )
    into: str | None = Field(
        None,
        description="Where the answers go besides, a row for each of the table's: `same` adds columns to the "
        "table itself, an address (of Iceberg, a name) is a table beside it.",
    )

    @field_validator("key", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        without_secrets(self.catalog, "table.catalog")
        if self.uri_column and self.bytes_column:
            raise JobError(
                "table: a document is either in bytes_column or where uri_column says", key="table.uri_column"
            )
        if self.bytes_column and not self.key:
            raise JobError(
                "table.key: rows with their documents in them are known by their key; name its columns",
                key="table.key",
            )
        return self

    @property
    def content(self) -> str:
        """The column that leads to the documents."""
        return self.bytes_column or self.uri_column or "uri"
