"""What is written down of free text has no signature and no header's credentials."""

from __future__ import annotations

from schemas.secrets import MASK, masked


def test_signed_addresses_and_headers_are_masked_and_other_words_are_not() -> None:
    given = {"of": ["Authorization: Bearer hush"], "url": "https://h/?X-Amz-Signature=hush&sig=hush&design=a"}
    assert "hush" not in str(masked(given)) and str(masked(given)).count(MASK) == 3
    plain = {"design": "a", "note": "Basic ideas", "url": "https://h/?design=a"}
    assert masked(plain) == plain
