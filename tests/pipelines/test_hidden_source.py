"""Names that a job hides are hashed where documents are listed, by a key that goes no further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.incremental import resume
from pipelines.lake.into import into_of
from pipelines.plan import make_plan
from pipelines.runner import source_of
from pipelines.sources.hidden import hidden_source
from pipelines.sources.prefix import PrefixSource
from schemas.errors import JobError
from schemas.ids import document_id
from schemas.job import JobSpec
from schemas.privacy import PrivacyOptions
from schemas.rows import DOCUMENTS, with_attributes
from schemas.storage import StorageOptions
from schemas.tables import TableFormat, TableOptions
from workers.fetch import Document
from workers.part_rows import unnamed

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


@pytest.mark.parametrize(
    ("place", "message", "told"),
    [
        (
            "s3://lake/in/anna b.pdf",
            "GET /lake/in/anna%20b.pdf: s3://lake/in/anna b.pdf is gone",
            "GET /{}: {} is gone",
        ),
        ("/in/anna.pdf", "/in/anna.pdf: anna.pdf, not banana.pdf", "{}: {}, not banana.pdf"),
        ("file://C:\\in\\Anna's.pdf", r""" "file://C:\\in\\Anna's.pdf" is not absolute""", ' "{}" is not'),
        ("s3:///Anna\t'\"", repr("s3:///Anna\t'\"") + " names no bucket", "'{}' names no"),
        (
            "file:///in/Anna\0's.pdf",
            repr("file:///in/Anna\0's.pdf") + " is no name a file can have",
            '"{}" is no name',
        ),
        (
            "row://refused?why=row+3%3A+Anna",
            "row 3 of t: another row has its key, name=Anna",
            "a row that is no",
        ),
    ],
)
def test_messages_name_nothing(place: str, message: str, told: str) -> None:
    name = "hmac:" + "0" * 32
    document = Document(0, "id", name, "v1", 3, address=place)
    shown = unnamed({"error": {"message": message}}, document)["error"]["message"]
    assert shown.startswith(told.replace("{}", name)) and "Anna" not in shown
    plain = Document(0, "id", "s3://lake/t#name=Anna", "v1", 3, address=place)
    assert unnamed({"error": {"message": message}}, plain)["error"]["message"] == message


def test_a_key_that_is_hidden_is_not_shown_by_names() -> None:
    options = PrivacyOptions(hash_columns=("customer",), key_env=KEY)
    with pytest.raises(JobError, match="set privacy.hash_uris as well"):
        hidden_source(PrefixSource([], StorageOptions()), options, TableOptions(uri="t", key=("customer",)))
    with pytest.raises(JobError, match="set privacy.hash_uris as well"):
        hidden_source(
            PrefixSource([], StorageOptions()), options, TableOptions(uri="t", uri_column="customer")
        )


def test_of_a_table_only_what_came_since_is_read(tmp_path: Path, hiding: Callable[..., JobSpec]) -> None:
    rows = pa.table({"uri": [f"{tmp_path}/anna.pdf"], "customer": ["Anna Blyth"]})
    deltalake.write_deltalake(str(tmp_path / "table"), rows)
    job = hiding(hash_columns=["customer"]).model_copy(
        update={
            "manifest": None,
            "table": TableOptions(uri=str(tmp_path / "table"), format=TableFormat.DELTA),
        }
    )
    source = source_of(job)
    pinned = resume(make_plan(job, source.attributes, 0.0), source)
    assert pinned is not None and pinned["version"] == "0"
    [listed] = source.documents()
    assert listed["attributes"].to_pylist()[0]["customer"].startswith("hmac:")


@pytest.fixture
def hiding_table(tmp_path: Path, hiding: Callable[..., JobSpec]) -> Callable[..., JobSpec]:
    """The same documents in a table, with lists of words besides."""
    columns = [list(each) for each in zip(*RESIDENTS, strict=True)]
    columns[0] = [f"{tmp_path}/{name}" for name in columns[0]]
    rows = pa.table([*columns, [[who] for who in columns[1]]], ["at", "customer", "page", "words"])
    pq.write_table(rows, tmp_path / "rows.parquet")

    def job(options: dict[str, object], **privacy: object) -> JobSpec:
        told = {"uri": f"{tmp_path}/rows.parquet", "uri_column": "at", **options}
        update = {"manifest": None, "table": TableOptions.model_validate(told)}
        return hiding(**privacy).model_copy(update=update)

    return job


@pytest.mark.parametrize("key", [(), ("page",)])
def test_no_column_of_a_table_shows_an_address_that_is_hidden(
    hiding_table: Callable[..., JobSpec], key: tuple[str, ...]
) -> None:
    source = source_of(hiding_table({"key": key}, hash_uris=True, hash_columns=["customer"]))
    [listed] = source.documents()
    assert listed["attributes"].type == source.attributes
    shown = str(listed.drop_columns("address").drop_columns("attributes").to_pylist())
    shown += str([{**row, "words": None} for row in listed["attributes"].to_pylist()])
    assert not any(name in shown or who in shown for name, who, _ in RESIDENTS)


def test_only_single_values_are_hashed(hiding_table: Callable[..., JobSpec]) -> None:
    with pytest.raises(JobError, match="'words' is list"):
        source_of(hiding_table({}, hash_columns=["words"]))
    source = source_of(hiding_table({"columns": ["customer"]}, hash_uris=True))
    [listed] = source.documents()
    assert listed["attributes"].to_pylist()[0] == {"customer": "Anna Blyth"}


def test_a_table_beside_does_not_go_by_addresses_that_are_hidden(
    hiding_table: Callable[..., JobSpec], tmp_path: Path
) -> None:
    options = {"key": ["at"], "into": f"{tmp_path}/beside"}
    job = hiding_table(options, hash_uris=True)
    with pytest.raises(JobError, match="privacy.hash_uris hides its column 'at'"):
        into_of(make_plan(job, source_of(job).attributes, 0.0))
    job = hiding_table(options)
    assert into_of(make_plan(job, source_of(job).attributes, 0.0)) is not None
