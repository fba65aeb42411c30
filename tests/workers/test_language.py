"""Texts say which language they are in, or nothing."""

from __future__ import annotations

import pytest

from workers.language import Languages

SENTENCES = {
    "en": "The invoice is due within thirty days of receipt, and late payments bear interest.",
    "de": "Die Rechnung ist innerhalb von dreißig Tagen nach Erhalt zu zahlen.",
    "fr": "La facture est payable dans les trente jours suivant sa réception.",
    "es": "La factura debe pagarse en un plazo de treinta días desde su recepción.",
    "ja": "請求書は受領後三十日以内に全額お支払いください。",
    "ru": "Счёт должен быть оплачен в течение тридцати дней.",
}


@pytest.fixture(scope="module")
def languages() -> Languages:
    return Languages()


@pytest.mark.parametrize("code", SENTENCES)
def test_sentences(languages: Languages, code: str) -> None:
    assert languages.of(SENTENCES[code]) == code


@pytest.mark.parametrize(
    "text", [None, "", "OK", "4711 0815 12.03.2024 1,234.56", "total 42.50", "tape, pens"]
)
def test_what_cannot_be_told_is_not_told(languages: Languages, text: str | None) -> None:
    assert languages.of(text) is None


def test_of_a_long_text_its_beginning_counts(languages: Languages) -> None:
    assert languages.of(SENTENCES["fr"] * 40 + SENTENCES["de"] * 400) == "fr"
