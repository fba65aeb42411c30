"""Tiles on the real engine: a long page costs the tokens that its record tells of, and others do not."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import pymupdf
import pytest

from deploy.demo.pages import draw_page, make_page
from schemas.job import JobSpec
from tests.fixtures.runs import GEMMA3, RunJob


@pytest.mark.thorough
def test_a_tiled_page_costs_its_tiles_and_others_nothing(run_job: RunJob, tmp_path: Path) -> None:
    documents = tmp_path / "in"
    documents.mkdir()
    draw_page(make_page(random.Random(1), "invoice")).save(documents / "slip.png")
    with pymupdf.open() as document:
        page = document.new_page(width=226, height=678)
        page.insert_textbox(page.rect + (9, 9, -9, -9), "Milk 1.09 Bread 2.49 Eggs 3.19 " * 12, fontsize=12)
        document.save(documents / "receipt.pdf")
    report = run_job(
        JobSpec(
            input=[str(documents)],
            output=str(tmp_path / "out"),
            tasks=[{"task": "ocr", "max_tokens": 16}, {"task": "caption", "max_tokens": 16}],
            models={"vision": str(GEMMA3)},
            engine={"max_num_seqs": 4, "max_model_len": 2048, "confidence": False},
            expand={"tiling": "auto"},
            limits={"failed_share": 1.0},
        )
    )
    assert report.counts.unaccounted == 0
    files = f"{tmp_path}/out/records/**/*.parquet"
    asked = duckdb.sql(
        f"SELECT uri LIKE '%.pdf', task, tiles, prompt_tokens FROM read_parquet('{files}')"
    ).fetchall()
    assert duckdb.sql(f"SELECT count(confidence), count(text) > 0 FROM '{files}'").fetchone() == (0, True)
    tokens = {(long, task): count for long, task, _, count in asked}
    assert {(long, tiles) for long, _, tiles, _ in asked} == {(True, 3), (False, None)}
    for task in ("ocr", "caption"):
        # Of the square of a whole the tokens are 144; the rest are words, which the question has as well.
        more = tokens[True, task] - tokens[False, task]
        assert 144 * 3 <= more <= 144 * 3 + 120
