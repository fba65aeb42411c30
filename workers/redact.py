"""Values that texts must not show -> `[kind]` in their place, and how many there were of each.

presidio's recognizers are asked one by one: no model is loaded, and no network is asked. What they find is
taken out whole where they overlap, so that no end of a value is left.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from schemas.privacy import NATIONAL
from schemas.rows import data_column
from workers.extras import needs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schemas.privacy import PrivacyOptions

SURE = 0.4
"""Below it presidio itself wants a word such as `passport` nearby, which only a model's tokens would tell.
What a checksum confirms scores 1, strict patterns 0.5 and more, and phone numbers, which `phonenumbers` has
found valid for their country, 0.4."""
VALID, STRICT_GROUPING = 1, 2
"""Of phone numbers: one with a country's code need be valid alone, one without has its digits in groups as
its country writes them. Of 13 numbers of 6 countries all but `555-0199` went, which has no area; of 18 lines
of invoices and delivery notes with amounts, dates and numbers of documents, three lost something taken for a
phone's number: `invoice 0301234567` is one of Berlin."""
ANY_REGION = "ZZ"
GENERIC = {
    "credit_card": "CreditCardRecognizer",
    "crypto": "CryptoRecognizer",
    "iban": "IbanRecognizer",
    "ip_address": "IpRecognizer",
    "mac_address": "MacAddressRecognizer",
    "url": "UrlRecognizer",
}
DATA = data_column("")
Span = tuple[int, int, float, str]


class Redactor:
    """Takes values of some kinds out of texts. Not before the first text are the libraries loaded.

    Args:
        options: which kinds, and of which countries.
    """

    def __init__(self, options: PrivacyOptions) -> None:
        self._kinds = options.kinds
        self._regions = options.regions
        self._recognizers: list[tuple[str, Any]] | None = None

    def text(self, text: str, counts: Counter[str]) -> str:
        """The text without them; `counts` goes up by what was taken out."""
        if not text:
            return text
        pieces, at = [], 0
        for start, end, _, kind in merged(self._found(text)):
            pieces += [text[at:start], f"[{kind}]"]
            counts[kind] += 1
            at = end
        return "".join([*pieces, text[at:]])

    def value(self, value: Any, counts: Counter[str]) -> Any:
        """A typed answer with all strings in it without them; what is no string stays."""
        if isinstance(value, str):
            return self.text(value, counts)
        if isinstance(value, dict):
            return {name: self.value(inner, counts) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.value(inner, counts) for inner in value)
        return value

    def outcome(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """All that an outcome's columns say, and `redactions` besides, if there were any."""
        said: Counter[str] = Counter()
        typed: Counter[str] = Counter()
        clean = dict(outcome)
        for name, value in outcome.items():
            if name == "text" and value:
                clean[name] = self.text(value, said)
            elif name == "invalid_fields" or name.startswith(DATA):
                clean[name] = self.value(value, typed)
            elif name == "error" and value:
                clean[name] = value | {"message": self.text(value["message"], typed)}
        # A typed answer is there twice, as text and as data; so is what an error quotes.
        counts = said | typed
        return clean | ({"redactions": dict(counts)} if counts else {})

    def _found(self, text: str) -> Iterator[Span]:
        if self._recognizers is None:
            with needs("privacy"):
                self._recognizers = list(_recognizers(self._kinds, self._regions))
        for kind, recognizer in self._recognizers:
            for found in recognizer.analyze(text, recognizer.supported_entities, None):
                if found.score >= SURE:
                    yield found.start, found.end, found.score, kind


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans that overlap as one, of the kind of the surest of them, and of the longest of those."""
    joined: list[tuple[int, int, Span]] = []
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if joined and span[0] < joined[-1][1]:
            start, end, best = joined[-1]
            joined[-1] = start, max(end, span[1]), max(best, span, key=lambda one: (one[2], one[1] - one[0]))
        else:
            joined.append((span[0], span[1], span))
    return [(start, end, best[2], best[3]) for start, end, best in joined]


def _recognizers(kinds: tuple[str, ...], regions: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    import presidio_analyzer.predefined_recognizers as known

    # It logs what it finds at DEBUG, and values must not get into anybody's log.
    logging.getLogger("presidio-analyzer").setLevel(logging.WARNING)
    for kind in kinds:
        if kind == "email":
            yield kind, _email()
        elif kind == "phone":
            yield kind, known.PhoneRecognizer(supported_regions=regions, leniency=STRICT_GROUPING)
            yield kind, known.PhoneRecognizer(supported_regions=(ANY_REGION,), leniency=VALID)
        elif kind == "national_id":
            for region in regions:
                for name in NATIONAL.get(region, ()):
                    yield kind, getattr(known, name)()
        else:
            yield kind, getattr(known, GENERIC[kind])()


def _email() -> Any:
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    class Email(EmailRecognizer):
        """By its pattern alone: presidio asks the public suffix list, over the network, and lets addresses
        of domains that are not in it stand, as those inside a company are."""

        def validate_result(self, pattern_text: str) -> None:
            """Neither more nor less sure."""

    return Email()
