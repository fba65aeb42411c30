"""Values that texts must not show -> `[kind]` in their place, and how many there were of each.

presidio's recognizers are asked one by one: no model is loaded, and no network is asked. What they find is
taken out whole where they overlap, so that no end of a value is left.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from schemas.errors import AnswerError
from schemas.ids import canonical
from schemas.limits import Limits
from schemas.privacy import NATIONAL
from schemas.rows import Status, data_column, error_value
from workers.expander import METADATA_CHARACTERS
from workers.extras import needs
from workers.pieces import found_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from schemas.privacy import PrivacyOptions

    Finder = Callable[[str], Iterable[tuple[int, int]]]

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
}
DATA = data_column("")
NAME, UNSURE = "name", 0.0
"""What the model took for somebody's name, which may be part of an address that a pattern knows better."""
Span = tuple[int, int, float, str]
PLAIN = {
    **dict.fromkeys((0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " "),
    **dict.fromkeys((*range(0x2010, 0x2016), 0x2212), "-"),
}
"""Spaces that do not break and dashes of many lengths, as texts are set with them and patterns are not."""
WORD = re.compile(r"\S+")
LONGEST_VALUE = 254
"""Characters of an address."""
ESCAPE = re.compile(r"\\(?:[abfnrtv]|x[0-9a-f]{2}|u[0-9a-f]{4})")
"""As an error quotes a line's end: after its `n` a number would be none."""
LEADERS = re.compile(r"\.{8,}")
"""As in a table of contents, or where a model repeats itself. To look for a host's name in 8,000 of them took
10 s."""
FEWEST = 4
"""Characters of a value that say something of it."""
DEEPEST = 100
"""Lists within lists that are looked through one by one."""


class Redactor:
    """Takes values of some kinds out of texts. Not before the first text are the libraries loaded.

    Args:
        options: which kinds, and of which countries.
    """

    def __init__(self, options: PrivacyOptions) -> None:
        self._kinds = tuple(kind for kind in options.kinds if kind != NAME)  # those with patterns
        self._regions = options.regions
        self._recognizers: list[tuple[str, Any]] | None = None

    def text(
        self,
        text: str,
        counts: Counter[str],
        names: Finder | None = None,
        taken: dict[str, str] | None = None,
    ) -> str:
        """The text without them, and without these names; `counts` goes up by what was taken out, and `taken`
        has it, with its kind."""
        if not text:
            return text
        pieces, at = [], 0
        for start, end, _, kind in merged([*self._found(text), *_named(text, names)]):
            pieces += [text[at:start], f"[{kind}]"]
            counts[kind] += 1
            if taken is not None:
                taken[text[start:end]] = kind
            at = end
        return "".join([*pieces, text[at:]])

    def outcome(self, outcome: dict[str, Any], names: Finder | None = None) -> dict[str, Any]:
        """All that an outcome's columns say, and `redactions` besides, if there were any; an error in its
        place if it cannot be said what to take out."""
        try:
            return self._outcome(outcome, names)
        except TimeoutError:
            return _withheld(outcome)

    def _outcome(self, outcome: dict[str, Any], names: Finder | None) -> dict[str, Any]:
        said: Counter[str] = Counter()
        typed: Counter[str] = Counter()
        taken: dict[str, str] = {}
        clean = looked_through(
            outcome,
            lambda text: self.text(text, said, names, taken),
            lambda text: self.text(text, typed, names),
        )
        if taken and clean.get("error"):
            error = clean["error"]
            clean["error"] = error | {"message": _without_beginnings(error["message"], taken)}
        # A typed answer is there twice, as text and as data; so is what an error quotes.
        counts = said | typed
        return clean | ({"redactions": dict(counts)} if counts else {})

    def facts(self, text: str | None) -> str | None:
        """A JSON object as `canonical` spells it, without them: JSON still; None if unsure."""
        value = as_json(text or "")
        try:
            if text is None or value is None:
                return text and self.text(text, Counter())
            return canonical(_each(value, lambda each: self.text(_whole_words(each), Counter())))
        except TimeoutError:
            return None

    def _found(self, text: str) -> Iterator[Span]:
        if not self._kinds:
            return
        if self._recognizers is None:
            with needs("privacy"):
                self._recognizers = list(_recognizers(self._kinds, self._regions))
        for reading in _readings(text):
            for kind, recognizer in self._recognizers:
                for start, end, score in found_in(reading, recognizer):
                    if score >= SURE:
                        yield start, end, score, kind


def _withheld(outcome: dict[str, Any]) -> dict[str, Any]:
    """The error in the place of an answer that could not be looked through; nothing of it is in there."""
    what = "it failed, and" if outcome.get("error") else "answered, but"
    message = (
        f"{what} the patterns of privacy.redact took too long on what it says, so that is not written; try "
        "again with `gemstream retry`"
    )
    error = outcome.get("error") or error_value(AnswerError(message), Limits())
    attempts = outcome.get("attempts", 1)
    return {"status": Status.ERROR, "error": error | {"message": message}, "attempts": attempts}


def _whole_words(text: str) -> str:
    """A document's word on itself; where it was cut, without what was cut, of which no pattern would know
    the rest: the last word, and before it those with digits."""
    if len(text) < METADATA_CHARACTERS or not text.endswith("…"):
        return text
    words = list(WORD.finditer(text))
    if words and len(words[-1][0]) > LONGEST_VALUE:  # in a script without spaces
        return f"{text[:-LONGEST_VALUE]}…"
    words = words[:-1]
    while words and any(map(str.isdigit, words[-1][0])):
        del words[-1]
    return f"{text[: words[-1].end()]} …" if words else "…"


def _without_beginnings(message: str, taken: dict[str, str]) -> str:
    """An error's message quotes so many characters of an answer: what they end in may begin a value."""
    for end in (*(found.start() for found in re.finditer("['\"]", message)), len(message)):
        for value, kind in taken.items():
            for length in range(len(value) - 1, FEWEST - 1, -1):
                if message.endswith(value[:length], 0, end):
                    return f"{message[: end - length]}[{kind}]{message[end:]}"
    return message


def looked_through(
    outcome: dict[str, Any], said: Callable[[str], str], typed: Callable[[str], str]
) -> dict[str, Any]:
    """An outcome with another text in the place of each.

    Args:
        outcome: its columns.
        said: of the answer as text.
        typed: of the strings of its data, and of what an error quotes.
    """
    clean = dict(outcome)
    for name, value in outcome.items():
        if name == "text" and value:
            clean[name] = said(_spelled_out(value, said))
        elif name == "invalid_fields" or name.startswith(DATA):
            clean[name] = _each(value, typed)
        elif name == "error" and value:
            clean[name] = value | {"message": typed(value["message"])}
    return clean


def _spelled_out(text: str, clean: Callable[[str], str]) -> str:
    """JSON, looked through by what its strings mean: they can be spelled so that nothing is found in them."""
    value = as_json(text)
    other = _each(value, clean, keys=clean)
    if other == value:
        return text
    made = json.dumps(other, ensure_ascii=False)
    # Half of a character can be spelled in JSON, and written nowhere.
    return json.dumps(other) if without_halves(made) != made else made


def without_halves(text: str) -> str:
    """A text without halves of characters, `?` in their place: JSON can spell them, UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def as_json(text: str) -> Any:
    """The object or list that a text spells; None if it does not, or none that can be looked through."""
    if text[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if _is_shallow(value, DEEPEST) else None


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


def _each(value: Any, clean: Callable[[str], str], keys: Callable[[str], str] = str) -> Any:
    """The value with another text in the place of each in it; what is no text stays."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        made: dict[str, Any] = {}
        for name, inner in value.items():
            key = shown = keys(name)
            while key in made:  # two addresses are one word now, and both of them have a value
                key = f"{shown} {len(made) + 1}"
            made[key] = _each(inner, clean, keys)
        return made
    if isinstance(value, list | tuple):
        return type(value)(_each(inner, clean, keys) for inner in value)
    return value


def _readings(text: str) -> Iterator[str]:
    """The text as patterns are to read it, each as long as it is."""
    plain = text.translate(PLAIN)
    yield plain
    read = ESCAPE.sub(_blank, plain)
    if read != plain:
        yield read


def _blank(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _named(text: str, names: Finder | None) -> Iterator[Span]:
    for start, end in names(text) if names is not None else ():
        yield start, end, UNSURE, NAME


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
    log = logging.getLogger("presidio-analyzer")
    log.setLevel(logging.WARNING)
    log.addFilter(_raise_timeout)
    for kind in kinds:
        if kind == "email":
            yield kind, _email()
        elif kind == "url":
            yield kind, _url()
        elif kind == "phone":
            yield kind, known.PhoneRecognizer(supported_regions=regions, leniency=STRICT_GROUPING)
            yield kind, known.PhoneRecognizer(supported_regions=(ANY_REGION,), leniency=VALID)
        elif kind == "national_id":
            for region in regions:
                for name in NATIONAL.get(region, ()):
                    yield kind, getattr(known, name)()
        else:
            yield kind, getattr(known, GENERIC[kind])()


def _raise_timeout(record: logging.LogRecord) -> bool:
    """presidio says in its log alone that it gave up on a text, and goes on as if nothing were in it. A
    filter's error reaches whoever asked."""
    if record.exc_info and isinstance(record.exc_info[1], TimeoutError):
        raise record.exc_info[1]
    return True


def _email() -> Any:
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    class Email(EmailRecognizer):
        """By its pattern alone: presidio asks the public suffix list, over the network, and lets addresses
        of domains that are not in it stand, as those inside a company are."""

        def validate_result(self, pattern_text: str) -> None:
            """Neither more nor less sure."""

    return Email()


def _url() -> Any:
    from presidio_analyzer.predefined_recognizers import UrlRecognizer

    class Url(UrlRecognizer):
        """Passes over rows of dots."""

        def analyze(self, text: str, *more: Any, **options: Any) -> Any:
            """See `PatternRecognizer.analyze`."""
            return super().analyze(LEADERS.sub(_blank, text), *more, **options)

    return Url()
