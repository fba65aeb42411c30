"""What is done to an answer between its being valid and its leaving the engine's actor."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.errors import JobError
from schemas.rows import Status
from workers.condense import summed
from workers.extras import needs
from workers.language import Languages
from workers.names import Named, named, strings, technical, withheld
from workers.redact import NAME, Redactor

if TYPE_CHECKING:
    from schemas.privacy import PrivacyOptions
    from workers.names import Climb
    from workers.prompt import Ask

    Outcome = dict[str, Any]


class Discretion:
    """Takes out what a job wants taken out, and says which language is left. Does nothing unless asked.

    Args:
        options: what is asked.
        names: how the model is asked for names of people, if it is to be.
    """

    def __init__(self, options: PrivacyOptions, names: Ask | None = None) -> None:
        self._redactor = Redactor(options) if options.kinds else None
        self._languages = Languages() if options.language else None
        self._hides_names = options.names
        self._names = names

    async def outcome(self, outcome: Outcome, identity: str = "", climb: Climb | None = None) -> Outcome:
        """The columns of an answer, or of an error that may quote one.

        Args:
            outcome: as it was said.
            identity: of what was answered.
            climb: asks the model for names; without it only patterns are looked for.
        """
        if self._redactor is None and self._languages is None:
            return outcome
        if self._names is None or climb is None:
            return await asyncio.to_thread(self._discreet, outcome, Named())
        found = await named(strings(outcome), self._names, identity, climb)
        if found.fault is not None:
            return withheld(outcome, found.fault)
        return await asyncio.to_thread(self._discreet, outcome, found)

    def column(self, texts: pa.ChunkedArray) -> pa.ChunkedArray:
        """What documents say of themselves, such as their titles; of those of one document it is the same."""
        if self._redactor is None:
            return texts
        encoded = texts.combine_chunks().dictionary_encode()
        said = encoded.dictionary.to_pylist()
        if self._hides_names:
            said = [technical(text) for text in said]
        said = [self._redactor.facts(text) for text in said]
        return pa.chunked_array([pa.array(said, texts.type).take(encoded.indices)])

    def _discreet(self, outcome: Outcome, found: Named) -> Outcome:
        if self._redactor is not None:
            outcome = self._redactor.outcome(outcome, found.finder)
        if found.said and outcome["status"] is Status.RECORD:
            outcome = outcome | summed([outcome, *found.said])
        if self._languages is not None and outcome["status"] is Status.RECORD:
            outcome = outcome | {"language": self._languages.of(outcome.get("text"))}
        return outcome


def refuse_missing(options: PrivacyOptions) -> None:
    """Look for the libraries without loading them: engines would miss them only once they are up. And whether
    there are such countries: of others no number would be found, and nobody told.

    Raises:
        JobError: one that the job needs is not installed, or a region is none.
    """
    by_pattern = set(options.kinds) - {NAME}
    wanted = ("presidio_analyzer",) * bool(by_pattern) + ("lingua",) * options.language
    with needs("privacy"):
        for name in wanted:
            if find_spec(name) is None:
                raise ImportError(name=name)
        if by_pattern & {"phone", "national_id"}:
            from phonenumbers import SUPPORTED_REGIONS

            for region in options.regions:
                if region not in SUPPORTED_REGIONS:
                    meant = {"UK": "GB", "EL": "GR"}.get(region.upper(), region.upper())
                    hint = f"did you mean {meant!r}?" if meant in SUPPORTED_REGIONS else "as in US, GB, DE"
                    raise JobError(
                        f"privacy.regions: {region!r} is no country's two letters ({hint})",
                        key="privacy.regions",
                    )
