"""Pages and pictures that look alike, of an output made of plain rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ledger import places_in
from pipelines.near import find_near
from schemas.duplicates import DuplicateOptions
from schemas.storage import StorageOptions
from tests.pipelines.outputs import answer, write


def test_pictures_of_earlier_versions_are_nobodys(tmp_path: Path) -> None:
    output = tmp_path.as_uri()
    replaced = answer("a.png", "ocr", "said", picture_hash=7)
    for rows in (
        [answer("a.png", "ocr", "said", version="v2", picture_hash=-1)],
        [answer(name, "translate", "said", picture_hash=7) for name in ("b.png", "c.png", "d.png")],
        [answer(name, "classify", "said", picture_hash=7) for name in ("b.png", "c.png", "d.png")],
    ):
        write(output, rows)
    # Not swept yet: its row in documents/ is of the second version.
    documents = {path: path.read_bytes() for path in (tmp_path / "documents").iterdir()}
    write(output, [replaced])
    for path, content in documents.items():
        path.write_bytes(content)
    found = find_near(output, StorageOptions(), DuplicateOptions(images=0))
    images = found.filter(pc.equal(found["kind"], "image"))
    assert [uri.rpartition("/")[2] for uri in images["uri"].to_pylist()] == ["b.png", "c.png", "d.png"]


@given(
    st.lists(st.text(max_size=3)),
    st.sets(st.text(max_size=3)),
    st.sampled_from([pa.string(), pa.large_string()]),
)
def test_a_name_is_found_in_a_sorted_list_where_it_is(
    names: list[str], known: set[str], kind: pa.DataType
) -> None:
    ordered = pa.array(sorted(known, key=str.encode), kind)
    assert ordered.equals(pa.array(sorted(known), kind).sort())
    places = places_in(pa.chunked_array([names], pa.string()), ordered).to_pylist()
    assert places == [ordered.to_pylist().index(name) if name in known else None for name in names]
