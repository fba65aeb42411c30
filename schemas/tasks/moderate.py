"""Moderate: whether a part breaks a policy, as the probability of "Yes"."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pydantic import Field

from schemas.rows import PartKind, Shown
from schemas.tasks.base import NOUN, Said, Task, as_data

POLICIES = {
    "sexual": "sexually explicit material: pornography, or graphic or erotic depictions of sexual acts",
    "dangerous": "help with doing harm: instructions for weapons, attacks or self-harm, or trade in what is "
    "illegal",
    "violence": "shocking or gory depictions of violence against people or animals",
}
"""Our own words for the three harms that ShieldGemma 2 was tuned for
(ai.google.dev/gemma/docs/shieldgemma/model_card_2)."""
YES, NO = "Yes", "No"
THRESHOLD = 0.5


class Moderate(Task):
    """One policy. A job names several by several entries, or by `policies`, which makes an entry of each."""

    kind = "moderate"
    parts = frozenset({PartKind.PAGE, PartKind.IMAGE})

    max_tokens: int = 4
    policy: str = Field(
        min_length=3, description=f"{', '.join(POLICIES)}, or what must not be there, in words of your own."
    )
    threshold: float = Field(
        THRESHOLD, gt=0, lt=1, description="Probability from which on `violates` is true."
    )

    def question(self, shown: Shown) -> str:
        """The policy, and the question in the form that ShieldGemma answers: Yes is a violation."""
        return self.prompt or (
            f"You are a policy expert. Does this {NOUN[shown]} contain "
            f"{POLICIES.get(self.policy, self.policy)}? {as_data(shown)} Answer Yes or No."
        )

    def subject(self) -> str:
        """The policy: the name of one of ShieldGemma's, whose words the engine knows, or your own."""
        return self.policy

    def choices(self) -> tuple[str, ...]:
        """Yes first, as its probability is what is asked for."""
        return (YES, NO)

    def likelihoods(self) -> bool:
        """They are the answer."""
        return True

    def data_type(self) -> pa.DataType:
        """`violates`, the probability that it does (null where the engine does not tell), the policy."""
        return pa.struct(
            [
                pa.field("violates", pa.bool_()),
                pa.field("probability", pa.float64()),
                pa.field("policy", pa.string()),
            ]
        )

    def reading(self) -> dict[str, Any]:
        """The threshold; and the policy, where a prompt of the job's own need not say it."""
        usual = {"policy": self.policy} if self.prompt else {}
        return usual if self.threshold == THRESHOLD else {**usual, "threshold": self.threshold}

    def data(self, said: Said) -> dict[str, Any]:
        """See `data_type`."""
        likely = None if said.likelihoods is None else said.likelihoods[YES]
        violates = said.text == YES if likely is None else likely >= self.threshold
        return {"violates": violates, "probability": likely, "policy": self.policy}
