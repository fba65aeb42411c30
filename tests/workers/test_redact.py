"""What a job wants taken out of texts is in none of them, and what is left reads on."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import JobError
from schemas.ids import canonical
from schemas.privacy import ALL, PrivacyOptions
from schemas.rows import Status
from workers.discretion import Discretion, refuse_missing
from workers.expand import Opened
from workers.expander import METADATA_CHARACTERS, brief
from workers.names import strings
from workers.pieces import OVERLAP, PIECE
from workers.redact import Redactor, merged

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "PL", "SE")
VALUES = {
    "email": ("jo.doe+x@example.co.uk", "anna@mail.corp.local", "müller@straße.de"),
    "phone": ("(212) 555-2368", "020 7946 0958", "030 1234567", "01 42 68 53 00", "+39 06 698 82001"),
    "credit_card": ("4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005"),
    "iban": ("DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819"),
    "ip_address": ("192.168.10.7", "2001:db8:85a3::8a2e:370:7334"),
    "mac_address": ("00:1B:44:11:3A:B7",),
    "crypto": ("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",),
    "national_id": (
        "856-45-6789",
        "AB 12 34 56 C",
        "36574261809",
        "12345678Z",
        "RSSMRA85T10A562S",
        "44051401359",
    ),
}
ORDINARY = (
    "Invoice No. 2024-0815-4711 of 12.03.2024, total EUR 1,234.56 incl. 19% VAT 197.11",
    "4711 0815 12/31/2023 23:59:59 page 12 of 148",
    "Order 100-2345678-9012345, qty 12, 3 x 14.99 = 44.97",
    "ISBN 978-3-16-148410-0; DOI 10.1000/182; RFC 2119 section 4.2.1",
    "2019 2020 2021 2022 2023",
    "Net 12 345 678,90 kr; 1 000 000 USD; 12.345.678,90 EUR",
    "Card 4111 1111 1111 1112 and account DE89 3704 0044 0532 0130 01 do not exist",
    "lat 52.520008, long 13.404954",
)


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(PrivacyOptions(redact=("all",), regions=REGIONS))


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind in VALUES for value in VALUES[kind]])
def test_values_of_many_countries(redactor: Redactor, kind: str, value: str) -> None:
    counts: Counter[str] = Counter()
    assert redactor.text(f"Contact: {value}, thanks", counts) == f"Contact: [{kind}], thanks"
    assert counts == {kind: 1}


@pytest.mark.parametrize("text", ORDINARY)
def test_amounts_dates_and_numbers_that_do_not_add_up_stay(redactor: Redactor, text: str) -> None:
    assert redactor.text(text, Counter()) == text


PLANTED = st.lists(st.sampled_from([(kind, value) for kind in VALUES for value in VALUES[kind]]), max_size=4)


@settings(max_examples=40)
@given(planted=PLANTED, words=st.lists(st.sampled_from(["paid", "Total:", "über", "\n", "x."]), min_size=5))
def test_nothing_planted_is_left(
    redactor: Redactor, planted: list[tuple[str, str]], words: list[str]
) -> None:
    pieces = [words[0]]
    for (_, value), word in zip(planted, words[1:], strict=False):
        pieces += [value, f"and {word}"]
    counts: Counter[str] = Counter()
    clean = redactor.text(" ".join(pieces), counts)
    assert not [value for _, value in planted if value in clean]
    assert counts == Counter(kind for kind, _ in planted)
    again: Counter[str] = Counter()
    assert redactor.text(clean, again) == clean and not again


def test_only_what_is_asked_for() -> None:
    only = Redactor(PrivacyOptions(redact=("iban",)))
    text = "jo@example.org pays to GB29NWBK60161331926819"
    assert only.text(text, Counter()) == "jo@example.org pays to [iban]"


def test_what_overlaps_goes_whole() -> None:
    assert merged([(4, 9, 0.4, "phone"), (0, 6, 1.0, "iban"), (12, 13, 0.5, "email")]) == [
        (0, 9, 1.0, "iban"),
        (12, 13, 0.5, "email"),
    ]


def test_an_outcome_says_how_many_and_not_which(redactor: Redactor) -> None:
    discretion = Discretion(PrivacyOptions(redact=("all",), regions=REGIONS))
    mail = "jo@example.org"
    typed = {"who": mail, "when": None, "pay": [{"to": "GB29NWBK60161331926819"}], "total": 3}
    said = {"status": Status.RECORD, "text": f'{{"who": "{mail}"}}', "data:extract": typed}
    clean = asyncio.run(discretion.outcome(said))
    assert clean["data:extract"] == {"who": "[email]", "when": None, "pay": [{"to": "[iban]"}], "total": 3}
    assert clean["text"] == '{"who": "[email]"}'
    assert clean["redactions"] == {"email": 1, "iban": 1}
    error = {"message": f"{mail!r} is no date", "category": "off_schema"}
    failed = asyncio.run(discretion.outcome({"status": Status.ERROR, "text": mail, "error": error}))
    assert failed["error"] == {"message": "'[email]' is no date", "category": "off_schema"}
    assert failed["redactions"] == {"email": 1}
    titles = pa.chunked_array([pa.array(['{"author":"jo@example.org"}', None])])
    assert discretion.column(titles).to_pylist() == ['{"author":"[email]"}', None]


def test_nothing_is_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    everything = Redactor(PrivacyOptions(redact=("all", "url")))
    clean = everything.text("jo@example.zzz or https://example.org/a, +49 30 123456", Counter())
    assert "example" not in clean


def test_kinds_are_known() -> None:
    assert PrivacyOptions(redact=("all",)).kinds == ALL
    with pytest.raises(JobError, match="did you mean 'email'"):
        PrivacyOptions(redact=("emails",))


@pytest.mark.parametrize("space", ["\u00a0", "\u202f", "\u2009"])
def test_spaces_that_do_not_break_hide_nothing(redactor: Redactor, space: str) -> None:
    for kind, value in (("credit_card", "4111 1111 1111 1111"), ("iban", "DE89 3704 0044 0532 0130 00")):
        assert redactor.text(f"by {value.replace(' ', space)}.", Counter()) == f"by [{kind}]."
    assert redactor.text("4111\u20131111\u20131111\u20131111", Counter()) == "[credit_card]"


def test_what_an_error_quotes_hides_nothing(redactor: Redactor) -> None:
    for value in ("4111 1111 1111 1111", "192.168.10.7", "030 1234567", "856-45-6789"):
        quoted = repr(f"paid\n{value}")
        error = {"message": f"{quoted} is none of a, b"}
        clean = redactor.outcome({"status": Status.ERROR, "error": error})
        assert value not in clean["error"]["message"] and clean["error"]["message"].endswith(
            "is none of a, b"
        )


def test_what_a_document_says_of_itself_is_json_before_and_after() -> None:
    discretion = Discretion(PrivacyOptions(redact=("all",), regions=REGIONS))
    said = {"author": "Jo\njo@example.org", "title": "Paid\n4111 1111 1111 1111", "pages": 3}
    [clean] = discretion.column(pa.chunked_array([[canonical(said)]])).to_pylist()
    assert json.loads(clean) == {"author": "Jo\n[email]", "title": "Paid\n[credit_card]", "pages": 3}


def test_odd_json_ends_no_run(redactor: Redactor) -> None:
    deep = '["jo@example.org"]'
    for _ in range(600):
        deep = f"[{deep}]"
    clean = redactor.outcome({"status": Status.RECORD, "text": deep})
    assert clean["text"] == deep.replace("jo@example.org", "[email]")
    assert strings({"text": deep}) == [deep]
    half = redactor.outcome({"status": Status.RECORD, "text": r'{"a": "\ud83d", "b": "jo@example.org"}'})
    assert pa.array([half["text"]]).to_pylist() == [r'{"a": "\ud83d", "b": "[email]"}']
    for text in strings({"text": r'{"a": "\ud83d"}'}):
        text.encode()


def test_of_two_addresses_that_are_keys_both_keep_their_values(redactor: Redactor) -> None:
    clean = redactor.outcome({"status": Status.RECORD, "text": '{"a@example.org": 1, "b@example.org": 2}'})
    assert list(json.loads(clean["text"]).values()) == [1, 2] and "example" not in clean["text"]


def test_rows_of_dots_hold_nothing_up_and_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from presidio_analyzer import pattern_recognizer

    monkeypatch.setattr(pattern_recognizer, "REGEX_TIMEOUT_SECONDS", 2)
    urls = Redactor(PrivacyOptions(redact=("url",)))
    text = f"{'.' * 8_000} https://example.org/a...b/c and example.com."
    assert urls.text(text, Counter()) == f"{'.' * 8_000} [url] and [url]."


@pytest.mark.parametrize("value", ["jo.blyth@example.org", "4111 1111 1111 1111"])
def test_what_an_error_quotes_half_of_goes_as_well(redactor: Redactor, value: str) -> None:
    for kept in range(5, len(value)):
        text = f"{'x' * (199 - kept)} {value} and more"
        for message in (f"{text[:200]!r} is none of a, b", f"/total: no number is {text[:200]}"):
            error = {"message": message}
            clean = redactor.outcome({"status": Status.ERROR, "text": text, "error": error})
            assert value[:5] not in clean["error"]["message"]


@pytest.mark.parametrize(("region", "hint"), [("UK", "GB"), ("gb", "GB"), ("Europe", "as in US")])
def test_a_region_that_is_none_is_refused(region: str, hint: str) -> None:
    refuse_missing(PrivacyOptions(redact=("all",)))
    with pytest.raises(JobError, match=hint):
        refuse_missing(PrivacyOptions(redact=("phone",), regions=("DE", region)))


CUTS = (0, OVERLAP)
"""A piece begins and the one before it ends, behind each multiple of their step."""


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_a_value_in_two_pieces_goes_whole(redactor: Redactor, share: float) -> None:
    pieces: list[str] = []
    size = 0
    planted = [(kind, value) for kind in VALUES for value in VALUES[kind] for _ in CUTS]
    for place, (_, value) in enumerate(planted, 1):
        cut = (place // 2 + 1) * (PIECE - OVERLAP) + CUTS[place % 2]
        fill = cut - round(share * len(value)) - size
        pieces += [("paid and " * (fill // 9 + 1))[: fill - 1], " ", value, " thanks "]
        size += fill + len(value) + len(" thanks ")
    counts: Counter[str] = Counter()
    clean = redactor.text("".join(pieces), counts)
    assert not [value for _, value in planted if value in clean]
    assert counts == Counter(kind for kind, _ in planted) and clean.count("thanks") == len(planted)


def test_a_number_cut_in_two_is_no_other_number(redactor: Redactor) -> None:
    text = "".join(f"{line}; 20240301234567\n" for line in ORDINARY * 15)
    assert len(text) > 4 * PIECE and redactor.text(text, Counter()) == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [("url", f"https://example.org/{'a' * 5_000}"), ("email", f"{'b' * 5_000}@example.org")],
)
def test_a_word_longer_than_a_piece_goes_whole(kind: str, value: str) -> None:
    only = Redactor(PrivacyOptions(redact=(kind,)))
    for before in range(0, PIECE, 397):
        filled = "x " * (before // 2)
        assert only.text(f"{filled}see {value} and more", Counter()) == f"{filled}see [{kind}] and more"


@pytest.mark.parametrize("row", ["|0", "a-"])
def test_a_table_without_spaces_holds_nothing_up(row: str) -> None:
    """5.4 s in all of 8,000 characters, and nothing was taken out of 27,000."""
    text = f"{row * 15_000} jane.doe@corp.example"
    began = time.process_time()
    assert Redactor(PrivacyOptions(redact=("email",))).text(text, Counter()) == f"{row * 15_000} [email]"
    assert time.process_time() - began < 10


def test_what_presidio_gives_up_on_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from presidio_analyzer import pattern_recognizer

    monkeypatch.setattr(pattern_recognizer, "REGEX_TIMEOUT_SECONDS", 0.01)
    discretion = Discretion(PrivacyOptions(redact=("email",)))
    text = f"{'a-' * 5_000}jane.doe@corp @ jo@example.org"
    said = {"status": Status.RECORD, "text": text, "attempts": 2, "data:extract": {"a": text}}
    clean = asyncio.run(discretion.outcome(said))
    assert set(clean) == {"status", "error", "attempts"} and clean["attempts"] == 2
    assert clean["status"] is Status.ERROR and clean["error"]["category"] == "answer"
    assert "retry" in clean["error"]["message"] and "a-" not in str(clean)
    refused = {"category": "off_schema", "stage": "validate", "message": text[-60:], "transient": False}
    failed = asyncio.run(discretion.outcome({"status": Status.ERROR, "text": text, "error": refused}))
    told = failed["error"]["message"]
    assert failed["error"] == refused | {"message": told} and "text" not in failed
    assert told.startswith("it failed") and "retry" in told and "a-" not in told
    assert discretion.column(pa.chunked_array([[canonical({"title": text})]])).to_pylist() == [None]


@pytest.mark.parametrize("value", ["jane.doe@corp.example", "DE89 3704 0044 0532 0130 00", "+49 30 1234567"])
def test_a_value_that_metadata_was_cut_in_is_left_out(redactor: Redactor, value: str) -> None:
    for kept in range(1, len(value)):
        words = ("word " * METADATA_CHARACTERS)[: METADATA_CHARACTERS - kept - 2] + " "
        opened = brief(Opened(1, {}, {"title": words + value + " and more"}, (words + value + " and more",)))
        said = redactor.facts(canonical({**opened.metadata, "warnings": list(opened.warnings)}))
        for title in (json.loads(said or "")["title"], *json.loads(said or "")["warnings"]):
            assert title == f"{words.rstrip()} …"
    # A script without spaces is not one word.
    long = redactor.facts(canonical({"title": brief(Opened(1, {}, {"title": "字" * 900})).metadata["title"]}))
    assert len(json.loads(long or "")["title"]) > METADATA_CHARACTERS // 3
    assert redactor.facts(canonical({"title": "To be continued…"})) == canonical(
        {"title": "To be continued…"}
    )
