"""What an output must not show."""

from __future__ import annotations

import os
from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from schemas.errors import JobError
from schemas.ids import canonical
from schemas.names import NAMES
from schemas.rows import Shown

KINDS = (
    "email",
    "phone",
    "credit_card",
    "iban",
    "ip_address",
    "mac_address",
    "crypto",
    "national_id",
    "url",
    "name",
)
ALL = tuple(kind for kind in KINDS if kind not in ("url", "name"))
"""Addresses of web pages are of nobody as a rule, and any `name.ending` may be one. For names of people the
model is asked about each of its answers, which costs."""
NATIONAL = {
    "AU": ("AuTfnRecognizer", "AuMedicareRecognizer"),
    "DE": ("DeTaxIdRecognizer", "DeIdCardRecognizer", "DePassportRecognizer", "DeSocialSecurityRecognizer"),
    "ES": ("EsNifRecognizer", "EsNieRecognizer"),
    "FI": ("FiPersonalIdentityCodeRecognizer",),
    "GB": ("UkNinoRecognizer", "NhsRecognizer"),
    "IN": ("InAadhaarRecognizer", "InPanRecognizer"),
    "IT": ("ItFiscalCodeRecognizer",),
    "KR": ("KrRrnRecognizer",),
    "PL": ("PlPeselRecognizer",),
    "SE": ("SePersonnummerRecognizer",),
    "SG": ("SgFinRecognizer",),
    "TH": ("ThTninRecognizer",),
    "TR": ("TrNationalIdRecognizer",),
    "US": ("UsSsnRecognizer", "UsItinRecognizer"),
    "ZA": ("ZaIdNumberRecognizer",),
}
"""By country, presidio's recognizers of numbers that are a person's own."""
OF_COUNTRIES = {"phone", "national_id"}
"""Kinds that are looked for as they are in `regions`; for the others it makes no difference where one is."""
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT")


class PrivacyOptions(BaseModel):
    """Values that are taken out of answers, and names that are hashed, before anything is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    redact: tuple[str, ...] = Field(
        (),
        description=f"Kinds to take out of all text: {', '.join(KINDS)}; or `all` of them but url and name.",
    )
    regions: tuple[str, ...] = Field(
        REGIONS, description="Where phone numbers and identity numbers are from."
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

    @field_validator("redact")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for kind in value:
            if kind not in (*KINDS, "all"):
                meant = get_close_matches(kind, KINDS, 1)
                hint = f"did you mean {meant[0]!r}?" if meant else f"known: {', '.join(KINDS)}, all"
                raise JobError(f"privacy.redact: nothing is known of {kind!r} ({hint})", key="privacy.redact")
        return value

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is taken out, each once, in one order."""
        wanted = {*self.redact, *(ALL if "all" in self.redact else ())}
        return tuple(kind for kind in KINDS if kind in wanted)

    @property
    def names(self) -> bool:
        """Whether the model is asked for the names of people in its answers."""
        return "name" in self.redact

    @property
    def recipe(self) -> str | None:
        """What of it changes answers, as one string; None if nothing."""
        if not self.kinds:
            return None
        asked = {"asked": NAMES.question(Shown.TEXT)} if self.names else {}
        regions = self.regions if OF_COUNTRIES.intersection(self.kinds) else REGIONS
        return canonical({"kinds": self.kinds, "regions": sorted(regions), **asked})

    @property
    def hides(self) -> bool:
        """Whether something is not to be shown, so that no document may be shown as it is."""
        return bool(self.kinds or self.hash_uris or self.hash_columns)

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
