"""chrF, of translations and other prose that may say the same in other words."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from workers.metrics import Scores, library
from workers.metrics.texts import Texts


class Prose(Texts):
    """chrF2 by sacrebleu, as a share from 0 to 1: n-grams of up to 6 characters, recall weighs twice.

    The count of a pair is the pair itself, since sacrebleu adds up n-grams only over all pairs at once.
    """

    leads: ClassVar[str] = "chrf"
    rising: ClassVar[bool] = True
    library: ClassVar[str] = "sacrebleu"

    def count(self, expected: str, answer: Any) -> Counter[Any]:
        """The pair."""
        return Counter([(expected, self.read(answer))])

    def scores(self, counts: Counter[Any]) -> Scores:
        """`chrf`. Where there is nothing to say and nothing is said, 1."""
        pairs = [pair for pair in counts.elements() if any(pair)]
        if not pairs:
            return {"chrf": 1.0}
        expected, said = zip(*pairs, strict=True)
        found = library("sacrebleu").CHRF().corpus_score(said, [expected])
        # A percentage, which may pass 100 by a rounding.
        return {"chrf": min(1.0, found.score / 100)}
