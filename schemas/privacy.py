"""What an output must not show."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from schemas.errors import JobError


class PrivacyOptions(BaseModel):
    """Values that are taken out of answers, and names that are hashed, before anything is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    redact: tuple[str, ...] = Field(
        (),
        description="Kinds to take out of all text: email, phone, credit_card, iban, ip_address and so on, "
        "or `all` that patterns and checksums can tell.",
    )
    names: bool = Field(
        False, description="Besides, have the model name the people in each text, and take them out too."
    )
    regions: tuple[str, ...] = Field(
        ("US", "GB", "DE", "FR", "ES", "IT"), description="Where phone numbers and identity numbers are from."
    )
    hash_uris: bool = Field(False, description="Write a keyed hash in place of each document's address.")
    hash_columns: tuple[str, ...] = Field(
        (), description="Carried columns whose values are written as keyed hashes."
    )
    key_env: str | None = Field(
        None, description="The environment variable that holds the key of those hashes, on the driver."
    )
    language: bool = Field(
        False, description="Say in `language` which language each text answer is in, as ISO 639-1."
    )

    @field_validator("redact", "hash_columns", "regions", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _keyed(self) -> PrivacyOptions:
        if (self.hash_uris or self.hash_columns) and not self.key_env:
            raise JobError(
                "privacy.key_env: a hash without a key can be guessed from a list of names; say which "
                "variable of the environment holds one",
                key="privacy.key_env",
            )
        return self

    def key(self) -> SecretStr:
        """The key of the hashes.

        Raises:
            JobError: the variable is not set where the driver is.
        """
        value = os.environ.get(self.key_env or "", "")
        if not value:
            raise JobError(
                f"privacy.key_env: {self.key_env} is not set where the run's driver is", key="privacy.key_env"
            )
        return SecretStr(value)
