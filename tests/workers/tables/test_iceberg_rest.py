"""An Iceberg table whose catalog is a service: SeaweedFS' own, over HTTP, with a token for its keys."""

from __future__ import annotations

import pytest

from deploy.demo.objectstore import object_store
from deploy.demo.ports import free_ports
from schemas.storage import StorageOptions
from schemas.tables import Place, TableFormat
from tests.workers.tables.lakes import SCHEMA, Lake, some


# The catalog has its own ideas of a token's life: on a busy machine it once refused one of a few seconds.
@pytest.mark.thorough
def test_a_table_of_a_rest_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    [port] = free_ports(1)
    catalog = f"http://127.0.0.1:{port}"
    with object_store(options=[f"-s3.port.iceberg={port}", "-tableBucket=warehouse"]) as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        with Session() as session:
            session.mount(
                catalog, HTTPAdapter(max_retries=Retry(10, status_forcelist=[404, 503], backoff_factor=0.1))
            )
            assert session.get(f"{catalog}/v1/config?warehouse=s3://warehouse").ok
        monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__CREDENTIAL", f"{store.access_key}:{store.secret_key}")
        told = {
            "type": "rest",
            "uri": catalog,
            "warehouse": "s3://warehouse",
            "oauth2-server-uri": f"{catalog}/v1/oauth/tokens",
        }
        place = Place(format=TableFormat.ICEBERG, uri="lake.rows", catalog=told)
        lake = Lake(place, StorageOptions(endpoint_url=store.endpoint), "s3://warehouse/lake/rows")

        assert lake.table.snapshot() is None
        lake.table.create(SCHEMA, {})
        assert lake.commit([lake.stage(some(1, 2)), lake.stage(some(3))])
        first = lake.newest
        assert lake.commit(
            [lake.stage(some(2))], [file for file in first.files() if file.rows == 2], key="second"
        )
        lake.stage(some(9), "dead")

        assert lake.keys() == [2, 3]
        assert lake.keys(first) == [1, 2, 3]
        assert lake.table.committed("second")
        assert lake.table.discard("dead") == 1
