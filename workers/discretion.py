"""What is done to an answer between its being valid and its leaving the engine's actor."""

from __future__ import annotations

import asyncio
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.rows import Status
from workers.extras import needs
from workers.language import Languages
from workers.redact import Redactor

if TYPE_CHECKING:
    from schemas.privacy import PrivacyOptions


class Discretion:
    """Takes out what a job wants taken out, and says which language is left. Does nothing unless asked.

    Args:
        options: what is asked.
    """

    def __init__(self, options: PrivacyOptions) -> None:
        self._redactor = Redactor(options) if options.kinds else None
        self._languages = Languages() if options.language else None

    async def outcome(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """The columns of an answer, or of an error that may quote one."""
        if self._redactor is None and self._languages is None:
            return outcome
        return await asyncio.to_thread(self._discreet, outcome)

    def column(self, texts: pa.ChunkedArray) -> pa.ChunkedArray:
        """Texts that came with documents, such as their titles; those of one document are the same."""
        if self._redactor is None:
            return texts
        encoded = texts.combine_chunks().dictionary_encode()
        said = [self._redactor.text(text, Counter()) for text in encoded.dictionary.to_pylist()]
        return pa.chunked_array([pa.array(said, texts.type).take(encoded.indices)])

    def _discreet(self, outcome: dict[str, Any]) -> dict[str, Any]:
        if self._redactor is not None:
            outcome = self._redactor.outcome(outcome)
        if self._languages is not None and outcome["status"] is Status.RECORD:
            outcome = outcome | {"language": self._languages.of(outcome.get("text"))}
        return outcome


def refuse_missing(options: PrivacyOptions) -> None:
    """Look for the libraries without loading them: engines would miss them only once they are up.

    Raises:
        JobError: one that the job needs is not installed.
    """
    wanted = ("presidio_analyzer",) * bool(options.kinds) + ("lingua",) * options.language
    with needs("privacy"):
        for name in wanted:
            if find_spec(name) is None:
                raise ImportError(name=name)
