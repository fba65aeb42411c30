"""What a job says of a table."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import JobError
from schemas.job import make_job


def job(**settings: Any) -> None:
    make_job({"output": "/tmp/out", "tasks": ["ocr"], **settings})


@pytest.mark.parametrize(
    ("catalog", "variable"),
    [
        ({"uri": "https://me:word@host/"}, "PYICEBERG_CATALOG__DEFAULT__URI"),
        ({"uri": "postgresql://host/db?user=me&password=word"}, "PYICEBERG_CATALOG__DEFAULT__URI"),
        (
            {"adls.connection-string": "AccountKey=word"},
            "PYICEBERG_CATALOG__DEFAULT__ADLS__CONNECTION_STRING",
        ),
        ({"header.Cookie": "word"}, "PYICEBERG_CATALOG__DEFAULT__HEADER__COOKIE"),
        ({"name": "lake", "credential": "id:word"}, "PYICEBERG_CATALOG__LAKE__CREDENTIAL"),
        ({"s3.secret-access-key": "word"}, "PYICEBERG_CATALOG__DEFAULT__S3__SECRET_ACCESS_KEY"),
    ],
)
def test_a_secret_of_a_catalog_is_no_part_of_a_job(catalog: dict[str, str], variable: str) -> None:
    with pytest.raises(JobError, match=variable) as refused:
        job(table={"uri": "a.b", "catalog": catalog})
    assert "word" not in str(refused.value)
    with pytest.raises(JobError, match=variable):
        job(input="/tmp/in", sink={"kind": "iceberg", "tables": "a", "catalog": catalog})


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            {"uri": "s3://a/t", "uri_column": "u", "bytes_column": "b", "key": "id"},
            "either in bytes_column or",
        ),
        ({"uri": "s3://a/t", "bytes_column": "b"}, "known by their key"),
        ({"uri": "s3://a/t", "format": "hudi"}, "format"),
    ],
)
def test_what_makes_no_sense_is_told(table: dict[str, Any], told: str) -> None:
    with pytest.raises(JobError, match=told):
        job(table=table)


def test_iceberg_has_to_be_told_a_namespace() -> None:
    with pytest.raises(JobError, match="sink.tables"):
        job(input="/tmp/in", sink={"kind": "iceberg"})


def test_a_job_has_one_source() -> None:
    with pytest.raises(JobError, match="one of them"):
        job(input="/tmp/in", table={"uri": "s3://a/t"})
