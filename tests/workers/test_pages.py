"""How a page is shown: drawn, or by its text layer where the job says so and the text can be trusted."""

from __future__ import annotations

import io
from pathlib import Path

import pymupdf
import pytest
from PIL import Image

from schemas.errors import LimitExceeded, NoText
from schemas.limits import Limits
from schemas.rows import Pages
from workers.expand import ExpandOptions, Part
from workers.expand.pdf import PdfExpander
from workers.text_layer import FEWEST, is_trustworthy

PROSE = "The tenant pays the rent on the first day of each month, in advance and without deduction."


def page_of(tmp_path: Path, text: str, *, scan: bool = False, pages: Pages, room: int = 5_000) -> Part:
    path = tmp_path / "page.pdf"
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        if scan:
            body = io.BytesIO()
            Image.new("RGB", (300, 420), "grey").save(body, "PNG")
            page.insert_image(page.rect, stream=body.getvalue())
        page.insert_textbox((40, 40, 555, 800), text, fontsize=12)
        document.save(path)
    options = ExpandOptions(pages=pages, text_characters=room)
    opened = PdfExpander().open(path, tmp_path, options, Limits())
    (part,) = PdfExpander().parts(path, tmp_path, opened, 0, 1, options, Limits())
    return part


@pytest.mark.parametrize(
    ("text", "scan", "pages", "drawn"),
    [
        (PROSE, False, Pages.IMAGE, True),
        (PROSE, False, Pages.AUTO, False),
        (PROSE, False, Pages.TEXT, False),
        ("page 3", False, Pages.AUTO, True),
        ("page 3", False, Pages.TEXT, False),
        (PROSE, True, Pages.AUTO, True),
        (PROSE, True, Pages.TEXT, False),
        ("", False, Pages.AUTO, True),
    ],
)
def test_a_page_is_drawn_or_not(tmp_path: Path, text: str, scan: bool, pages: Pages, drawn: bool) -> None:
    part = page_of(tmp_path, text, scan=scan, pages=pages)
    assert part.error is None and bool(part.content) is drawn
    assert " ".join((part.text or "").split()) == text, "its text is there either way"


def test_a_page_that_has_to_be_text_and_is_none_says_so(tmp_path: Path) -> None:
    error = page_of(tmp_path, "", scan=True, pages=Pages.TEXT).error
    assert isinstance(error, NoText) and "expand.pages" in error.message


def test_more_text_than_the_model_takes_is_drawn_or_refused_and_never_cut(tmp_path: Path) -> None:
    assert page_of(tmp_path, PROSE * 20, pages=Pages.AUTO, room=500).content
    error = page_of(tmp_path, PROSE * 20, pages=Pages.TEXT, room=500).error
    assert isinstance(error, LimitExceeded) and "engine.max_model_len" in error.message


@pytest.mark.parametrize(
    ("text", "pictured", "trusted"),
    [
        (PROSE, 0.0, True),
        ("契約書" * FEWEST, 0.0, True),
        (PROSE, 0.9, False),
        ("x" * (FEWEST - 1), 0.0, False),
        (PROSE + "\ufffd" * 5, 0.0, False),
        ("\ue012\ue034" * FEWEST, 0.0, False),
    ],
)
def test_which_text_is_trusted(text: str, pictured: float, trusted: bool) -> None:
    assert is_trustworthy(text, pictured) is trusted
