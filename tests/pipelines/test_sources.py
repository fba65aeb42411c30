"""Documents by listing: what is wanted, in bounded memory, with ids that do not move."""

from __future__ import annotations

import itertools
import pickle
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from pipelines.sources import SOURCES, open_source
from pipelines.sources.listing import Globs
from schemas.errors import AccessDenied, JobError, ObjectMissing
from schemas.ids import document_id
from schemas.rows import DOCUMENTS
from schemas.storage import StorageOptions
from tests.workers.places import Place, place
from workers.registry import resolve
from workers.storage import ObjectInfo
from workers.storage.factory import join

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipelines.sources import Source

__all__ = ["place"]


def uris(source: Source) -> list[str]:
    """All the documents' addresses."""
    return [uri for table in source.documents() for uri in table["uri"].to_pylist()]


def test_every_registry_line_resolves() -> None:
    for kind in SOURCES:
        assert hasattr(resolve(SOURCES, kind, "source"), "documents")


def test_a_listed_document_has_its_facts(place: Place) -> None:
    uri = place.put("in/a b#1.pdf", b"12345")
    source = open_source([join(place.root, "in")], place.options)
    [table] = source.documents()
    assert table.schema == DOCUMENTS
    info = place.storage.info(uri)
    [row] = table.to_pylist()
    assert row == {
        "document_id": document_id(uri),
        "uri": uri,
        "version": info.version,
        "size": 5,
        "modified": info.modified,
        "lane": None,
        "address": None,
    }
    assert source.attributes is None
    assert source.duplicates == 0


def test_globs_choose_below_each_prefix(place: Place) -> None:
    for name in ("a/x.pdf", "a/deep/y.pdf", "a/y.PDF", "a/drafts/z.pdf", "b/x.pdf", "b/x.png"):
        place.put(name)
    prefixes = [join(place.root, "a"), join(place.root, "b")]
    source = open_source(prefixes, place.options, include=["*.pdf", "/x.png"], exclude=["drafts/"])
    found = [uri.removeprefix(place.root + "/") for uri in uris(source)]
    assert sorted(found) == ["a/deep/y.pdf", "a/x.pdf", "b/x.pdf", "b/x.png"]


def test_a_prefix_that_is_an_object_is_that_document(place: Place) -> None:
    uri = place.put("in/only.pdf")
    place.put("in/only.pdf.bak")
    assert uris(open_source([uri], place.options)) == [uri]
    assert uris(open_source([uri], place.options, include=["*.pdf"])) == [uri]
    assert uris(open_source([uri], place.options, include=["*.png"])) == []


def test_the_limit_counts_what_is_wanted(place: Place) -> None:
    for number in range(8):
        place.put(f"{number}.{'pdf' if number % 2 else 'txt'}")
    source = open_source([place.root], place.options, include=["*.pdf"], limit=3, rows=2)
    assert [table.num_rows for table in source.documents()] == [2, 1]
    assert len(uris(source)) == 3  # and again from the start


def test_a_source_travels_to_where_it_is_read(place: Place) -> None:
    uri = place.put("a.pdf")
    source = open_source([place.root], place.options, include=["*.pdf"])
    assert uris(pickle.loads(pickle.dumps(source))) == [uri]


def test_a_folder_that_is_not_there_is_missing_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    assert uris(open_source([str(tmp_path)], StorageOptions())) == []
    with pytest.raises(ObjectMissing):
        uris(open_source([str(tmp_path / "nowhere")], StorageOptions()))


def test_what_lies_in_the_output_is_none_of_the_documents_and_none_of_the_limits(tmp_path: Path) -> None:
    for name in ("a-out/_runs/job.yaml", "a-out/records/part-1.parquet", "a-out.pdf", "b.pdf", "c.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    output = str(tmp_path / "a-out")
    found = uris(open_source([str(tmp_path)], StorageOptions(), limit=2, output=output))
    assert [uri.rpartition("/")[2] for uri in found] == ["a-out.pdf", "b.pdf"]


def test_the_same_prefix_twice_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("a")
    monkeypatch.chdir(tmp_path)
    assert len(uris(open_source([".", str(tmp_path), f"file://{tmp_path}/"], StorageOptions()))) == 1


@pytest.mark.parametrize(
    "inputs", [["s3://lake/a", "s3://lake/a/b"], ["s3://lake/a/b/c", "s3://lake"], ["/", "x"]]
)
def test_prefixes_inside_one_another_are_refused(inputs: list[str]) -> None:
    with pytest.raises(JobError, match="lies inside input"):
        open_source(inputs, StorageOptions())


def test_neighbours_with_a_common_start_are_not_inside_one_another() -> None:
    open_source(["s3://lake/scans", "s3://lake/scans-old"], StorageOptions())


@pytest.mark.parametrize(("inputs", "manifest"), [([], None), (["s3://lake/a"], "s3://lake/list.txt")])
def test_a_job_reads_one_of_input_and_manifest(inputs: list[str], manifest: str | None) -> None:
    with pytest.raises(JobError, match="input, manifest or table"):
        open_source(inputs, StorageOptions(), manifest=manifest)


def test_an_unknown_scheme_is_refused_before_anything_is_listed() -> None:
    with pytest.raises(JobError, match="'gs'"):
        open_source(["gs://lake/a"], StorageOptions())


@pytest.mark.parametrize(
    ("include", "exclude", "wanted", "unwanted"),
    [
        ([], [], ["a", "b/c"], []),
        (["*.pdf"], [], ["a.pdf", "b/c/d.pdf"], ["a.PDF", "a.pdf.txt", "pdf"]),
        (["/*.pdf"], [], ["a.pdf"], ["b/a.pdf"]),
        (["b/**/d.pdf"], [], ["b/d.pdf", "b/c/c/d.pdf"], ["d.pdf", "x/b/d.pdf"]),
        (["[ab].png", "?.tif"], [], ["a.png", "x.tif"], ["c.png", "xx.tif"]),
        (["*.pdf", "!secret*"], [], ["a.pdf"], ["secret.pdf"]),
        ([], ["*.tmp", "cache/"], ["a.pdf", "cache"], ["b/a.tmp", "cache/a.pdf", "b/cache/a.pdf"]),
        (["*.pdf"], ["old"], ["a.pdf", "older/a.pdf"], ["old/a.pdf"]),
        (["*.pdf"], ["old/"], ["a\nb/c.pdf", "a\nb/c\nd/e.pdf"], ["a\nb/old/c.pdf", "a\nb/c.png"]),
        ([r"\#1.pdf", "a b.pdf", "ü*.pdf"], [], ["#1.pdf", "a b.pdf", "über.pdf"], ["1.pdf"]),
    ],
)
def test_globs(include: list[str], exclude: list[str], wanted: list[str], unwanted: list[str]) -> None:
    globs = Globs(include, exclude)
    assert [path for path in wanted + unwanted if globs.wants(path)] == wanted


@pytest.mark.parametrize("glob", ["", "# a comment", "/", "[", "!", "*.{pdf,png}"])
def test_a_glob_that_would_match_nothing_is_refused(glob: str) -> None:
    with pytest.raises(JobError, match="exclude"):
        Globs([], [glob])


class Endless:
    """A prefix of as many keys as are asked for."""

    def __init__(self) -> None:
        self.listed = 0

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        """Keys of a usual length, each made when it is asked for."""
        for number in itertools.count():
            self.listed += 1
            yield ObjectInfo(f"{uri}/some/folder/document-{number:012d}.pdf", "0123456789abcdef" * 2, 1000)


def test_a_listing_is_no_further_than_its_reader() -> None:
    source = open_source(["s3://lake/big"], StorageOptions(), include=["*.pdf"])
    source._storages = [endless := Endless()]  # type: ignore[attr-defined]
    tables = source.documents()
    assert endless.listed == 0
    next(tables)
    assert endless.listed == 1000
    next(tables)
    assert endless.listed == 2000


def test_memory_stays_flat_however_many_keys_there_are() -> None:
    """Traced: 60,000 documents take what 10,000 took, so ten million do."""
    source = open_source(["s3://lake/big"], StorageOptions(), include=["*.pdf"])
    source._storages = [Endless()]  # type: ignore[attr-defined]
    tables = source.documents()
    tracemalloc.start()
    try:
        peaks: list[int] = []
        for _ in range(2):
            tracemalloc.reset_peak()
            for table in itertools.islice(tables, 10 if not peaks else 50):
                assert table.num_rows == 1000
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.1
    assert peaks[1] < 5_000_000


def test_what_stops_a_listing_is_not_its_end() -> None:
    class Denied(Endless):
        def list(self, uri: str) -> Iterator[ObjectInfo]:
            yield from itertools.islice(super().list(uri), 3)
            raise AccessDenied("the rest may not be listed")

    source = open_source(["s3://lake/big"], StorageOptions(), rows=2)
    source._storages = [Denied()]  # type: ignore[attr-defined]
    with pytest.raises(AccessDenied):
        list(source.documents())
