"""What a parser does to its process costs the page or the document that made it do so."""

from schemas.limits import Limits
from tests.workers import faulty
from tests.workers.counted import Counted
from tests.workers.test_expander import STORAGE, TASKS, check, documents, pdf, photo, rows
from workers.expand import ExpandOptions
from workers.expander import Expand


def unlucky(monkeypatch, meter=None, **limits):
    monkeypatch.setattr("workers.expander.expand", faulty.unlucky_expand)
    return Expand(STORAGE, ExpandOptions(image_size=64), Limits(**limits), TASKS, meter)


def test_a_page_that_crashes_costs_that_page(tmp_path, monkeypatch):
    texts = [f"page {number}" for number in range(20)]
    texts[10] = "CRASH"
    counted = Counted()
    stage = unlucky(monkeypatch, counted)
    found = rows(stage, documents(pdf(tmp_path / "a.pdf", texts), photo(tmp_path / "b.png")))
    stage.close()
    check(found)
    assert [row["part_index"] for row in found] == [*range(20), 0]
    bad = found[10]
    assert (bad["status"], bad["settled"], bad["error"]["category"]) == ("error", 2, "parser_crash")
    assert "SIGSEGV" in bad["error"]["message"]
    assert all(row["status"] is None for row in found if row is not bad)
    # With others of its chunk, and alone.
    assert counted.counts == [("expand", {"done": 2, "failed": 0, "parts": 20, "crashes": 2})]


def test_a_page_that_hangs_costs_that_page(tmp_path, monkeypatch):
    stage = unlucky(monkeypatch, expand_seconds=5)
    found = rows(stage, documents(pdf(tmp_path / "a.pdf", ["a", "HANG", "c"])))
    stage.close()
    check(found)
    assert [row["error"] and row["error"]["category"] for row in found] == [None, "parser_timeout", None]


def test_a_document_that_keeps_crashing_is_given_up(tmp_path, monkeypatch):
    texts = ["a", "CRASH", "c", "CRASH", "CRASH", "f", "g", *"hijklmnop"]
    kept = [["0/ocr", "5/ocr", "5/caption", "6/ocr", "6/other"]]
    stage = unlucky(monkeypatch)
    found = rows(stage, documents(pdf(tmp_path / "a.pdf", texts), kept=kept))
    stage.close()
    check(found)
    last = found[-1]
    assert last["part_index"] is None and last["status"] == "error"
    assert "given up from part 5 to 16" in last["error"]["message"]
    assert last["settled"] == 12 * 2 - 3
    already = [(row["part_index"], row["task"]) for row in found if row["status"] == "kept"]
    assert already == [(5, "ocr"), (5, "caption"), (6, "ocr")]


def test_a_document_that_crashes_at_once_is_one_row(tmp_path, monkeypatch):
    stage = unlucky(monkeypatch)
    [row] = rows(stage, documents(pdf(tmp_path / "a.pdf", ["CRASH"])))
    stage.close()
    assert (row["part_index"], row["expected"], row["settled"]) == (0, 2, 2)
