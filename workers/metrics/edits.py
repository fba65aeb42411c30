"""Character and word error rates, of what is read and what is heard."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from workers.metrics.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.metrics import Scores

RATES = {"cer": "process_characters", "wer": "process_words"}


class Edits(Texts):
    """CER and WER by jiwer: insertions, deletions and substitutions, per character or word of the reference.

    Rates pass 1 where more is said than there is to say. Where there is nothing to say, each character and
    word that is said all the same counts as an error, and the length is 1.
    """

    leads: ClassVar[str] = "cer"
    rising: ClassVar[bool] = False
    library: ClassVar[str] = ""

    def count(self, expected: str, answer: Any) -> Counter[Any]:
        """Errors and length, of characters and of words."""
        return self._counted(expected, answer, RATES)

    def characters(self, expected: str, answer: Any) -> Counter[Any]:
        """Of characters alone."""
        return self._counted(expected, answer, ["cer"])

    def _counted(self, expected: str, answer: Any, rates: Iterable[str]) -> Counter[Any]:
        import jiwer

        said = self.read(answer)
        counts: Counter[Any] = Counter()
        for rate in rates:
            found = getattr(jiwer, RATES[rate])(expected, said)
            wrong = found.substitutions + found.deletions
            counts[rate, "errors"] = wrong + found.insertions
            counts[rate, "length"] = wrong + found.hits
        return counts

    def scores(self, counts: Counter[Any]) -> Scores:
        """`cer` and `wer`."""
        return {rate: counts[rate, "errors"] / max(1, counts[rate, "length"]) for rate in RATES}
