"""Names that a job hides are hashed where documents are listed, by a key that goes no further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.plan import make_plan
from pipelines.runner import source_of
from schemas.errors import JobError
from schemas.ids import document_id
from schemas.job import JobSpec
from schemas.rows import DOCUMENTS, with_attributes

FaultJob = Callable[..., JobSpec]
KEY = "GEMSTREAM_TEST_KEY"


@pytest.fixture
def hiding(tmp_path: Path, fault_job: FaultJob, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobSpec]:
    """A job about a manifest of three documents, two of one customer."""
    monkeypatch.setenv(KEY, "not to be guessed")
    for name in ("anna.pdf", "bert.pdf", "carl.pdf"):
        (tmp_path / name).write_bytes(b"%PDF-1.7")
    rows = [f"{tmp_path}/{name},{who},{n}" for name, who, n in RESIDENTS]
    (tmp_path / "list.csv").write_text("\n".join(["uri,customer,page", *rows]))
    return lambda **privacy: fault_job(
        manifest=str(tmp_path / "list.csv"), tasks=["ocr"], privacy={"key_env": KEY, **privacy}
    )


RESIDENTS = (("anna.pdf", "Anna Blyth", 1), ("bert.pdf", "Bert Moss", 2), ("carl.pdf", "Anna Blyth", 3))


def test_a_document_goes_by_a_hash_and_is_found_by_its_address(
    hiding: Callable[..., JobSpec], tmp_path: Path
) -> None:
    source = source_of(hiding(hash_uris=True))
    source.check()
    [listed] = source.documents()
    assert listed.schema == with_attributes(DOCUMENTS, source.attributes)
    uris = listed["uri"].to_pylist()
    assert all(uri.startswith("hmac:") and len(uri) == 37 for uri in uris) and len(set(uris)) == 3
    assert listed["document_id"].to_pylist() == [document_id(uri) for uri in uris]
    assert [uri.rpartition("/")[2] for uri in listed["address"].to_pylist()] == [row[0] for row in RESIDENTS]
    assert listed["attributes"].to_pylist()[0] == {"customer": "Anna Blyth", "page": "1"}


def test_the_same_key_gives_the_same_names_and_another_gives_others(
    hiding: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = hiding(hash_uris=True)
    [first], [again] = source_of(job).documents(), source_of(job).documents()
    assert first["uri"] == again["uri"]
    monkeypatch.setenv(KEY, "another")
    [other] = source_of(job).documents()
    assert not set(first["uri"].to_pylist()) & set(other["uri"].to_pylist())


def test_columns_are_hashed_value_by_value(hiding: Callable[..., JobSpec]) -> None:
    source = source_of(hiding(hash_columns=["customer"]))
    [listed] = source.documents()
    assert listed["attributes"].type == source.attributes
    anna, bert, again = (row["customer"] for row in listed["attributes"].to_pylist())
    assert anna == again != bert and anna.startswith("hmac:")
    assert not any(uri.startswith("hmac:") for uri in listed["uri"].to_pylist())


def test_what_cannot_be_hidden_is_refused(
    hiding: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError, match=r"no column 'client'.*customer, page"):
        source_of(hiding(hash_columns=["client"]))
    job = hiding(hash_uris=True)
    monkeypatch.delenv(KEY)
    with pytest.raises(JobError, match=f"{KEY} is not set"):
        source_of(job)
    with pytest.raises(JobError, match=r"a hash without a key"):
        hiding(hash_uris=True, key_env=None)


def test_only_what_is_taken_out_makes_another_answer(hiding: Callable[..., JobSpec]) -> None:
    def asked(**privacy: object) -> object:
        return make_plan(hiding(**privacy), None, 0.0).fingerprints

    assert asked() == asked(hash_uris=True) == asked(language=True)
    assert asked() != asked(redact="email") != asked(redact="all")
    assert asked(redact=["email", "phone"]) == asked(redact=["phone", "email"])
